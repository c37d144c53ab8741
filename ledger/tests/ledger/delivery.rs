//! Claiming a file for delivery, and the proof of it.

use std::time::Duration;

use contract::{EventKind, ReceiptVerdict, SigningKey, State, check_receipt};
use ledger::Progress;
use serde_json::json;
use testing::receipt;

use crate::stage::{RETENTION, Stage, problem};

#[tokio::test]
async fn the_first_claim_begins_the_delivery() {
    let stage = Stage::set().await;
    let file = stage.accepted(b"abc").await;
    let before = stage.record(file).await;
    let held = stage.claim_delivering(file).await;

    assert_eq!((held.file.state, held.file.version), (State::Delivering, before.version + 1));
    assert_eq!((held.file.epoch.0, held.file.attempts.delivering), (before.epoch.0 + 1, 1));
    assert_eq!(held.file.attempts.chunking, before.attempts.chunking);
    let delivery = held.file.delivery.clone().unwrap();
    assert_eq!((delivery.begun_at, delivery.resumed), (held.lease.claimed_at, false));
    assert_eq!(held.file.progress, Progress { bytes_delivered: 0, ..before.progress });
    let last = held.file.outbox().events.pop().unwrap();
    assert_eq!((last.event, last.version), (EventKind::Delivering, held.file.version));
}

#[tokio::test]
async fn every_further_claim_knows_that_the_remote_may_have_it() {
    let stage = Stage::set().await;
    let first = stage.delivering(b"abc").await;
    let file = first.lease.file;
    let begun_at = first.file.delivery.clone().unwrap().begun_at;
    let events = first.file.outbox().events;

    stage.end_lease(file).await;
    let after_a_crash = stage.claim_delivering(file).await;
    stage.ledger.hand_back(&after_a_crash.lease).await.unwrap().unwrap();
    let after_a_hand_back = stage.claim_delivering(file).await;
    stage.ledger.record_retry(&after_a_hand_back.lease, &problem(), Duration::ZERO).await.unwrap().unwrap();
    let after_a_retry = stage.claim_delivering(file).await;

    for (held, attempts) in [(after_a_crash, 2), (after_a_hand_back, 2), (after_a_retry, 3)] {
        let delivery = held.file.delivery.clone().unwrap();
        assert_eq!((delivery.begun_at, delivery.resumed), (begun_at, true));
        assert_eq!(held.file.attempts.delivering, attempts);
        assert_eq!(held.file.outbox().events, events, "a delivery begins once");
    }
}

#[tokio::test]
async fn progress_is_that_of_the_present_attempt() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let progress = Progress { bytes_delivered: 2, ..held.file.progress };
    stage.ledger.renew(&held.lease, Some(progress)).await.unwrap();
    assert_eq!(stage.record(held.lease.file).await.progress, progress);
    stage.end_lease(held.lease.file).await;
    assert_eq!(stage.claim_delivering(held.lease.file).await.file.progress, held.file.progress);
}

#[tokio::test]
async fn a_receipt_reads_back_as_written() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    stage.ledger.record_retry(&held.lease, &problem(), Duration::ZERO).await.unwrap().unwrap();
    let held = stage.claim_delivering(held.lease.file).await;
    let mut written = receipt(&held);
    written.sign(&SigningKey::from_seed(&[1; 32])).unwrap();
    let record = stage.ledger.record_delivered(&held.lease, &written).await.unwrap().unwrap();

    assert_eq!((record.state, record.version), (State::Delivered, held.file.version + 1));
    assert_eq!((record.holder(), record.error.as_ref(), record.not_before), (None, None, None));
    assert_eq!(record.progress.bytes_delivered, 3);
    let read_back = stage.record(record.id).await.receipt.unwrap();
    assert_eq!(read_back, json!(written));
    // What was signed is what is read back.
    let checks = check_receipt(&read_back, &[SigningKey::from_seed(&[1; 32]).public()]);
    assert!(checks.iter().all(|check| check.verdict == ReceiptVerdict::Holds), "{checks:#?}");
    stage.assert_set_to(record.id, "due_at", RETENTION.delivered).await;
    let mut events = stage.record(record.id).await.outbox().events;
    let last = events.pop().unwrap();
    assert_eq!((last.event, last.state, last.version), (EventKind::Delivered, State::Delivered, record.version));
    assert_eq!(last.detail, json!({ "receipt": written }));
}

#[tokio::test]
async fn a_receipt_without_what_the_remote_did_not_say_reads_back_too() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"").await;
    let mut written = receipt(&held);
    (written.remote.status, written.remote.etag) = (None, None);
    (written.remote.version, written.remote.checksum) = (None, None);
    assert_eq!((written.size, written.chunks), (0, 0));
    stage.ledger.record_delivered(&held.lease, &written).await.unwrap().unwrap();
    assert_eq!(stage.record(held.lease.file).await.receipt, Some(json!(written)));
}

#[tokio::test]
async fn a_delivery_is_recorded_once_and_only_by_who_delivers() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let written = receipt(&held);
    stage.ledger.record_delivered(&held.lease, &written).await.unwrap().unwrap();
    let before = stage.document(held.lease.file).await;
    assert!(stage.ledger.record_delivered(&held.lease, &written).await.unwrap().is_none());
    assert_eq!(stage.document(held.lease.file).await, before);

    let chunking = stage.chunking(3).await;
    let before = stage.document(chunking.lease.file).await;
    assert!(stage.ledger.record_delivered(&chunking.lease, &written).await.unwrap().is_none());
    assert_eq!(stage.document(chunking.lease.file).await, before);
}
