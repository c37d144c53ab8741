//! How an attempt ends when MongoDB does not take what it has to record.

use bus::Outcome;
use contract::{ProblemKind, State};
use ledger::{Claim, LedgerError, Problem};
use mongodb::bson::{Document, doc};
use runtime::work::{Attempt, Failure};

use crate::stage::Stage;

impl Stage {
    /// From now on MongoDB takes only records that pass `rule`.
    async fn rule(&self, rule: Document) {
        self.db.run_command(doc! { "collMod": "files", "validator": rule }).await.unwrap();
    }
}

async fn begun(stage: &Stage) -> Attempt<'_> {
    let file = stage.prepared().await;
    let claim = Claim::Taken(Box::new(stage.claim(file).await));
    Attempt::begin(&stage.service, Ok(claim)).unwrap_or_else(|outcome| panic!("{outcome:?}"))
}

#[tokio::test]
async fn a_record_that_mongodb_refuses_fails_the_file_with_a_reason_that_it_takes() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 60_000).await;
    let attempt = begun(&stage).await;
    let file = attempt.held.lease.file;
    stage.rule(doc! { "error.detail": { "$ne": "what the remote said" } }).await;
    let problem = Problem::new(ProblemKind::RemoteUnavailable, "what the remote said");
    let outcome = attempt.fail(Failure::Later { problem, attempts: None, at_least: None }).await;
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    let record = stage.record(file).await;
    assert_eq!((record.state, record.attempts.chunking), (State::Failed, 1), "the attempt counts");
    assert_eq!(record.error.unwrap().kind(), Some(ProblemKind::RecordRefused));
    stage.stop().await;
}

#[tokio::test]
async fn a_record_that_takes_no_reason_at_all_comes_again_after_a_pause() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 60_000).await;
    let attempt = begun(&stage).await;
    stage.rule(doc! { "error": { "$exists": false } }).await;
    let problem = Problem::new(ProblemKind::RemoteUnavailable, "what the remote said");
    let outcome = attempt.fail(Failure::Later { problem, attempts: None, at_least: None }).await;
    assert!(matches!(outcome, Outcome::Outage(_)), "{outcome:?}");
    assert_eq!(stage.record(attempt.held.lease.file).await.holder(), None, "it was handed back");
    stage.stop().await;
}

#[test]
fn only_an_outage_counts_no_attempt() {
    let (operation, detail) = ("reading chunks", String::new());
    let refused = Failure::from(LedgerError::Refused { operation, detail: detail.clone() });
    assert!(matches!(refused, Failure::Final(problem) if problem.kind() == Some(ProblemKind::RecordRefused)));
    let damaged = Failure::from(LedgerError::Damaged { operation, detail });
    assert!(matches!(damaged, Failure::Later { problem, .. } if problem.kind() == Some(ProblemKind::ContentWrong)));
    let silent = Failure::from(LedgerError::Timeout { operation, after: std::time::Duration::ZERO });
    assert!(matches!(silent, Failure::Outage(_)));
}
