//! Only what the record admits is written, and the record is read before anything is refused.

use std::time::Duration;

use contract::{ChunkAnswer, ChunkHeader, Digest, Epoch, Generation};
use ledger::{NextGeneration, Problem, Source};
use testing::{bytes, until};

use crate::stage::{BOTH, KIB_64, Kept, Stage, assert_refused, chunks_of, header};

const SIZE: usize = 2 * KIB_64 as usize;

#[tokio::test]
async fn a_file_that_is_not_being_chunked_takes_no_chunks() {
    let stage = Stage::set().await;
    let content = bytes(SIZE, 1);
    let ledger = &stage.service.ledger;

    let prepared = stage.prepared(SIZE).await;
    let mut record = ledger.file(prepared).await.unwrap().unwrap();
    record.chunk_size = Some(KIB_64);
    let (early, data) = chunks_of(&record, &content).remove(0);
    assert_refused(&stage.put(&early, &data).await, ChunkAnswer::Stale, "found it prepared");

    let mut held = stage.chunking(SIZE, Kept::Children).await;
    ledger.record_stored(&mut held, Digest::of(&content)).await.unwrap();
    let (late, data) = chunks_of(&held.file, &content).remove(0);
    assert_refused(&stage.put(&late, &data).await, ChunkAnswer::Stale, "found it stored");

    let held = stage.chunking(SIZE, Kept::Embedded).await;
    ledger.record_failed(&held.lease, &Problem::new(contract::ProblemKind::SourceMissing, "")).await.unwrap().unwrap();
    let (late, data) = chunks_of(&held.file, &content).remove(0);
    assert_refused(&stage.put(&late, &data).await, ChunkAnswer::Stale, "found it failed");
    assert!(stage.kept().await.is_empty());
}

#[tokio::test]
async fn only_the_present_claim_and_generation_may_send() {
    let stage = Stage::set().await;
    for kept in BOTH {
        let file = stage.chunking(SIZE, kept).await.file.id;
        stage.end_lease(file).await;
        let held = stage.claim(file, kept, KIB_64).await;
        let (right, data) = chunks_of(&held.file, &bytes(SIZE, 1)).remove(0);
        let before = stage.kept().await;
        // Once while the store has not cached the file, once while it has.
        for cached in [false, true] {
            for epoch in [-1, 0, 1, 3] {
                let refused = stage.put(&ChunkHeader { epoch: Epoch(epoch), ..right }, &data).await;
                assert_refused(&refused, ChunkAnswer::Stale, &format!("claim 2, found one of claim {epoch}"));
            }
            for generation in [0, 2] {
                let refused = stage.put(&ChunkHeader { generation: Generation(generation), ..right }, &data).await;
                assert_refused(&refused, ChunkAnswer::Stale, &format!("generation 1, found {generation}"));
            }
            assert_eq!(stage.kept().await.len(), before.len() + usize::from(cached));
            let answer = if cached { ChunkAnswer::Duplicate } else { ChunkAnswer::Ok };
            assert_eq!(stage.put(&right, &data).await.answer, answer);
        }
    }
}

#[tokio::test]
async fn a_newer_claim_than_the_cached_one_is_taken_at_once() {
    let stage = Stage::set().await;
    for kept in BOTH {
        let held = stage.chunking(SIZE, kept).await;
        let content = bytes(SIZE, 1);
        let (first, data) = &chunks_of(&held.file, &content)[0];
        assert_eq!(stage.put(first, data).await.answer, ChunkAnswer::Ok);
        stage.end_lease(held.file.id).await;
        let held = stage.claim(held.file.id, kept, KIB_64).await;

        let (second, data) = &chunks_of(&held.file, &content)[1];
        assert_eq!(stage.put(second, data).await.answer, ChunkAnswer::Ok);
        // From then on, the earlier claim is refused.
        let refused = stage.put(&ChunkHeader { epoch: first.epoch, ..*second }, data).await;
        assert_refused(&refused, ChunkAnswer::Stale, "claim 2, found one of claim 1");
        assert_eq!(stage.stored(&held.file).await.concat(), content);
    }
}

