use std::fmt::Display;
use std::time::Duration;

use contract::FileId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::{Collection, Database};

/// The content of a database, which a test reads and changes without the services. A file is named by its id or its text.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The database.
    pub db: Database,
}

impl Stored {
    /// The documents of a collection.
    pub fn collection(&self, name: &str) -> Collection<Document> {
        self.db.collection(name)
    }

    /// The records.
    pub fn files(&self) -> Collection<Document> {
        self.collection("files")
    }

    /// A record as MongoDB has it, to check that nothing at all has changed.
    pub async fn document(&self, file: impl Display) -> Document {
        self.files().find_one(by_id(file)).await.unwrap().expect("the file is recorded")
    }

    /// How many documents a collection has.
    pub async fn count(&self, collection: &str) -> u64 {
        self.collection(collection).count_documents(doc! {}).await.unwrap()
    }

    /// How many milliseconds away a date of a record is, by MongoDB's clock; `None` if the record has no such date.
    pub async fn ms_until(&self, file: impl Display, field: &str) -> Option<i64> {
        let away = doc! { "$subtract": [format!("${field}"), "$$NOW"] };
        let look = vec![doc! { "$match": by_id(&file) }, doc! { "$project": { "ms": away } }];
        let mut cursor = self.files().aggregate(look).await.unwrap();
        assert!(cursor.advance().await.unwrap(), "there is no file {file}");
        cursor.deserialize_current().unwrap().get_i64("ms").ok()
    }

    /// Asserts that a date of a record was set to `span` from the moment of the write, within the last few seconds.
    pub async fn assert_set_to(&self, file: impl Display, field: &str, span: Duration) {
        let found = self.ms_until(file, field).await;
        let span = i64::try_from(span.as_millis()).unwrap();
        assert!(found.is_some_and(|ms| ms <= span && ms > span - 7_000), "{field}: expected {span}, found {found:?}");
    }

    /// Changes a record by an update pipeline.
    pub async fn change(&self, file: impl Display, pipeline: Vec<Document>) {
        assert_eq!(self.files().update_one(by_id(file), pipeline).await.unwrap().matched_count, 1);
    }

    /// Sets a date of a record to this many milliseconds ago by MongoDB's clock, so that the test need not wait.
    pub async fn set_ago(&self, file: impl Display, field: &str, ms: i64) {
        self.change(file, vec![doc! { "$set": { field: { "$subtract": ["$$NOW", ms] } } }]).await;
    }

    /// Makes the lease on a file expire.
    pub async fn end_lease(&self, file: impl Display) {
        self.set_ago(&file, "lease.until", 1).await;
        self.set_ago(&file, "due_at", 1).await;
    }

    /// Deletes a chunk of the first generation of a larger file.
    pub async fn delete_chunk(&self, file: impl Display, number: u32) {
        let id = doc! { "_id": content_id(file, 1, Some(number)) };
        assert_eq!(self.collection("chunks").delete_one(id).await.unwrap().deleted_count, 1);
    }

    /// Changes a chunk of the first generation of a larger file.
    pub async fn change_chunk(&self, file: impl Display, number: u32, change: impl FnOnce(&mut Document)) {
        self.change_content("chunks", content_id(file, 1, Some(number)), change).await;
    }

    /// Changes a chunk of the first generation of a small file.
    pub async fn change_embedded(&self, file: impl Display, number: u32, change: impl FnOnce(&mut Document)) {
        let change = |content: &mut Document| {
            change(content.get_document_mut("c").unwrap().get_document_mut(number.to_string()).unwrap());
        };
        self.change_content("contents", content_id(file, 1, None), change).await;
    }

    async fn change_content(&self, collection: &str, id: Bson, change: impl FnOnce(&mut Document)) {
        let (collection, filter) = (self.collection(collection), doc! { "_id": id });
        let mut document = collection.find_one(filter.clone()).await.unwrap().expect("it is stored");
        change(&mut document);
        collection.replace_one(filter, document).await.unwrap();
    }
}

/// The filter for one record.
pub fn by_id(file: impl Display) -> Document {
    let bytes = id(file).as_bytes().to_vec();
    doc! { "_id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes }) }
}

/// The `_id` of a file's content document; with a number, the `_id` of that chunk.
pub fn content_id(file: impl Display, generation: u32, number: Option<u32>) -> Bson {
    let mut bytes = id(file).as_bytes().to_vec();
    bytes.extend(generation.to_be_bytes());
    if let Some(number) = number {
        bytes.extend(number.to_be_bytes());
        bytes.extend([0, 0]);
    }
    binary(bytes)
}

fn id(file: impl Display) -> FileId {
    file.to_string().parse().expect("a file id")
}

/// Bytes in the form in which MongoDB keeps chunks and keys.
pub fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

/// Changes one byte in the middle of a chunk.
pub fn flip(chunk: &mut Document) {
    let Some(Bson::Binary(data)) = chunk.get_mut("data") else { panic!("a chunk has no data") };
    let middle = data.bytes.len() / 2;
    data.bytes[middle] ^= 1;
}
