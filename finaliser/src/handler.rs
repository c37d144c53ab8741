//! What the finaliser does with one hint.

use std::sync::Arc;
use std::time::Duration;

use contract::{Expectation, Named, ProblemKind};
use ledger::{Claim, ClaimRequest, ClaimedFile, LedgerError, Problem};
use runtime::hold::{self, Ended, Holding};
use runtime::{Job, Outcome, retry};

use crate::deliver::{Delivered, Delivery, DeliveryError};
use crate::prove::{Content, ProofError};
use crate::remote::{Onto, Parcel, UploadLog};
use crate::{Finaliser, places, receipt};

/// Claims the file and delivers it.
pub(crate) async fn handle(finaliser: Arc<Finaliser>, job: Job) -> Outcome {
    let service = &finaliser.service;
    match put_off(&finaliser, &job).await {
        Ok(false) => {}
        Ok(true) => return Outcome::Done,
        Err(error) => return Outcome::Outage(error.to_string()),
    }
    let request = ClaimRequest { file: job.file, worker: &service.worker, lease: service.settings.work.lease() };
    let held = match service.ledger.claim_delivering(&request).await {
        Ok(Claim::Taken(held)) => held,
        Ok(Claim::HeldByAnother { remaining }) => return Outcome::Held(remaining),
        Ok(Claim::NothingToDo) => return Outcome::Done,
        Err(error) => return Outcome::Outage(error.to_string()),
    };
    fail::fail_point!("finaliser-after-claim", |_| std::process::abort());
    service.announcer.announce(&held.file, None);
    let settlement = match accepted(&finaliser, &held) {
        Err(NotBegun::GivenUp(problem)) => give_up(&finaliser, &held, *problem).await,
        Err(NotBegun::NoRemote(problem)) => again(&finaliser, &held, *problem, None).await,
        Ok((delivery, expectation)) => {
            let holding = Holding::start(service, &held, &job);
            let delivery = delivery(&holding);
            let content = delivery.content.clone();
            let work = async {
                let _place = finaliser.places.take(&expectation.remote).await;
                delivery.run().await
            };
            let ended = holding.run(service, work).await;
            note(&finaliser, &expectation.remote, &ended);
            match ended {
                Ended::Lost => return Outcome::Lost,
                Ended::HandBack => return hold::hand_back(service, &held.lease).await,
                Ended::Finished(Ok(done)) => delivered(&finaliser, &held, &expectation, &content, done).await,
                Ended::Finished(Err(error)) => undelivered(&finaliser, &held, error).await,
            }
        }
    };
    hold::settled(service, &held.lease, settlement).await
}

/// Puts the delivery off, unclaimed, if its remote has enough to do: the slot is for others then.
async fn put_off(finaliser: &Finaliser, job: &Job) -> Result<bool, LedgerError> {
    if !finaliser.places.are_short() {
        return Ok(false);
    }
    let ledger = &finaliser.service.ledger;
    let Some(record) = ledger.file(job.file).await? else { return Ok(false) };
    let Some(expectation) = record.expectation.as_ref().filter(|_| !record.state.is_terminal()) else {
        return Ok(false);
    };
    if !finaliser.places.must_wait(&expectation.remote).await {
        return Ok(false);
    }
    ledger.defer(job.file, places::delay(record.deferrals, retry::jitter())).await?;
    Ok(true)
}

/// Notes how the remote does. What is no fault of its own tells nothing of it.
fn note(finaliser: &Finaliser, remote: &str, ended: &Ended<Result<Delivered, DeliveryError>>) {
    match ended {
        Ended::Finished(Ok(_) | Err(DeliveryError::Clash(_) | DeliveryError::Refused(_))) => {
            finaliser.places.note(remote, true);
        }
        Ended::Finished(Err(DeliveryError::Later { .. })) => finaliser.places.note(remote, false),
        _ => {}
    }
}

/// Why a delivery was not even begun.
enum NotBegun {
    /// What is recorded is not what is expected, or too many attempts broke off.
    GivenUp(Box<Problem>),
    /// The remote is not configured here.
    NoRemote(Box<Problem>),
}

