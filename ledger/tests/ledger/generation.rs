//! Another reading of a source that changed.

use contract::{Epoch, Generation, State};
use ledger::{GenerationOptions, Layout, NextGeneration, Progress, Source};
use testing::MIB;

use crate::stage::{OPENING, Stage};

#[tokio::test]
async fn a_new_generation_is_cut_anew_under_the_same_lease() {
    let stage = Stage::set().await;
    let mut held = stage.chunking(u64::from(MIB)).await;
    let file = held.lease.file;
    let mut expected = Generation::FIRST;
    for (changes, (size, layout)) in
        [(5 * u64::from(MIB), Layout::Children), (3, Layout::Embedded)].into_iter().enumerate()
    {
        let progress = Progress { chunks_stored: 1, bytes_stored: 1, bytes_delivered: 0 };
        stage.ledger.renew(&held.lease, Some(progress)).await.unwrap();
        let source = Source { size, mtime_ns: 99, path: "$version".into(), ..held.file.source.clone() };
        let opening = GenerationOptions { chunk_size: 2 * MIB, ..OPENING };
        let next = NextGeneration { source: source.clone(), options: opening };
        let record = stage.ledger.begin_generation(&held.lease, &next).await.unwrap().unwrap();

        expected.0 += 1;
        assert_eq!((record.generation, record.source_changes as usize), (expected, changes + 1));
        assert_eq!((record.source.clone(), record.layout), (source, Some(layout)));
        assert_eq!((record.chunk_size, record.progress), (Some(2 * MIB), Progress::default()));
        assert_eq!((record.state, record.epoch), (State::Chunking, Epoch(1)));
        assert_eq!((record.version, record.holder()), (held.file.version + 1, Some("worker-1")));
        assert_eq!(record.attempts, held.file.attempts);
        assert_eq!(stage.record(file).await.version, record.version);
        held.file = record;
    }
}

#[tokio::test]
async fn only_while_a_file_is_being_chunked() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let before = stage.document(held.lease.file).await;
    let next = NextGeneration { source: held.file.source.clone(), options: OPENING };
    assert!(stage.ledger.begin_generation(&held.lease, &next).await.unwrap().is_none());
    assert_eq!(stage.document(held.lease.file).await, before);
}
