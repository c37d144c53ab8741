use std::collections::BTreeSet;

use contract::{ChunkNumber, FileId, Generation, Step};
use ledger::{Batch, FoundKey, Layout, Moment, Position};
use mongodb::bson::{Document, doc};
use testing::{MIB, Sandbox, by_id, content_id};

use crate::stage::{Stage, options};

/// Walks to the end, and sees that every step keeps to its limit.
async fn walk<T>(limit: u16, mut step: impl AsyncFnMut(Option<&Position>) -> Batch<T>) -> Vec<T> {
    let (mut all, mut place) = (Vec::new(), None);
    loop {
        let batch = step(place.as_ref()).await;
        assert!(batch.found.len() <= usize::from(limit) && all.len() < 1000, "the walk comes to an end");
        all.extend(batch.found);
        place = batch.next;
        if place.is_none() {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_met_once_whatever_its_id() {
    let stage = Stage::set().await;
    let mut expected = BTreeSet::new();
    for _ in 0..7 {
        expected.insert(stage.prepared(3).await.to_string());
    }
    // Sorted before all ids, and behind them.
    stage.files().insert_many([doc! { "_id": 7 }, doc! { "_id": "text" }, doc! { "_id": true }]).await.unwrap();
    expected.extend(["7", "\"text\"", "true"].map(str::to_owned));
    for limit in [1, 2, 3, 5, 10, 11] {
        let found = walk(limit, async |after| stage.ledger.audit_files(after, limit).await.unwrap()).await;
        let keys: BTreeSet<_> = found.iter().map(|found| found.key.clone()).collect();
        assert_eq!((found.len(), &keys), (10, &expected), "by {limit}");
        for found in &found {
            assert_eq!(found.record.is_ok(), found.id.is_some(), "{}", found.key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_lie_as_mongodbs_clock_says() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    stage.set_ago(file, "due_at", 90_000).await;
    stage.files().update_one(by_id(file), doc! { "$unset": { "outbox_at": "" } }).await.unwrap();
    stage.files().update_one(by_id(file), doc! { "$set": { "lease": { "owner": "a", "worker": "b" } } }).await.unwrap();
    stage.set_ago(file, "lease.until", -60_000).await;
    let found = stage.ledger.audit_files_by_id(&[file, FileId::generate()]).await.unwrap();
    let [found] = &found[..] else { panic!("one is known, found {found:?}") };
    let Moment::Past(due) = found.ages.due else { panic!("{:?}", found.ages) };
    assert!((90..120).contains(&due.as_secs()), "{due:?}");
    assert_eq!((found.ages.outbox, found.ages.lease), (Moment::Unset, Moment::Ahead));
    assert!(found.is_held());
    stage.set_ago(file, "lease.until", 0).await;
    assert!(!stage.ledger.audit_files_by_id(&[file]).await.unwrap()[0].is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_generation_with_content_is_met_once() {
    let stage = Stage::set().await;
    let (contents, chunks) = (stage.db.collection::<Document>("contents"), stage.db.collection::<Document>("chunks"));
    let files: Vec<FileId> = (0..4).map(|_| FileId::generate()).collect();
    let mut expected = Vec::new();
    for file in &files {
        for generation in [1, 2, 256, u32::MAX] {
            contents.insert_one(doc! { "_id": content_id(*file, generation, None) }).await.unwrap();
            let numbers =
                [0, 1, 255, 256, u32::MAX].map(|number| doc! { "_id": content_id(*file, generation, Some(number)) });
            chunks.insert_many(numbers).await.unwrap();
            expected.push((*file, Generation(generation)));
        }
    }
    expected.sort();
    for limit in [1, 3, 16, 17, 100] {
        for layout in [Layout::Embedded, Layout::Children] {
            let found =
                walk(limit, async |after| stage.ledger.audit_content(layout, after, limit).await.unwrap()).await;
            let mut keys = Vec::new();
            for found in found {
                assert_eq!(found.layout, layout);
                let FoundKey::Of(file, generation) = found.key else { panic!("{:?}", found.key) };
                keys.push((file, generation));
            }
            assert_eq!(keys, expected, "{layout:?} by {limit}");
        }
    }
    // A chunk's key is none of a content document.
    contents.insert_one(doc! { "_id": content_id(files[0], 1, Some(0)) }).await.unwrap();
    let found = stage.ledger.audit_content(Layout::Embedded, None, 100).await.unwrap().found;
    assert_eq!(found.iter().filter(|found| matches!(found.key, FoundKey::Unreadable(_))).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_waits_for_somebody_is_made_due() {
    let stage = Stage::set().await;
    let due = async |file: FileId| {
        let version = stage.record(file).await.version;
        stage.ledger.make_due(file, version).await.unwrap()
    };
    let prepared = stage.prepared(3).await;
    assert_eq!(stage.ledger.make_due(prepared, 7).await.unwrap(), None, "another version");
    assert_eq!(due(prepared).await, Some(Step::Prepare));
    stage.assert_set_to(prepared, "due_at", std::time::Duration::ZERO).await;
    stage.set_ago(prepared, "not_before", -5_000).await;
    assert_eq!(due(prepared).await, None, "it waits for its next attempt");

    let held = stage.chunking(3).await.lease.file;
    assert_eq!(due(held).await, None, "somebody holds it");
    stage.end_lease(held).await;
    assert_eq!(due(held).await, Some(Step::Prepare));

    let resting = stage.resting(b"content").await;
    assert_eq!(due(resting).await, None, "nobody has asked for its delivery");
    let accepted = stage.accepted(b"content").await;
    assert_eq!(due(accepted).await, Some(Step::Finalise));
    let delivering = stage.delivering(b"content").await.lease.file;
    stage.end_lease(delivering).await;
    assert_eq!(due(delivering).await, Some(Step::Finalise));
    for ended in [stage.delivered(b"content").await, stage.failed().await] {
        assert_eq!(due(ended).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_nobody_reaches_is_removed() {
    let stage = Stage::set().await;
    let file = stage.prepared(3 * u64::from(MIB)).await;
    let chunks = stage.db.collection::<Document>("chunks");
    for generation in [2, 3, 4] {
        let numbers = (0..3).map(|number| doc! { "_id": content_id(file, generation, Some(number)) });
        chunks.insert_many(numbers).await.unwrap();
    }
    stage.files().update_one(by_id(file), doc! { "$set": { "generation": 3_i64 } }).await.unwrap();
    let remove = async |generation| stage.ledger.remove_unreachable(file, Generation(generation)).await.unwrap();
    for generation in [3, 4] {
        assert!(!remove(generation).await);
    }
    let lease = doc! { "owner": "a", "worker": "b" };
    stage.files().update_one(by_id(file), doc! { "$set": { "lease": lease } }).await.unwrap();
    stage.set_ago(file, "lease.until", -60_000).await;
    assert!(!remove(2).await, "somebody works on it");
    assert_eq!(stage.count("chunks").await, 9);
    stage.set_ago(file, "lease.until", 1).await;
    assert!(remove(2).await);
    assert_eq!(stage.count("chunks").await, 6);
    stage.files().update_one(by_id(file), doc! { "$set": { "content_removed": 3_i64 } }).await.unwrap();
    assert!(remove(3).await);
    assert_eq!(stage.count("chunks").await, 3);
    assert!(!stage.ledger.remove_unreachable(FileId::generate(), Generation(1)).await.unwrap(), "no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_wrongly_is_told_from_what_cannot_be_reached() {
    let stage = Stage::set().await;
    let file = FileId::generate();
    let chunks = stage.db.collection::<Document>("chunks");
    chunks.insert_one(doc! { "_id": content_id(file, 1, Some(0)), "len": "three" }).await.unwrap();
    let read = stage.ledger.read_proofs(file, Generation(1), Layout::Children, ChunkNumber(0), 1).await;
    assert!(read.unwrap_err().is_corrupt_data());
    let mut nowhere = options(&Sandbox::new().await);
    nowhere.uri = "mongodb://127.0.0.1:1/".into();
    nowhere.server_selection_timeout = std::time::Duration::from_millis(100);
    assert!(!ledger::Ledger::connect(&nowhere).await.unwrap_err().is_corrupt_data());
}
