//! Another reading of a source that changed.

use std::time::Duration;

use contract::{Epoch, Generation, State};
use ledger::{Attempts, Claim, GenerationOptions, Layout, NextGeneration, Progress, Source};
use testing::{MIB, taken};

use crate::stage::{OPENING, Stage, next_generation, problem, request};

#[tokio::test]
async fn a_new_generation_is_read_later_and_cut_anew() {
    let stage = Stage::set().await;
    let mut held = stage.chunking(u64::from(MIB)).await;
    let file = held.lease.file;
    // The second time cannot be written as an integer of BSON.
    let sources = [(5 * u64::from(MIB), 99, Layout::Children), (3, i128::from(i64::MAX) + 2, Layout::Embedded)];
    for (n, (size, mtime_ns, layout)) in (1_u8..).zip(sources) {
        let progress = Progress { chunks_stored: 1, bytes_stored: 1, bytes_delivered: 0 };
        stage.ledger.renew(&held.lease, Some(progress)).await.unwrap();
        let source = Source { size, mtime_ns, path: "$version".into(), ..held.file.source.clone() };
        let delay = Duration::from_secs(30);
        let next = NextGeneration { delay, ..next_generation(source.clone()) };
        let record = stage.ledger.begin_generation(&held.lease, &next).await.unwrap().unwrap();

        assert_eq!((record.generation, record.source.clone()), (Generation(u32::from(n) + 1), source));
        assert_eq!((record.layout, record.chunk_size, record.progress), (None, None, Progress::default()));
        assert_eq!((record.state, record.version, record.holder()), (State::Chunking, held.file.version + 1, None));
        assert_eq!(
            (record.error, record.failures.len(), record.attempts),
            (Some(problem()), usize::from(n), held.file.attempts)
        );
        stage.assert_set_to(file, "not_before", delay).await;
        stage.assert_set_to(file, "due_at", delay).await;
        assert!(matches!(stage.try_claim(file).await, Claim::NothingToDo), "not before the pause is over");

        stage.set_ago(file, "not_before", 1).await;
        let opening = GenerationOptions { chunk_size: 2 * MIB, ..OPENING };
        held = taken(stage.ledger.claim_chunking(&request(file), opening).await.unwrap());
        assert_eq!((held.file.layout, held.file.chunk_size), (Some(layout), Some(2 * MIB)));
        assert_eq!((held.file.epoch, held.file.attempts.chunking), (Epoch(i64::from(n) + 1), u32::from(n) + 1));
    }
}

#[tokio::test]
async fn a_source_stands_still_for_as_long_as_is_asked() {
    let settle = Duration::from_secs(600);
    let stage = Stage::with_settle(settle).await;
    let file = stage.prepared(3).await;
    for field in ["not_before", "due_at"] {
        stage.assert_set_to(file, field, settle).await;
    }
    assert!(matches!(stage.try_claim(file).await, Claim::NothingToDo));
    stage.set_ago(file, "not_before", 1).await;
    let held = stage.claim(file).await;
    // It has changed: it must stand still again, and that was no attempt.
    let next = NextGeneration { counts: false, ..next_generation(held.file.source.clone()) };
    let record = stage.ledger.begin_generation(&held.lease, &next).await.unwrap().unwrap();
    assert_eq!((record.attempts, record.failures.len()), (Attempts::default(), 0));
    for field in ["not_before", "due_at"] {
        stage.assert_set_to(file, field, settle).await;
    }
}

#[tokio::test]
async fn only_while_a_file_is_being_chunked() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let before = stage.document(held.lease.file).await;
    let next = next_generation(held.file.source.clone());
    assert!(stage.ledger.begin_generation(&held.lease, &next).await.unwrap().is_none());
    assert_eq!(stage.document(held.lease.file).await, before);
}

#[tokio::test]
async fn a_file_that_is_to_be_cancelled_waits_for_no_reading() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    stage.ledger.cancel(held.lease.file).await.unwrap();
    let next = NextGeneration { delay: Duration::from_secs(600), ..next_generation(held.file.source.clone()) };
    stage.ledger.begin_generation(&held.lease, &next).await.unwrap().unwrap();
    assert!(stage.claim(held.lease.file).await.file.cancel_requested);
}
