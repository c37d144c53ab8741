//! Content that is no longer needed goes; nothing else does.

use contract::{ChunkNumber, EventKind, FileId, Generation, ProblemKind, State};
use ledger::{ExpectationOutcome, Layout, NewChunk, PutOutcome, Requeued};
use mongodb::bson::doc;
use testing::bytes;

use crate::stage::{self, RETENTION, Stage, expectation};

fn chunk(file: FileId, generation: u32, number: u32) -> NewChunk {
    stage::chunk(file, Generation(generation), number, bytes(100, number.into()))
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

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap()
}

/// A file that rests for longer than it may.
async fn rested(stage: &Stage) -> FileId {
    let file = stage.resting(b"abc").await;
    stage.set_ago(file, "updated_at", millis(RETENTION.stored)).await;
    file
}

#[tokio::test]
async fn what_nobody_finalised_in_time_fails_and_its_content_goes() {
    let stage = Stage::set().await;
    let file = rested(&stage).await;
    write(&stage, file, 1, 3).await;
    let before = stage.record(file).await;
    let ended = stage.ledger.end_rest(file).await.unwrap().unwrap();
    let error = ended.error.clone().unwrap();
    assert_eq!((ended.state, error.kind()), (State::Failed, Some(ProblemKind::NotFinalised)));
    let event = ended.outbox().events.pop().unwrap();
    assert_eq!((event.event, event.version), (EventKind::Failed, before.version + 1));
    assert_eq!(event.detail, serde_json::json!({ "error": error }));
    stage.assert_set_to(file, "due_at", std::time::Duration::ZERO).await;
    assert!(matches!(stage.expect(file, &expectation(b"abc")).await, ExpectationOutcome::Ended(_)));
    assert!(stage.ledger.end_rest(file).await.unwrap().is_none(), "once");
    assert!(stage.ledger.remove_content(file).await.unwrap());
    assert_eq!(stored(&stage, file, 1).await, (0, 0));
    // An operator may still have it read again; then it rests again.
    assert!(matches!(stage.ledger.requeue(file).await.unwrap(), Requeued::Chunking(_)));
}

#[tokio::test]
async fn a_file_that_may_still_rest_or_goes_on_is_not_given_up() {
    let stage = Stage::set().await;
    let resting = stage.resting(b"abc").await;
    let finalised = rested(&stage).await;
    stage.expect(finalised, &expectation(b"abc")).await;
    for file in [finalised, stage.prepared(3).await, stage.delivered(b"abc").await, FileId::generate()] {
        assert!(stage.ledger.end_rest(file).await.unwrap().is_none());
    }
    // It was due too early: by an older setting.
    stage.set_ago(resting, "due_at", 1_000).await;
    assert!(stage.ledger.end_rest(resting).await.unwrap().is_none());
    assert_eq!(stage.record(resting).await.state, State::Stored);
    stage.assert_set_to(resting, "due_at", RETENTION.stored).await;
}

/// A file that has ended so long ago that its record may go.
async fn forgotten(stage: &Stage) -> FileId {
    let file = stage.delivered(b"abc").await;
    stage.ledger.remove_content(file).await.unwrap();
    stage.ledger.pop_outbox(file, i64::MAX).await.unwrap();
    stage.set_ago(file, "updated_at", millis(RETENTION.record.unwrap()) + 1_000).await;
    file
}

#[tokio::test]
async fn old_records_go_when_nothing_of_them_is_needed_any_more() {
    let stage = Stage::set().await;
    let old = forgotten(&stage).await;
    // A chunk that was written late: without the record nobody would know that it does not count.
    write(&stage, old, 1, 2).await;
    let (recent, untold, uploading, requeued) =
        (forgotten(&stage).await, forgotten(&stage).await, forgotten(&stage).await, forgotten(&stage).await);
    stage.set_ago(recent, "updated_at", 1_000).await;
    stage.change(untold, vec![doc! { "$set": { "outbox": [{ "version": 9_i64 }] } }]).await;
    stage.change(uploading, vec![doc! { "$set": { "delivery.upload": { "id": "u" } } }]).await;
    stage.change(requeued, vec![doc! { "$set": { "state": "failed" } }]).await;
    stage.ledger.requeue(requeued).await.unwrap();
    stage.set_ago(requeued, "updated_at", 10_000_000).await;
    let with_content = stage.delivered(b"abc").await;
    stage.set_ago(with_content, "updated_at", 10_000_000).await;

    assert_eq!(stage.ledger.delete_old_records(10).await.unwrap(), 1);
    assert!(stage.ledger.file(old).await.unwrap().is_none());
    assert_eq!(stored(&stage, old, 1).await, (0, 0));
    assert_eq!(stage.count("files").await, 5);
    assert_eq!(stage.ledger.delete_old_records(10).await.unwrap(), 0);
    // A hint that comes late finds nothing to do.
    assert!(matches!(stage.try_claim_delivering(old).await, ledger::Claim::NothingToDo));
}

#[tokio::test]
async fn of_many_old_records_the_oldest_go_first() {
    let stage = Stage::set().await;
    let files = [forgotten(&stage).await, forgotten(&stage).await, forgotten(&stage).await];
    stage.set_ago(files[1], "updated_at", 90_000_000).await;
    assert_eq!(stage.ledger.delete_old_records(1).await.unwrap(), 1);
    assert!(stage.ledger.file(files[1]).await.unwrap().is_none());
    assert_eq!(stage.ledger.delete_old_records(10).await.unwrap(), 2);
}
