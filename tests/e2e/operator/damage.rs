//! Ways to break what is stored, and to see what a record says.

use contract::FileId;
use harness::System;
use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

pub(super) fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

pub(super) fn by_id(file: &str) -> Document {
    let file: FileId = file.parse().unwrap();
    doc! { "_id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: file.as_bytes().to_vec() }) }
}

/// The `_id` of a file's content document, and with a number that of a chunk.
pub(super) fn content_id(file: &str, generation: u32, number: Option<u32>) -> Bson {
    let file: FileId = file.parse().unwrap();
    let mut id = file.as_bytes().to_vec();
    id.extend(generation.to_be_bytes());
    if let Some(number) = number {
        id.extend(number.to_be_bytes());
        id.extend([0, 0]);
    }
    binary(id)
}

pub(super) async fn collection(system: &System, name: &str) -> Collection<Document> {
    system.database().await.collection(name)
}

pub(super) async fn record(system: &System, file: &str) -> Document {
    collection(system, "files").await.find_one(by_id(file)).await.unwrap().unwrap()
}

/// Changes a record by an update's pipeline.
pub(super) async fn change(system: &System, file: &str, pipeline: Vec<Document>) {
    let files = collection(system, "files").await;
    assert_eq!(files.update_one(by_id(file), pipeline).await.unwrap().matched_count, 1);
}

/// Sets a date of a record to so many seconds ago: what waiting does, without the waiting.
pub(super) async fn set_ago(system: &System, file: &str, field: &str, seconds: i64) {
    let ago = doc! { "$subtract": ["$$NOW", seconds * 1000] };
    change(system, file, vec![doc! { "$set": { field: ago } }]).await;
}

/// Deletes a chunk of the first generation of a larger file.
pub(super) async fn delete_chunk(system: &System, file: &str, number: u32) {
    let chunks = collection(system, "chunks").await;
    let deleted = chunks.delete_one(doc! { "_id": content_id(file, 1, Some(number)) }).await.unwrap();
    assert_eq!(deleted.deleted_count, 1);
}

/// Changes the chunk of a larger file.
pub(super) async fn change_chunk(system: &System, file: &str, number: u32, change: impl FnOnce(&mut Document)) {
    let chunks = collection(system, "chunks").await;
    let filter = doc! { "_id": content_id(file, 1, Some(number)) };
    let mut document = chunks.find_one(filter.clone()).await.unwrap().unwrap();
    change(&mut document);
    chunks.replace_one(filter, document).await.unwrap();
}

/// Changes a chunk of a small file.
pub(super) async fn change_embedded(system: &System, file: &str, number: u32, change: impl FnOnce(&mut Document)) {
    let contents = collection(system, "contents").await;
    let filter = doc! { "_id": content_id(file, 1, None) };
    let mut document = contents.find_one(filter.clone()).await.unwrap().unwrap();
    change(document.get_document_mut("c").unwrap().get_document_mut(number.to_string()).unwrap());
    contents.replace_one(filter, document).await.unwrap();
}

/// Changes one byte in the middle of a chunk.
pub(super) fn flip(chunk: &mut Document) {
    let Some(Bson::Binary(data)) = chunk.get_mut("data") else { panic!("a chunk has no data") };
    let middle = data.bytes.len() / 2;
    data.bytes[middle] ^= 1;
}