#[tokio::test]
async fn a_newer_generation_than_the_cached_one_is_taken_at_once() {
    let stage = Stage::set().await;
    for kept in BOTH {
        let held = stage.chunking(SIZE, kept).await;
        let (old, data) = &chunks_of(&held.file, &bytes(SIZE, 1))[1];
        assert_eq!(stage.put(old, data).await.answer, ChunkAnswer::Ok);
        // The source has grown: numbers that were past its end are valid now.
        let source = Source { size: 3 * SIZE as u64, ..held.file.source.clone() };
        let problem = Problem::new(contract::ProblemKind::SourceChanged, "it has grown");
        let next = NextGeneration { source, problem, delay: Duration::ZERO, counts: true };
        stage.service.ledger.begin_generation(&held.lease, &next).await.unwrap().unwrap();
        let file = stage.claim(held.lease.file, kept, KIB_64).await.file;

        let content = bytes(3 * SIZE, 2);
        let all = chunks_of(&file, &content);
        assert_eq!(stage.put_at_once(&all[3..]).await, [ChunkAnswer::Ok; 3]);
        assert_eq!(stage.put_at_once(&all[..3]).await, [ChunkAnswer::Ok; 3]);
        let refused = stage.put(old, data).await;
        assert_refused(&refused, ChunkAnswer::Stale, "generation 2, found 1");
        assert_eq!(stage.stored(&file).await.concat(), content);
    }
}

#[tokio::test]
async fn a_refused_chunk_is_taken_as_soon_as_the_record_admits_it() {
    let stage = Stage::set().await;
    let file = stage.prepared(SIZE).await;
    let mut record = stage.service.ledger.file(file).await.unwrap().unwrap();
    (record.chunk_size, record.epoch) = (Some(KIB_64), Epoch(1));
    let (chunk, data) = chunks_of(&record, &bytes(SIZE, 1)).remove(0);
    assert_refused(&stage.put(&chunk, &data).await, ChunkAnswer::Stale, "found it prepared");
    stage.claim(file, Kept::Children, KIB_64).await;
    assert_eq!(stage.put(&chunk, &data).await.answer, ChunkAnswer::Ok);

    // A claim that the store hears of before the record has it.
    let next = ChunkHeader { epoch: Epoch(2), number: contract::ChunkNumber(1), ..chunk };
    assert_refused(&stage.put(&next, &data).await, ChunkAnswer::Stale, "claim 1, found one of claim 2");
    stage.end_lease(file).await;
    stage.claim(file, Kept::Children, KIB_64).await;
    assert_eq!(stage.put(&next, &data).await.answer, ChunkAnswer::Ok);
}

#[tokio::test]
async fn an_admission_is_cached_only_for_a_moment() {
    let stage = Stage::set().await;
    let held = stage.chunking(SIZE, Kept::Children).await;
    let content = bytes(SIZE, 1);
    let (chunk, data) = &chunks_of(&held.file, &content)[0];
    assert_eq!(stage.put(chunk, data).await.answer, ChunkAnswer::Ok);
    stage.end_lease(held.file.id).await;
    stage.claim(held.file.id, Kept::Children, KIB_64).await;

    let asked = std::time::Instant::now();
    let refused = until("the earlier claim is refused", async || {
        Some(stage.put(chunk, data).await).filter(|reply| reply.answer != ChunkAnswer::Duplicate)
    })
    .await;
    assert_refused(&refused, ChunkAnswer::Stale, "claim 2, found one of claim 1");
    assert!(asked.elapsed() < Duration::from_secs(10), "an admission was cached for {:?}", asked.elapsed());
    assert_eq!(stage.kept().await.len(), 1);
    assert_eq!(header(&held.file, 0, data).epoch, Epoch(1));
}
