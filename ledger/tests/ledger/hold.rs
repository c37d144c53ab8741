//! What the holder of a file may do with it.

use std::time::Duration;

use contract::{Digest, EventKind, State};
use ledger::{Claim, Problem, Progress, Renewal, StoredOutcome};
use testing::receipt;

use crate::stage::{LEASE, RETENTION, Stage, next_generation, problem};

const PROGRESS: Progress = Progress { chunks_stored: 7, bytes_stored: 7 << 20, bytes_delivered: 1 << 40 };

#[tokio::test]
async fn a_renewal_moves_the_end_of_the_lease_and_nothing_else() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let file = held.lease.file;
    let mut before = stage.document(file).await;
    stage.set_ago(file, "lease.until", -20_000).await;
    stage.set_ago(file, "due_at", -20_000).await;

    assert_eq!(stage.ledger.renew(&held.lease, Some(PROGRESS)).await.unwrap(), Renewal::Kept);

    stage.assert_set_to(file, "lease.until", LEASE).await;
    stage.assert_set_to(file, "due_at", LEASE).await;
    assert_eq!(stage.record(file).await.progress, PROGRESS);
    let mut after = stage.document(file).await;
    for moved in ["lease", "due_at", "progress"] {
        before.remove(moved);
        after.remove(moved);
    }
    assert_eq!(after, before);

    assert_eq!(stage.ledger.renew(&held.lease, None).await.unwrap(), Renewal::Kept);
    assert_eq!(stage.record(file).await.progress, PROGRESS, "no figures are no reason to forget the last ones");
}

#[tokio::test]
async fn a_lease_that_has_run_out_is_not_renewed_even_if_nobody_took_the_file() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let file = held.lease.file;
    stage.end_lease(file).await;
    let before = stage.document(file).await;
    assert_eq!(stage.ledger.renew(&held.lease, Some(PROGRESS)).await.unwrap(), Renewal::Lost);
    assert_eq!(stage.document(file).await, before);
}

#[tokio::test]
async fn a_lease_that_was_freed_is_not_renewed() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    stage.ledger.hand_back(&held.lease).await.unwrap().unwrap();
    let before = stage.document(held.lease.file).await;
    assert_eq!(stage.ledger.renew(&held.lease, None).await.unwrap(), Renewal::Lost);
    assert_eq!(stage.document(held.lease.file).await, before);
}

#[tokio::test]
async fn a_retry_keeps_the_attempt_and_says_why_and_when() {
    let stage = Stage::set().await;
    for held in [stage.chunking(3).await, stage.delivering(b"abc").await] {
        let file = held.lease.file;
        let why = Problem::new(contract::ProblemKind::RemoteUnavailable, "expected $version, found a.b");
        let delay = Duration::from_secs(120);
        let record = stage.ledger.record_retry(&held.lease, &why, delay).await.unwrap().unwrap();

        assert_eq!((record.state, record.version), (held.file.state, held.file.version + 1));
        assert_eq!((record.attempts, record.epoch), (held.file.attempts, held.file.epoch));
        assert_eq!((record.error.as_ref(), record.holder()), (Some(&why), None));
        assert_eq!(record.outbox().events, held.file.outbox().events);
        stage.assert_set_to(file, "not_before", delay).await;
        stage.assert_set_to(file, "due_at", delay).await;
        assert!(stage.ledger.record_retry(&held.lease, &why, delay).await.unwrap().is_none(), "it is committed once");
    }
}

#[tokio::test]
async fn handing_back_gives_back_the_attempt_of_the_phase() {
    let stage = Stage::set().await;
    let (chunking, delivering) = (stage.chunking(3).await, stage.delivering(b"abc").await);
    let attempts = |held: &ledger::ClaimedFile| (held.file.attempts.chunking, held.file.attempts.delivering);
    assert_eq!((attempts(&chunking), attempts(&delivering)), ((1, 0), (1, 1)));
    for (held, left) in [(chunking, (0, 0)), (delivering, (1, 0))] {
        let record = stage.ledger.hand_back(&held.lease).await.unwrap().unwrap();
        assert_eq!((record.attempts.chunking, record.attempts.delivering), left);
        assert_eq!((record.state, record.version), (held.file.state, held.file.version + 1));
        assert_eq!((record.holder(), record.error.as_ref(), record.not_before), (None, None, None));
        stage.assert_set_to(held.lease.file, "due_at", Duration::ZERO).await;
        assert!(stage.ledger.hand_back(&held.lease).await.unwrap().is_none(), "an attempt is given back once");
    }
}

