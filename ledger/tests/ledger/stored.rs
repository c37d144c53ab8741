//! What becomes of a file whose chunks are all stored.

use std::convert::Infallible;
use std::sync::Arc;

use contract::{Digest, EventKind, Expectation, Mismatch, State};
use ledger::{ClaimedFile, ExpectationOutcome, FileRecord, Ledger, Problem, Progress, StoredOutcome};
use serde_json::json;
use testing::MIB;
use tokio::sync::Barrier;

use crate::stage::{HINT_PUSH, RETENTION, Stage, expectation, problem};

#[track_caller]
fn resting(outcome: StoredOutcome) -> FileRecord {
    match outcome {
        StoredOutcome::Resting(file) => *file,
        other => panic!("expected the file to rest, found {other:?}"),
    }
}

#[track_caller]
fn accepted(outcome: StoredOutcome) -> FileRecord {
    match outcome {
        StoredOutcome::Accepted(file) => *file,
        other => panic!("expected the file to be accepted, found {other:?}"),
    }
}

fn events_since(record: &FileRecord, version: i64) -> Vec<(i64, EventKind)> {
    let events = record.outbox().events;
    events.iter().filter(|event| event.version > version).map(|event| (event.version, event.event)).collect()
}

/// A file of three chunks that is being chunked; its content is "abc" as far as hashes go.
async fn large(stage: &Stage) -> ClaimedFile {
    stage.chunking(2 * u64::from(MIB) + 1).await
}

#[tokio::test]
async fn a_file_that_nobody_asked_for_rests() {
    let stage = Stage::set().await;
    let mut held = large(&stage).await;
    let before = held.file.version;
    let record = resting(stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap());

    assert_eq!((record.state, record.sha256), (State::Stored, Some(Digest::of(b"abc"))));
    assert_eq!((record.version, record.holder(), record.error.as_ref()), (before + 1, None, None));
    let all = Progress { chunks_stored: 3, bytes_stored: 2 * u64::from(MIB) + 1, bytes_delivered: 0 };
    assert_eq!(record.progress, all);
    assert_eq!(record.proven().map(|proven| proven.split.count()), Some(3));
    assert_eq!(events_since(&record, before), [(before + 1, EventKind::Stored)]);
    let detail = json!({ "size": 2 * MIB + 1, "chunks": 3, "sha256": Digest::of(b"abc") });
    assert_eq!(record.outbox().events.last().unwrap().detail, detail);
    stage.assert_set_to(record.id, "due_at", RETENTION.stored).await;
}

#[tokio::test]
async fn an_expectation_that_is_met_makes_the_file_due() {
    let stage = Stage::set().await;
    for (size, chunks) in [(None, None), (Some(2 * u64::from(MIB) + 1), Some(3))] {
        let mut held = large(&stage).await;
        let expected = Expectation { size, chunks, ..expectation(b"abc") };
        // The chunker's copy of the record is older than the request.
        stage.expect(held.lease.file, &expected).await;
        let before = stage.record(held.lease.file).await.version;
        let record = accepted(stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap());

        assert_eq!((record.state, record.version), (State::Stored, before + 1));
        assert_eq!((record.expectation, record.error), (Some(expected), None));
        assert_eq!(record.remote.as_deref(), Some("archive"), "it is listed by its remote");
        stage.assert_set_to(record.id, "due_at", HINT_PUSH).await;
    }
}

#[tokio::test]
async fn an_expectation_that_is_not_met_is_dropped_and_named() {
    let stage = Stage::set().await;
    let (size, right) = (2 * u64::from(MIB) + 1, expectation(b"abc"));
    for (expected, mismatch) in [
        (expectation(b"abd"), Mismatch::Digest { expected: Digest::of(b"abd"), found: Digest::of(b"abc") }),
        (Expectation { size: Some(size - 1), ..right.clone() }, Mismatch::Size { expected: size - 1, found: size }),
        (Expectation { chunks: Some(4), ..right.clone() }, Mismatch::Chunks { expected: 4, found: 3 }),
    ] {
        let mut held = large(&stage).await;
        stage.expect(held.lease.file, &expected).await;
        let before = stage.record(held.lease.file).await.version;
        let record = resting(stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap());

        assert_eq!((record.state, record.version, record.holder()), (State::Stored, before + 2, None));
        assert_eq!((record.sha256, record.expectation.as_ref()), (Some(Digest::of(b"abc")), None));
        let error = record.error.clone().unwrap();
        assert_eq!(error, Problem::from(&mismatch));
        assert_eq!(Some((error.expected.unwrap(), error.found.unwrap())), Some(mismatch.expected_and_found()));
        let both = [(before + 1, EventKind::Stored), (before + 2, EventKind::Mismatch)];
        assert_eq!(events_since(&record, before), both);
        let detail = json!({ "error": record.error });
        assert_eq!(record.outbox().events.last().unwrap().detail, detail);
        stage.assert_set_to(record.id, "due_at", RETENTION.stored).await;
    }
}

