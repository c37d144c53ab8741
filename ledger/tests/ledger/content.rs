//! Chunks: written once, compared ever after, read as they were written.

use contract::{ChunkNumber, Digest, FileId, Generation};
use ledger::{ChunkProof, Layout, Ledger, NewChunk, PutOutcome};
use testing::{MIB, bytes};

use crate::stage::Stage;

const ONE: Generation = Generation::FIRST;
const TWO: Generation = Generation(2);

fn chunk(file: FileId, generation: Generation, number: u32, data: Vec<u8>) -> NewChunk {
    NewChunk { file, generation, number: ChunkNumber(number), sha256: Digest::of(&data), data: data.into() }
}

fn conflict(there: &NewChunk) -> PutOutcome {
    PutOutcome::Conflict { len: u32::try_from(there.data.len()).unwrap(), sha256: there.sha256 }
}

/// Chunks of 3 KiB, the last one shorter.
fn chunks(file: FileId, generation: Generation, count: u8) -> Vec<NewChunk> {
    let len = |number| if number + 1 == count { 5 } else { 3072 };
    let seed = |number| u64::from(number) + 16 * u64::from(generation.0);
    (0..count).map(|n| chunk(file, generation, n.into(), bytes(len(n), seed(n)))).collect()
}

/// Puts chunks where they belong, one call where there can be one.
async fn put(ledger: &Ledger, layout: Layout, chunks: &[NewChunk]) -> Vec<PutOutcome> {
    match layout {
        Layout::Children => ledger.put_children(chunks.to_vec()).await.unwrap(),
        Layout::Embedded => {
            let mut outcomes = Vec::new();
            for chunk in chunks {
                outcomes.push(ledger.put_embedded(chunk.clone()).await.unwrap());
            }
            outcomes
        }
    }
}

