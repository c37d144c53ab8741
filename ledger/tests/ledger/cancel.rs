//! CancelOutcome a file, in whatever state it is.

use contract::{EventKind, FileId, State};
use ledger::{CancelOutcome, Renewal};

use crate::stage::{LEASE, RETENTION, Stage, problem};

async fn cancelled_now(stage: &Stage, file: FileId) {
    let before = stage.record(file).await;
    let cancelling = stage.ledger.cancel(file).await.unwrap();
    let CancelOutcome::Cancelled(record) = cancelling else { panic!("expected it cancelled at once: {cancelling:?}") };
    assert_eq!((record.state, record.version, record.holder()), (State::Cancelled, before.version + 1, None));
    let last = record.outbox().events.pop().unwrap();
    assert_eq!((last.event, last.state, last.version), (EventKind::Cancelled, State::Cancelled, record.version));
    stage.assert_set_to(file, "due_at", RETENTION.cancelled).await;
}

#[tokio::test]
async fn what_nobody_holds_and_no_remote_has_is_cancelled_at_once() {
    let stage = Stage::set().await;
    let abandoned = stage.chunking(3).await.lease.file;
    stage.end_lease(abandoned).await;
    let waiting = stage.chunking(3).await;
    stage.ledger.record_retry(&waiting.lease, &problem(), LEASE).await.unwrap().unwrap();
    let others = [stage.prepared(3).await, stage.resting(b"abc").await, stage.accepted(b"abc").await];
    for file in others.into_iter().chain([abandoned, waiting.lease.file]) {
        cancelled_now(&stage, file).await;
    }
}

#[tokio::test]
async fn a_holder_learns_of_it_with_its_renewal_and_cancels_under_its_lease() {
    let stage = Stage::set().await;
    for held in [stage.chunking(3).await, stage.delivering(b"abc").await] {
        let file = held.lease.file;
        let due = stage.document(file).await.get("due_at").cloned();
        assert!(matches!(stage.ledger.cancel(file).await.unwrap(), CancelOutcome::Requested(_)));
        assert_eq!(stage.document(file).await.get("due_at").cloned(), due, "it is held, so nobody else is called");
        let before = stage.record(file).await;
        assert_eq!((before.state, before.cancel_requested), (held.file.state, true));
        assert_eq!(stage.ledger.renew(&held.lease, None).await.unwrap(), Renewal::CancelRequested);

        let record = stage.ledger.record_cancelled(&held.lease).await.unwrap().unwrap();
        assert_eq!((record.state, record.cancel_requested), (State::Cancelled, false));
        assert_eq!(record.outbox().events.pop().unwrap().event, EventKind::Cancelled);
        assert!(stage.ledger.record_cancelled(&held.lease).await.unwrap().is_none(), "once");
    }
}

#[tokio::test]
async fn what_a_remote_may_have_is_only_asked_for_and_due_now() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    stage.ledger.record_retry(&held.lease, &problem(), LEASE).await.unwrap().unwrap();
    assert!(matches!(stage.ledger.cancel(file).await.unwrap(), CancelOutcome::Requested(_)));
    stage.assert_set_to(file, "due_at", std::time::Duration::ZERO).await;
    let claimed = stage.claim_delivering(file).await;
    assert!(claimed.file.cancel_requested, "whoever claims it asks the remote first, before its time too");
}

#[tokio::test]
async fn what_has_ended_stays_as_it_is() {
    let stage = Stage::set().await;
    for file in [stage.delivered(b"abc").await, stage.failed().await] {
        let before = stage.document(file).await;
        assert!(matches!(stage.ledger.cancel(file).await.unwrap(), CancelOutcome::Ended(_)));
        assert_eq!(stage.document(file).await, before);
    }
    assert!(matches!(stage.ledger.cancel(FileId::generate()).await.unwrap(), CancelOutcome::Unknown));
}