#[tokio::test]
async fn an_error_of_an_earlier_attempt_is_over() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    stage.ledger.record_retry(&held.lease, &problem(), std::time::Duration::ZERO).await.unwrap().unwrap();
    let mut held = stage.claim(held.lease.file).await;
    assert!(held.file.error.is_some());
    let record = resting(stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap());
    assert_eq!((record.error, record.not_before), (None, None));
}

#[tokio::test]
async fn it_is_recorded_once() {
    let stage = Stage::set().await;
    let mut held = stage.chunking(3).await;
    resting(stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap());
    let before = stage.document(held.lease.file).await;
    let again = stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap();
    assert!(matches!(again, StoredOutcome::Lost), "{again:?}");
    assert_eq!(stage.document(held.lease.file).await, before);
}

/// Has a chunker come to its end and a finalise request come in at the same moment.
async fn at_once(ledger: &Ledger, mut held: ClaimedFile, wanted: &Expectation) -> (StoredOutcome, ExpectationOutcome) {
    let barrier = Arc::new(Barrier::new(2));
    let (ledger, file) = (ledger.clone(), held.lease.file);
    let storing = tokio::spawn({
        let (ledger, barrier) = (ledger.clone(), barrier.clone());
        async move {
            barrier.wait().await;
            ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap()
        }
    });
    let asking = tokio::spawn({
        let wanted = wanted.clone();
        async move {
            barrier.wait().await;
            let complete = |_: &FileRecord| Ok::<_, Infallible>(wanted.clone());
            let Ok(expected) = ledger.record_expectation(file, "ada", complete).await.unwrap();
            expected
        }
    });
    (storing.await.unwrap(), asking.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_request_at_the_same_moment_is_accepted_once() {
    let stage = Stage::set().await;
    let wanted = expectation(b"abc");
    for round in 0..40 {
        let held = stage.chunking(3).await;
        let file = held.lease.file;
        let (stored, asked) = at_once(&stage.ledger, held, &wanted).await;
        match (&stored, &asked) {
            // The request came first and waited, or the file was stored and rested.
            (StoredOutcome::Accepted(_), ExpectationOutcome::Waiting(_))
            | (StoredOutcome::Resting(_), ExpectationOutcome::Accepted(_)) => {}
            other => panic!("round {round}: {other:?}"),
        }
        let record = stage.record(file).await;
        assert_eq!((record.state, record.expectation.as_ref()), (State::Stored, Some(&wanted)), "round {round}");
        stage.assert_set_to(file, "due_at", HINT_PUSH).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_request_at_the_same_moment_is_refused_either_way() {
    let stage = Stage::set().await;
    let wanted = expectation(b"abd");
    for round in 0..40 {
        let held = stage.chunking(3).await;
        let file = held.lease.file;
        let (stored, asked) = at_once(&stage.ledger, held, &wanted).await;
        let record = stage.record(file).await;
        let noted = match (&stored, &asked) {
            (StoredOutcome::Resting(_), ExpectationOutcome::Waiting(_)) => true,
            (StoredOutcome::Resting(_), ExpectationOutcome::Refused(Mismatch::Digest { .. })) => false,
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!((record.state, record.expectation.as_ref()), (State::Stored, None), "round {round}");
        assert_eq!(record.error.is_some(), noted, "round {round}: a request that was taken is answered in the record");
        stage.assert_set_to(file, "due_at", RETENTION.stored).await;
    }
}
