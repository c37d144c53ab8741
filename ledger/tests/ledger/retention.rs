//! Content that is no longer needed goes; nothing else does.

use contract::{ChunkNumber, Digest, FileId, Generation};
use ledger::{Layout, NewChunk, PutOutcome, Requeued};
use testing::bytes;

use crate::stage::Stage;

fn chunk(file: FileId, generation: u32, number: u32) -> NewChunk {
    let data = bytes(100, number.into());
    let generation = Generation(generation);
    NewChunk { file, generation, number: ChunkNumber(number), sha256: Digest::of(&data), data: data.into() }
}

/// Writes chunks of a generation in both layouts.
async fn write(stage: &Stage, file: FileId, generation: u32, count: u32) {
    let chunks = (0..count).map(|number| chunk(file, generation, number)).collect();
    let written = stage.ledger.put_children(chunks).await.unwrap();
    assert!(written.iter().all(|outcome| *outcome == PutOutcome::Written), "{written:?}");
    stage.ledger.put_whole(vec![chunk(file, generation, 0)]).await.unwrap();
}

async fn stored(stage: &Stage, file: FileId, generation: u32) -> (usize, usize) {
    let count = async |layout| {
        let from = ChunkNumber(0);
        stage.ledger.read_proofs(file, Generation(generation), layout, from, 4096).await.unwrap().len()
    };
    (count(Layout::Children).await, count(Layout::Embedded).await)
}

/// Walks over everything once.
async fn walk(stage: &Stage) -> usize {
    let mut removed = 0;
    for layout in [Layout::Children, Layout::Embedded] {
        let mut at = None;
        while let Some(walked) = stage.ledger.collect_garbage(layout, at).await.unwrap() {
            removed += usize::from(walked.removed);
            at = Some(walked.file);
        }
    }
    removed
}

#[tokio::test]
async fn content_past_its_retention_goes_and_only_that() {
    let stage = Stage::set().await;
    let (file, other) = (stage.delivered(b"abc").await, stage.delivered(b"abc").await);
    // More than one command removes.
    write(&stage, file, 1, 600).await;
    write(&stage, other, 1, 3).await;
    let receipt = stage.record(file).await.receipt;

    assert!(stage.ledger.remove_content(file).await.unwrap());
    assert_eq!((stored(&stage, file, 1).await, stored(&stage, other, 1).await), ((0, 0), (3, 1)));
    let record = stage.record(file).await;
    assert_eq!((record.content_removed, record.receipt), (Some(Generation(1)), receipt));
    assert_eq!(stage.ms_until(file, "due_at").await, None, "nothing more is to be done");
    assert!(stage.ledger.remove_content(file).await.unwrap(), "whoever does it twice does no harm");
}

#[tokio::test]
async fn a_file_that_goes_on_keeps_its_content() {
    let stage = Stage::set().await;
    for file in
        [stage.chunking(3).await.lease.file, stage.resting(b"abc").await, stage.delivering(b"abc").await.lease.file]
    {
        write(&stage, file, 1, 1).await;
        assert!(!stage.ledger.remove_content(file).await.unwrap());
        assert_eq!(stored(&stage, file, 1).await, (1, 1));
    }
    assert!(!stage.ledger.remove_content(FileId::generate()).await.unwrap());
}

#[tokio::test]
async fn a_requeue_that_comes_first_is_not_robbed() {
    let stage = Stage::set().await;
    let file = stage.failed().await;
    write(&stage, file, 1, 2).await;
    assert!(matches!(stage.ledger.requeue(file).await.unwrap(), Requeued::Chunking(_)));
    write(&stage, file, 2, 2).await;
    assert!(!stage.ledger.remove_content(file).await.unwrap());
    assert_eq!(stored(&stage, file, 2).await, (2, 1));
}

#[tokio::test]
async fn a_walk_removes_lower_generations_and_what_came_late_and_never_a_higher_one() {
    let stage = Stage::set().await;
    let requeued = stage.failed().await;
    write(&stage, requeued, 1, 2).await;
    stage.ledger.requeue(requeued).await.unwrap();
    write(&stage, requeued, 2, 2).await;
    write(&stage, requeued, 3, 1).await;
    let late = stage.delivered(b"abc").await;
    assert!(stage.ledger.remove_content(late).await.unwrap());
    write(&stage, late, 1, 2).await;
    // What is not ours is stepped over.
    let strange = mongodb::bson::doc! { "_id": "somebody else's" };
    stage.db.collection::<mongodb::bson::Document>("chunks").insert_one(&strange).await.unwrap();
    stage.db.collection::<mongodb::bson::Document>("contents").insert_one(&strange).await.unwrap();
    let (plain, unknown) = (stage.resting(b"abc").await, FileId::generate());
    write(&stage, plain, 1, 2).await;
    write(&stage, unknown, 1, 2).await;

    assert_eq!(walk(&stage).await, 2, "both layouts of a file go together");
    assert_eq!(stored(&stage, requeued, 1).await, (0, 0));
    assert_eq!((stored(&stage, requeued, 2).await, stored(&stage, requeued, 3).await), ((2, 1), (1, 1)));
    assert_eq!(stored(&stage, late, 1).await, (0, 0));
    assert_eq!((stored(&stage, plain, 1).await, stored(&stage, unknown, 1).await), ((2, 1), (2, 1)));
    assert_eq!(walk(&stage).await, 0);
}
