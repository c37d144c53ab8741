//! What the finaliser does with one hint.

use std::sync::Arc;

use bus::{Job, Outcome};
use contract::{Expectation, Named, ProblemKind};
use ledger::{ClaimRequest, ClaimedFile, LedgerError, Problem};
use runtime::work::{Attempt, Ended, Failure, Holding};

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
    let attempt = match Attempt::begin(service, service.ledger.claim_delivering(&request).await) {
        Ok(attempt) => attempt,
        Err(outcome) => return outcome,
    };
    fail::fail_point!("finaliser-after-claim", |_| std::process::abort());
    if let Some(failure) = attempt.exhausted("deliver it") {
        return attempt.fail(failure).await;
    }
    let held = &attempt.held;
    let (delivery, expectation) = match accepted(&finaliser, held) {
        Ok(accepted) => accepted,
        Err(failure) => return attempt.fail(*failure).await,
    };
    let holding = Holding::start(service, held, &job);
    let delivery = delivery(&holding);
    let content = delivery.content.clone();
    let work = async {
        let _place = finaliser.places.take(&expectation.remote).await;
        delivery.run().await
    };
    let ended = holding.run(service, work).await;
    note(&finaliser, &expectation.remote, &ended);
    match ended {
        Ended::Finished(Ok(done)) => {
            attempt.end(record_delivered(&finaliser, held, &expectation, &content, done).await).await
        }
        Ended::Finished(Err(error)) => attempt.fail(failure(error)).await,
        Ended::Lost => Outcome::Lost,
        Ended::HandBack => attempt.fail(Failure::HandBack).await,
    }
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
    ledger.defer(job.file, places::delay(record.deferrals, rand::random())).await?;
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

/// Judges the record and its expectation, before any connection is opened, and makes the delivery ready.
fn accepted<'a>(
    finaliser: &'a Finaliser,
    held: &'a ClaimedFile,
) -> Result<(impl FnOnce(&Holding) -> Delivery<'a>, Expectation), Box<Failure>> {
    let (service, file) = (&finaliser.service, &held.file);
    let content = Content::of(&service.ledger, file, service.settings.finaliser.prefetch, &finaliser.wide);
    let (Some(expectation), Some(content)) = (file.expectation.clone(), content) else {
        let detail = format!("the record of {} has no expectation or no stored content", file.id);
        let problem = Problem::new(ProblemKind::RecordIncomplete, detail);
        return Err(Box::new(Failure::Final(problem)));
    };
    expectation.judge(content.proven()).map_err(|mismatch| Box::new(Failure::Final(Problem::from(&mismatch))))?;
    let configured = service.settings.remotes.get(&expectation.remote).zip(finaliser.remotes.get(&expectation.remote));
    let Some((settings, remote)) = configured else {
        let detail = format!("the remote {:?} is not configured for this finaliser", expectation.remote);
        let problem = Problem::new(ProblemKind::UnknownRemote, detail);
        return Err(Box::new(Failure::Later { problem, attempts: None, at_least: None }));
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
        .map_err(|error| Box::new(Failure::Final(Problem::new(ProblemKind::Unnameable, error.to_string()))))?;
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
        };
        let upload = file.delivery.as_ref().and_then(|delivery| delivery.upload.clone());
        let log = UploadLog::kept(service.ledger.clone(), held.lease.clone(), upload);
        let may_be_there = file.delivery.as_ref().is_some_and(|delivery| delivery.resumed);
        let on_clash = settings.on_clash();
        Delivery { remote: remote.as_ref(), parcel, log, content, fence, on_clash, may_be_there, heeds_cancel: true }
    };
    Ok((begin, expectation))
}

/// Records the delivery with its receipt and announces it.
async fn record_delivered(
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

/// What a failed delivery means for the file.
fn failure(error: DeliveryError) -> Failure {
    let final_one = |kind, detail| Failure::Final(Problem::new(kind, detail));
    match error {
        DeliveryError::Lost(_) | DeliveryError::Proof(ProofError::Lost(_)) => Failure::Lost,
        DeliveryError::Cancelled | DeliveryError::Proof(ProofError::Cancelled) => Failure::Cancelled,
        DeliveryError::Clash(detail) => final_one(ProblemKind::RemoteClash, detail),
        DeliveryError::Refused(detail) => final_one(ProblemKind::RemoteRefused, detail),
        DeliveryError::Later { detail, after } => {
            let problem = Problem::new(ProblemKind::RemoteUnavailable, detail);
            Failure::Later { problem, attempts: None, at_least: after }
        }
        DeliveryError::Proof(ProofError::Wrong(detail)) => final_one(ProblemKind::ContentWrong, detail),
        DeliveryError::Proof(error @ (ProofError::Ledger(_) | ProofError::Hashing(_))) => {
            Failure::Outage(error.to_string())
        }
    }
}
