//! What the finaliser does with one hint.

use std::sync::Arc;

use bus::{Job, Outcome};
use contract::ProblemKind;
use ledger::{ClaimRequest, LedgerError, Problem};
use runtime::work::{Attempt, Ended, Failure, Holding};

use crate::concurrency::{self, ConcurrencyLimit, PATIENCE};
use crate::deliver::{Delivered, Delivery, DeliveryError};
use crate::plan::Plan;
use crate::prove::ProofError;
use crate::{Finaliser, receipt};

/// Claims the file and delivers it.
pub(crate) async fn handle(finaliser: Arc<Finaliser>, job: Job) -> Outcome {
    let service = &finaliser.service;
    match defer(&finaliser, &job).await {
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
    let plan = match Plan::of(&finaliser, &attempt.held) {
        Ok(plan) => plan,
        Err(failure) => return attempt.fail(*failure).await,
    };
    let holding = Holding::start(service, &attempt.held, &job);
    let limit = &plan.destination.limit;
    let fence = holding.fence().clone();
    let work = async {
        // The consumer's slot is taken meanwhile: a file that would wait longer makes room for others.
        let Ok(_running) = tokio::time::timeout(PATIENCE, limit.acquire()).await else {
            return Err(DeliveryError::Crowded);
        };
        Delivery::new(&plan, &service.ledger, &fence).run().await
    };
    let ended = holding.run(service, work).await;
    note(limit, &ended);
    match ended {
        Ended::Finished(Ok(delivered)) => attempt.end(record(&finaliser, &plan, delivered).await).await,
        Ended::Finished(Err(DeliveryError::Crowded)) => put_off(&finaliser, attempt).await,
        Ended::Finished(Err(error)) => attempt.fail(failure(error)).await,
        Ended::Lost => Outcome::Lost,
        Ended::HandBack => attempt.fail(Failure::HandBack).await,
    }
}

/// Defers the delivery before it is claimed, if its remote is at its concurrency limit. Then the slot is free for other
/// files.
async fn defer(finaliser: &Finaliser, job: &Job) -> Result<bool, LedgerError> {
    // Only then is it worth reading the record to see which remote the file goes to.
    if !finaliser.remotes.values().any(|destination| destination.limit.is_reached()) {
        return Ok(false);
    }
    let ledger = &finaliser.service.ledger;
    let Some(record) = ledger.file(job.file).await? else { return Ok(false) };
    let expectation = record.expectation.as_ref().filter(|_| !record.state.is_terminal());
    let destination = expectation.and_then(|expectation| finaliser.remotes.get(&expectation.remote));
    let Some(destination) = destination else { return Ok(false) };
    if !destination.limit.must_defer().await {
        return Ok(false);
    }
    ledger.defer(job.file, concurrency::delay(record.deferrals, rand::random())).await?;
    Ok(true)
}

/// Hands back a file that found no place at its remote, and defers it. If we die in between, it is due at once.
async fn put_off(finaliser: &Finaliser, attempt: Attempt<'_>) -> Outcome {
    let file = attempt.held.file.id;
    let handed_back = attempt.fail(Failure::HandBack).await;
    match finaliser.service.ledger.defer(file, concurrency::delay(0, rand::random())).await {
        Ok(()) => Outcome::Done,
        Err(_) => handed_back,
    }
}

/// Notes whether the remote works. An end that the remote did not cause says nothing about the remote.
fn note(limit: &ConcurrencyLimit, ended: &Ended<Result<Delivered, DeliveryError>>) {
    match ended {
        Ended::Finished(Ok(_) | Err(DeliveryError::Conflict(_) | DeliveryError::Refused(_))) => limit.note(true),
        Ended::Finished(Err(DeliveryError::Later { .. })) => limit.note(false),
        _ => {}
    }
}

/// Records the delivery with its receipt and announces it.
async fn record(finaliser: &Finaliser, plan: &Plan<'_>, delivered: Delivered) -> Result<Outcome, LedgerError> {
    let service = &finaliser.service;
    let receipt = receipt::write(plan, delivered, finaliser.signing_key.as_ref());
    let recorded = service.ledger.record_delivered(&plan.claimed.lease, &receipt).await?;
    let Some(record) = recorded else { return Ok(Outcome::Lost) };
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
        DeliveryError::Crowded => Failure::HandBack,
        DeliveryError::Conflict(detail) => final_one(ProblemKind::RemoteClash, detail),
        DeliveryError::Refused(detail) => final_one(ProblemKind::RemoteRefused, detail),
        DeliveryError::Later { detail, after } => {
            let problem = Problem::new(ProblemKind::RemoteUnavailable, detail);
            Failure::Later { problem, attempts: None, at_least: after }
        }
        DeliveryError::Proof(ProofError::Wrong(detail)) => final_one(ProblemKind::ContentWrong, detail),
        DeliveryError::Proof(ProofError::Ledger(error)) => error.into(),
        DeliveryError::Proof(error @ ProofError::Hashing(_)) => Failure::Outage(error.to_string()),
    }
}