#[tokio::test]
async fn a_file_that_is_given_up_is_at_rest_with_its_reason() {
    let stage = Stage::set().await;
    for held in [stage.chunking(3).await, stage.delivering(b"abc").await] {
        let record = stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
        assert_eq!((record.state, record.version), (State::Failed, held.file.version + 1));
        assert_eq!((record.error.as_ref(), record.holder()), (Some(&problem()), None));
        assert_eq!((record.attempts, record.attempts()), (held.file.attempts, 1));
        let last = record.outbox().events.pop().unwrap();
        assert_eq!((last.event, last.state, last.version), (EventKind::Failed, State::Failed, record.version));
        assert_eq!(last.detail, serde_json::json!({ "error": problem() }));
        stage.assert_set_to(record.id, "due_at", RETENTION.failed).await;
        assert!(stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn who_wakes_after_its_lease_changes_nothing_even_if_nobody_took_the_file() {
    let stage = Stage::set().await;
    let (mut chunking, delivering) = (stage.chunking(3).await, stage.delivering(b"abc").await);
    let (reading, sending) = (chunking.lease.clone(), delivering.lease.clone());
    stage.end_lease(reading.file).await;
    stage.end_lease(sending.file).await;
    let before = [stage.document(reading.file).await, stage.document(sending.file).await];

    let stored = stage.ledger.record_stored(&mut chunking, Digest::of(b"abc")).await.unwrap();
    assert!(matches!(stored, StoredOutcome::Lost), "{stored:?}");
    let next = next_generation(chunking.file.source.clone());
    assert!(stage.ledger.begin_generation(&reading, &next).await.unwrap().is_none());
    for lease in [&reading, &sending] {
        assert!(stage.ledger.record_retry(lease, &problem(), LEASE).await.unwrap().is_none());
        assert!(stage.ledger.record_failed(lease, &problem()).await.unwrap().is_none());
        assert!(stage.ledger.record_cancelled(lease).await.unwrap().is_none());
    }
    assert!(stage.ledger.record_delivered(&sending, &receipt(&delivering)).await.unwrap().is_none());
    assert_eq!([stage.document(reading.file).await, stage.document(sending.file).await], before);
}

#[tokio::test]
async fn who_could_not_reach_mongodb_in_time_gives_the_attempt_back_unless_another_has_the_file() {
    let stage = Stage::set().await;
    let first = stage.chunking(3).await;
    let file = first.lease.file;
    stage.end_lease(file).await;
    let second = stage.claim(file).await;
    assert!(stage.ledger.hand_back(&first.lease).await.unwrap().is_none());
    stage.end_lease(file).await;
    let record = stage.ledger.hand_back(&second.lease).await.unwrap().unwrap();
    assert_eq!((record.attempts.chunking, record.holder()), (1, None));
}

#[tokio::test]
async fn a_delivery_that_is_put_off_counts_no_attempt_and_waits_longer_each_time() {
    let stage = Stage::set().await;
    let file = stage.accepted(b"abc").await;
    for before in 0..3 {
        let record = stage.record(file).await;
        assert_eq!((record.deferrals, record.attempts.delivering), (before, 0));
        stage.ledger.defer(file, LEASE).await.unwrap();
        stage.assert_set_to(file, "not_before", LEASE).await;
        stage.assert_set_to(file, "due_at", LEASE).await;
        assert!(matches!(stage.try_claim_delivering(file).await, Claim::NothingToDo), "not before its time");
    }
    stage.set_ago(file, "not_before", 1).await;
    assert_eq!(stage.claim_delivering(file).await.file.deferrals, 0, "a claim ends the waiting");
    let held = stage.document(file).await;
    stage.ledger.defer(file, LEASE).await.unwrap();
    assert_eq!(stage.document(file).await, held, "what is held is not put off");
}
