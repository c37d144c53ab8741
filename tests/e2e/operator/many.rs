//! `waybill doctor` on many files: it asks MongoDB about many at once.

use contract::FileId;
use futures_util::TryStreamExt;
use harness::{Options, System};
use mongodb::bson::{Document, doc};
use testing::{Stored, binary, by_id, content_id};

use super::doctor::{doctor, expected, healthy, kinds};
use super::stop_services;

/// Files of each kind: so many that a query for each would be seen.
const FILES: usize = 400;

/// How many documents one command inserts.
const BATCH: usize = 100;

/// The operations that a doctor may need for so many files. One for each file would be three times as many.
const OPERATIONS: u64 = FILES as u64;

/// The documents that hold the content of a stored file, without its bytes: they are not looked at.
async fn content(stored: &Stored, file: &str, collection: &str) -> Vec<Document> {
    let filter = match collection {
        "contents" => doc! { "_id": content_id(file, 1, None) },
        _ => doc! { "_id": { "$gte": content_id(file, 1, Some(0)), "$lte": content_id(file, 1, Some(u32::MAX)) } },
    };
    let mut documents: Vec<Document> =
        stored.collection(collection).find(filter).sort(doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap();
    for document in documents.iter_mut().filter(|document| document.contains_key("data")) {
        document.insert("data", binary(vec![0]));
    }
    documents
}

/// Records copies of a stored file, each with its content. Returns their ids in order.
async fn copies(stored: &Stored, file: &str, collection: &str) -> Vec<String> {
    let (record, content) = (stored.document(file).await, content(stored, file, collection).await);
    let ids: Vec<String> = (0..FILES).map(|_| FileId::generate().to_string()).collect();
    for ids in ids.chunks(BATCH) {
        let records = ids.iter().map(|id| {
            let mut copy = record.clone();
            copy.extend(by_id(id));
            copy
        });
        stored.files().insert_many(records).await.unwrap();
        let contents: Vec<Document> = ids
            .iter()
            .flat_map(|id| {
                content.iter().enumerate().map(move |(number, document)| {
                    let mut copy = document.clone();
                    let number = (collection == "chunks").then(|| u32::try_from(number).unwrap());
                    copy.insert("_id", content_id(id, 1, number));
                    copy
                })
            })
            .collect();
        if !contents.is_empty() {
            stored.collection(collection).insert_many(contents).await.unwrap();
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_are_examined_by_few_operations() {
    let options = Options { files: "chunk_size = 65536\nembed_limit = 131072".into(), ..Options::default() };
    let mut system = System::start(options).await;
    let (small, _) = system.store("small", 100_000).await;
    let (large, _) = system.store("large", 150_000).await;
    let (empty, _) = system.store("empty", 0).await;
    stop_services(&mut system);
    let stored = system.stored().await;
    let small = copies(&stored, &small, "contents").await;
    let large = copies(&stored, &large, "chunks").await;
    copies(&stored, &empty, "contents").await;

    stored.db.run_command(doc! { "profile": 2 }).await.unwrap();
    healthy(&system, &[]).await;
    stored.db.run_command(doc! { "profile": 0 }).await.unwrap();
    let operations = stored.count("system.profile").await;
    assert!((1..OPERATIONS).contains(&operations), "{operations} operations");

    // Each kind of damage is found all the same, wherever it is.
    let (chunks, contents) = (stored.collection("chunks"), stored.collection("contents"));
    let chunk = |file: &str, number| doc! { "_id": content_id(file, 1, Some(number)) };
    let whole = |file: &str| doc! { "_id": content_id(file, 1, None) };
    let [first, last] = [&large[0], &large[FILES - 1]];
    chunks.delete_one(chunk(first, 0)).await.unwrap();
    chunks.delete_one(chunk(last, 2)).await.unwrap();
    chunks.update_one(chunk(&large[200], 1), doc! { "$set": { "len": 7_i64 } }).await.unwrap();
    chunks.update_one(chunk(&large[201], 1), doc! { "$unset": { "sha256": "" } }).await.unwrap();
    let mut beyond = chunks.find_one(chunk(&large[202], 2)).await.unwrap().unwrap();
    beyond.extend(chunk(&large[202], 3));
    chunks.insert_one(beyond).await.unwrap();
    contents.delete_one(whole(&small[0])).await.unwrap();
    contents.update_one(whole(&small[1]), doc! { "$unset": { "c.1": "" } }).await.unwrap();
    contents.update_one(whole(&small[2]), doc! { "$set": { "c.0.len": 7_i64 } }).await.unwrap();
    contents.update_one(whole(&small[3]), doc! { "$set": { "c": "none" } }).await.unwrap();
    let found = doctor(&system, &[]).await.expect(1);
    let all = [
        ("chunk-missing", &**first),
        ("chunk-missing", last),
        ("chunk-length", &large[200]),
        ("chunk-unreadable", &large[201]),
        ("chunk-beyond-end", &large[202]),
        ("chunk-missing", &small[0]),
        ("chunk-missing", &small[1]),
        ("chunk-length", &small[2]),
        ("chunk-unreadable", &small[3]),
    ];
    assert_eq!(kinds(&found), expected(&all));
}