/// Judges the record and its expectation, before any connection is opened, and makes the delivery ready.
fn accepted<'a>(
    finaliser: &'a Finaliser,
    held: &'a ClaimedFile,
) -> Result<(impl FnOnce(&Holding) -> Delivery<'a>, Expectation), NotBegun> {
    let (service, file) = (&finaliser.service, &held.file);
    let attempts = file.attempts.delivering;
    if attempts > service.settings.retry.attempts {
        // The attempts before did not even come to say why: each ended with its worker.
        let detail = format!("{} attempts to deliver it were begun and none came to an end", attempts - 1);
        let problem = Problem::new(ProblemKind::TooManyAttempts, detail);
        return Err(NotBegun::GivenUp(problem.into()));
    }
    let content = Content::of(&service.ledger, file, service.settings.finaliser.prefetch, &finaliser.wide);
    let (Some(expectation), Some(content)) = (file.expectation.clone(), content) else {
        let detail = format!("the record of {} has no expectation or no stored content", file.id);
        let problem = Problem::new(ProblemKind::RecordIncomplete, detail);
        return Err(NotBegun::GivenUp(problem.into()));
    };
    expectation.judge(content.proven()).map_err(|mismatch| NotBegun::GivenUp(Problem::from(&mismatch).into()))?;
    let configured = service.settings.remotes.get(&expectation.remote).zip(finaliser.remotes.get(&expectation.remote));
    let Some((settings, remote)) = configured else {
        let detail = format!("the remote {:?} is not configured for this finaliser", expectation.remote);
        let problem = Problem::new(ProblemKind::UnknownRemote, detail);
        return Err(NotBegun::NoRemote(problem.into()));
    };
    let named = Named {
        name: &expectation.name,
        file_id: file.id,
        sha256: content.proven().sha256,
        // Not of this attempt: every attempt must come to the same name.
        at: file.delivery.as_ref().map_or(file.created_at, |delivery| delivery.begun_at),
        metadata: &file.metadata,
    };
    let object = settings
        .name()
        .render(&named)
        .map_err(|error| NotBegun::GivenUp(Problem::new(ProblemKind::Unnameable, error.to_string()).into()))?;
    let begin = move |holding: &Holding| {
        let fence = holding.fence().clone();
        let still_ours = fence.clone();
        let parcel = Parcel {
            file_id: file.id,
            epoch: file.epoch,
            object,
            onto: Onto::Nothing,
            size: content.proven().split.size(),
            sha256: content.proven().sha256,
            still_ours: Box::new(move || still_ours.check().is_ok()),
            sent_on: Vec::new(),
            upload: UploadLog::kept(
                service.ledger.clone(),
                held.lease.clone(),
                file.delivery.as_ref().and_then(|delivery| delivery.upload.clone()),
            ),
        };
        let may_be_there = file.delivery.as_ref().is_some_and(|delivery| delivery.resumed);
        let on_clash = settings.on_clash();
        Delivery { remote: remote.as_ref(), parcel, content, fence, on_clash, may_be_there, heeds_cancel: true }
    };
    Ok((begin, expectation))
}

async fn delivered(
    finaliser: &Finaliser,
    held: &ClaimedFile,
    expectation: &Expectation,
    content: &Content,
    done: Delivered,
) -> Result<Outcome, LedgerError> {
    let service = &finaliser.service;
    let receipt = receipt::written(finaliser, held, expectation, content, done);
    let Some(record) = service.ledger.record_delivered(&held.lease, &receipt).await? else { return Ok(Outcome::Lost) };
    fail::fail_point!("finaliser-after-delivered", |_| std::process::abort());
    service.announcer.announce(&record, None);
    Ok(Outcome::Done)
}

/// Commits what a failed attempt means for the file, before the hint is answered.
async fn undelivered(finaliser: &Finaliser, held: &ClaimedFile, error: DeliveryError) -> Result<Outcome, LedgerError> {
    match error {
        DeliveryError::Lost(_) | DeliveryError::Proof(ProofError::Lost(_)) => Ok(Outcome::Lost),
        DeliveryError::Cancelled | DeliveryError::Proof(ProofError::Cancelled) => {
            let cancelled = finaliser.service.ledger.record_cancelled(&held.lease).await?;
            let Some(record) = cancelled else { return Ok(Outcome::Lost) };
            tracing::info!(file = %held.file.id, "cancelled; the remote does not have it");
            finaliser.service.announcer.announce(&record, None);
            Ok(Outcome::Done)
        }
        DeliveryError::Clash(detail) => {
            let problem = Problem::new(ProblemKind::RemoteClash, detail);
            give_up(finaliser, held, problem).await
        }
        DeliveryError::Refused(detail) => {
            give_up(finaliser, held, Problem::new(ProblemKind::RemoteRefused, detail)).await
        }
        DeliveryError::Later { detail, after } => {
            let problem = Problem::new(ProblemKind::RemoteUnavailable, detail);
            again(finaliser, held, problem, after).await
        }
        DeliveryError::Proof(ProofError::Wrong(detail)) => {
            let problem = Problem::new(ProblemKind::ContentWrong, detail);
            give_up(finaliser, held, problem).await
        }
        DeliveryError::Proof(error @ (ProofError::Ledger(_) | ProofError::Hashing(_))) => {
            Ok(match hold::hand_back(&finaliser.service, &held.lease).await {
                Outcome::HandedBack => Outcome::Outage(error.to_string()),
                other => other,
            })
        }
    }
}

async fn again(
    finaliser: &Finaliser,
    held: &ClaimedFile,
    problem: Problem,
    at_least: Option<Duration>,
) -> Result<Outcome, LedgerError> {
    let service = &finaliser.service;
    let attempt = held.file.attempts.delivering;
    let queued = held.file.queued_at.unwrap_or(held.file.created_at);
    if retry::is_last(&service.settings.retry, attempt, queued, held.lease.now()) {
        return give_up(finaliser, held, problem).await;
    }
    let delay = retry::delay(&service.settings.retry, attempt, retry::jitter(), at_least);
    tracing::warn!(file = %held.file.id, attempt, ?delay, "{}; trying again later", problem.detail);
    let record = service.ledger.record_retry(&held.lease, &problem, delay).await?;
    fail::fail_point!("retry-after-commit", |_| std::process::abort());
    Ok(record.map_or(Outcome::Lost, |_| Outcome::Done))
}

async fn give_up(finaliser: &Finaliser, held: &ClaimedFile, problem: Problem) -> Result<Outcome, LedgerError> {
    tracing::error!(file = %held.file.id, kind = problem.uri, "given up: {}", problem.detail);
    let Some(record) = finaliser.service.ledger.record_failed(&held.lease, &problem).await? else {
        return Ok(Outcome::Lost);
    };
    finaliser.service.announcer.announce(&record, None);
    Ok(Outcome::Done)
}