#[track_caller]
fn assert_read(found: Vec<ledger::StoredChunk>, expected: &[&NewChunk]) {
    let found: Vec<_> = found.into_iter().map(|chunk| (chunk.number, chunk.sha256, chunk.data)).collect();
    let expected: Vec<_> = expected.iter().map(|chunk| (chunk.number, chunk.sha256, chunk.data.clone())).collect();
    assert!(
        found == expected,
        "found {:?}",
        found.iter().map(|(number, _, data)| (number, data.len())).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_batch_of_children_is_answered_one_by_one() {
    let stage = Stage::set().await;
    let (a, b) = (FileId::generate(), FileId::generate());
    let first = chunks(a, ONE, 4);
    assert_eq!(stage.ledger.put_children(first[..3].to_vec()).await.unwrap(), [const { PutOutcome::Written }; 3]);

    let other = chunk(a, ONE, 1, bytes(3072, 99));
    let longer = chunk(a, ONE, 2, bytes(4000, 99));
    let mixed = vec![
        other,
        first[3].clone(),
        first[0].clone(),
        chunk(b, ONE, 0, bytes(10, 1)),
        longer,
        chunk(a, TWO, 0, bytes(3072, 98)),
        first[3].clone(),
    ];
    let outcomes = stage.ledger.put_children(mixed).await.unwrap();
    assert_eq!(
        outcomes,
        [
            conflict(&first[1]),
            PutOutcome::Written,
            PutOutcome::Duplicate,
            PutOutcome::Written,
            conflict(&first[2]),
            PutOutcome::Written,
            PutOutcome::Duplicate,
        ]
    );
    assert_eq!(stage.count("chunks").await, 6);
    let read = stage.ledger.read_chunks(a, ONE, Layout::Children, ChunkNumber(0), 8).await.unwrap();
    assert_read(read, &first.iter().collect::<Vec<_>>());
    assert!(stage.ledger.put_children(first.clone()).await.unwrap().iter().all(|o| *o == PutOutcome::Duplicate));
}

#[tokio::test]
async fn a_batch_of_files_of_one_chunk_is_answered_one_by_one() {
    let stage = Stage::set().await;
    let (a, b, c) = (FileId::generate(), FileId::generate(), FileId::generate());
    let whole = chunk(a, ONE, 0, bytes(3, 1));
    assert_eq!(stage.ledger.put_whole(vec![whole.clone()]).await.unwrap(), [PutOutcome::Written]);
    // Somebody took the file for one of several chunks.
    stage.ledger.open_content(c, ONE).await.unwrap();

    let mixed = vec![
        chunk(b, ONE, 0, bytes(4, 2)),
        whole.clone(),
        chunk(a, ONE, 0, bytes(3, 2)),
        chunk(a, TWO, 0, bytes(3, 3)),
        chunk(c, ONE, 0, bytes(3, 4)),
    ];
    let outcomes = stage.ledger.put_whole(mixed).await.unwrap();
    let written = PutOutcome::Written;
    assert_eq!(outcomes, [written.clone(), PutOutcome::Duplicate, conflict(&whole), written, PutOutcome::NoDocument]);
    let read = stage.ledger.read_chunks(a, ONE, Layout::Embedded, ChunkNumber(0), 1).await.unwrap();
    assert_read(read, &[&whole]);
}

#[tokio::test]
async fn a_chunk_goes_into_its_files_document_once() {
    let stage = Stage::set().await;
    let file = FileId::generate();
    let all = chunks(file, ONE, 3);
    assert_eq!(stage.ledger.put_embedded(all[0].clone()).await.unwrap(), PutOutcome::NoDocument);
    assert_eq!(stage.count("contents").await, 0);

    stage.ledger.open_content(file, ONE).await.unwrap();
    assert_eq!(put(&stage.ledger, Layout::Embedded, &all[..2]).await, [const { PutOutcome::Written }; 2]);
    stage.ledger.open_content(file, ONE).await.unwrap();
    let other = chunk(file, ONE, 1, bytes(3072, 99));
    let outcomes = put(&stage.ledger, Layout::Embedded, &[all[0].clone(), other, all[2].clone()]).await;
    assert_eq!(outcomes, [PutOutcome::Duplicate, conflict(&all[1]), PutOutcome::Written]);
    assert_eq!(stage.ledger.put_embedded(chunk(file, TWO, 0, bytes(3072, 1))).await.unwrap(), PutOutcome::NoDocument);

    let read = stage.ledger.read_chunks(file, ONE, Layout::Embedded, ChunkNumber(0), 3).await.unwrap();
    assert_read(read, &all.iter().collect::<Vec<_>>());
    assert_eq!(stage.count("contents").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_chunks_of_a_small_file_at_once_all_arrive() {
    let stage = Stage::set().await;
    for _ in 0..3 {
        let file = FileId::generate();
        stage.ledger.open_content(file, ONE).await.unwrap();
        let all = chunks(file, ONE, 16);
        // Each comes twice, as after a reply that was lost.
        let tasks: Vec<_> = all
            .iter()
            .chain(&all)
            .map(|chunk| {
                let (ledger, chunk) = (stage.ledger.clone(), chunk.clone());
                tokio::spawn(async move { ledger.put_embedded(chunk).await.unwrap() })
            })
            .collect();
        let (mut written, mut duplicate) = (0, 0);
        for task in tasks {
            match task.await.unwrap() {
                PutOutcome::Written => written += 1,
                PutOutcome::Duplicate => duplicate += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((written, duplicate), (16, 16));
        let read = stage.ledger.read_chunks(file, ONE, Layout::Embedded, ChunkNumber(0), 16).await.unwrap();
        assert_read(read, &all.iter().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_different_chunks_for_one_place_one_is_kept() {
    let stage = Stage::set().await;
    for layout in [Layout::Children, Layout::Embedded] {
        let file = FileId::generate();
        stage.ledger.open_content(file, ONE).await.unwrap();
        let rivals: Vec<_> = (0..8).map(|seed| chunk(file, ONE, 0, bytes(3072, seed))).collect();
        let tasks: Vec<_> = rivals
            .iter()
            .map(|chunk| {
                let (ledger, chunk) = (stage.ledger.clone(), chunk.clone());
                tokio::spawn(async move { put(&ledger, layout, &[chunk]).await.remove(0) })
            })
            .collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        let kept = outcomes.iter().position(|outcome| *outcome == PutOutcome::Written).unwrap();
        for (at, outcome) in outcomes.iter().enumerate().filter(|(at, _)| *at != kept) {
            assert_eq!(*outcome, conflict(&rivals[kept]), "{layout:?}, {at}");
        }
        let read = stage.ledger.read_chunks(file, ONE, layout, ChunkNumber(0), 1).await.unwrap();
        assert_read(read, &[&rivals[kept]]);
    }
}

#[tokio::test]
async fn a_range_is_read_in_order_without_what_is_missing() {
    let stage = Stage::set().await;
    for layout in [Layout::Children, Layout::Embedded] {
        let file = FileId::generate();
        stage.ledger.open_content(file, ONE).await.unwrap();
        let all = chunks(file, ONE, 12);
        // 3 and 7 are missing, and they come in no order. The tenth is `c.10`, which sorts before `c.2`.
        for at in [11, 0, 10, 9, 1, 8, 2, 6, 5, 4] {
            assert_eq!(put(&stage.ledger, layout, &all[at..=at]).await, [PutOutcome::Written]);
        }
        for (from, count, expected) in [
            (0, 12, vec![0, 1, 2, 4, 5, 6, 8, 9, 10, 11]),
            (0, 1000, vec![0, 1, 2, 4, 5, 6, 8, 9, 10, 11]),
            (0, 3, vec![0, 1, 2]),
            (2, 3, vec![2, 4]),
            (3, 1, vec![]),
            (3, 6, vec![4, 5, 6, 8]),
            (9, 3, vec![9, 10, 11]),
            (12, 4, vec![]),
        ] {
            let at = ChunkNumber(from);
            let expected: Vec<_> = expected.into_iter().map(|at: usize| &all[at]).collect();
            let read = stage.ledger.read_chunks(file, ONE, layout, at, count).await.unwrap();
            let numbers: Vec<_> = read.iter().map(|chunk| chunk.number.0).collect();
            assert_eq!(
                numbers,
                expected.iter().map(|chunk| chunk.number.0).collect::<Vec<_>>(),
                "{layout:?} {from}+{count}"
            );
            assert_read(read, &expected);
            let proofs = stage.ledger.read_proofs(file, ONE, layout, at, count).await.unwrap();
            assert_eq!(proofs, proofs_of(&expected), "{layout:?} {from}+{count}");
        }
    }
}

fn proofs_of(chunks: &[&NewChunk]) -> Vec<ChunkProof> {
    let len = |chunk: &NewChunk| u32::try_from(chunk.data.len()).unwrap();
    chunks.iter().map(|chunk| ChunkProof { number: chunk.number, len: len(chunk), sha256: chunk.sha256 }).collect()
}

#[tokio::test]
async fn what_was_never_stored_reads_as_nothing() {
    let stage = Stage::set().await;
    for layout in [Layout::Children, Layout::Embedded] {
        let file = FileId::generate();
        assert!(stage.ledger.read_chunks(file, ONE, layout, ChunkNumber(0), 8).await.unwrap().is_empty());
        stage.ledger.open_content(file, ONE).await.unwrap();
        assert!(stage.ledger.read_chunks(file, ONE, layout, ChunkNumber(0), 8).await.unwrap().is_empty());
        assert!(stage.ledger.read_proofs(file, ONE, layout, ChunkNumber(0), 8).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn generations_and_files_do_not_mix() {
    let stage = Stage::set().await;
    // Neighbours by their ids, so that a range that is too wide reads them.
    let mut next = *FileId::generate().as_bytes();
    let file = FileId::from_bytes(next);
    next[15] = next[15].wrapping_add(1);
    let neighbour = FileId::from_bytes(next);
    for layout in [Layout::Children, Layout::Embedded] {
        for (file, generation) in [(file, ONE), (file, TWO), (neighbour, ONE)] {
            stage.ledger.open_content(file, generation).await.unwrap();
            let outcomes = put(&stage.ledger, layout, &chunks(file, generation, 4)).await;
            assert_eq!(outcomes, [const { PutOutcome::Written }; 4]);
        }
        for (file, generation) in [(file, ONE), (file, TWO), (neighbour, ONE)] {
            let read = stage.ledger.read_chunks(file, generation, layout, ChunkNumber(0), 1000).await.unwrap();
            assert_read(read, &chunks(file, generation, 4).iter().collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn the_largest_file_that_is_kept_in_one_document() {
    let stage = Stage::set().await;
    let file = FileId::generate();
    let mib = MIB as usize;
    stage.ledger.open_content(file, ONE).await.unwrap();
    let whole = bytes(15 * mib, 7);
    let all: Vec<_> = whole.chunks(mib).zip(0..).map(|(data, n)| chunk(file, ONE, n, data.to_vec())).collect();
    assert_eq!(put(&stage.ledger, Layout::Embedded, &all).await, [const { PutOutcome::Written }; 15]);

    let mut joined = Vec::with_capacity(whole.len());
    for from in [0, 8] {
        for chunk in stage.ledger.read_chunks(file, ONE, Layout::Embedded, ChunkNumber(from), 8).await.unwrap() {
            assert_eq!(Digest::of(&chunk.data), chunk.sha256);
            joined.extend_from_slice(&chunk.data);
        }
    }
    assert!(joined == whole, "what was read is not what was written");
    let proofs = stage.ledger.read_proofs(file, ONE, Layout::Embedded, ChunkNumber(0), 15).await.unwrap();
    assert_eq!(proofs, proofs_of(&all.iter().collect::<Vec<_>>()));
}
