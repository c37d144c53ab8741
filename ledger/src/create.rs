use std::collections::BTreeMap;
use std::time::Duration;

use contract::{EventKind, FileId, Generation, ObjectName, State};
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;

use crate::bson_form::{file_id_in, literal, now_plus, to_bson};
use crate::error::is_duplicate_key;
use crate::filter::by_id;
use crate::{FileRecord, Idempotency, Ledger, LedgerError, Source};

/// A file to record.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// The id it gets.
    pub id: FileId,
    /// What to read.
    pub source: Source,
    /// Its own name.
    pub name: ObjectName,
    /// Its media type.
    pub media_type: String,
    /// The caller's own notes about it.
    pub metadata: BTreeMap<String, String>,
    /// Who asks for it.
    pub user: String,
    /// The remote, if the request named one.
    pub remote: Option<String>,
    /// The caller's key, if it sent one.
    pub idempotency: Option<Idempotency>,
}

/// What became of a request to record a file.
#[derive(Debug)]
pub enum Created {
    /// Recorded now. Publish the hint to prepare, unless the source must stand still first (`not_before`).
    New(Box<FileRecord>),
    /// The same request was recorded before, under the same key.
    Existing(Box<FileRecord>),
    /// The key belongs to another request; nothing changed.
    KeyReused,
}

impl Ledger {
    /// Records a file. The record is durable when this returns.
    pub async fn create(&self, new: NewFile) -> Result<Created, LedgerError> {
        let operation = "recording a file";
        let document = new_document(&new, self.hint_push, self.settle)?;
        // An upsert, not an insert: only an update can use MongoDB's time. An existing record stays as it is, so the
        // driver may send this twice.
        let pipeline = vec![doc! { "$replaceWith": {
            "$cond": [{ "$eq": [{ "$type": "$version" }, "missing"] }, document, "$$ROOT"],
        } }];
        let (files, filter, limit) = (self.files.clone(), by_id(new.id), self.server_limit());
        let made = self
            .run(operation, async move {
                let update = files.find_one_and_update(filter, pipeline);
                update.upsert(true).return_document(ReturnDocument::After).max_time(limit).await
            })
            .await;
        match made {
            Ok(Some(document)) => Ok(Created::New(Box::new(FileRecord::from_document(document)?))),
            Ok(None) => Err(LedgerError::Unreadable {
                collection: "files",
                detail: format!("{} was not returned after it was recorded", new.id),
            }),
            Err(LedgerError::Mongo { source, .. }) if is_duplicate_key(&source) => {
                let before = match &new.idempotency {
                    Some(idempotency) => self.find_created(&new.user, idempotency).await?,
                    None => None,
                };
                before.ok_or(LedgerError::Mongo { operation, source })
            }
            Err(error) => Err(error),
        }
    }

    /// The file that was recorded under the caller's key; `None` if the key is new. No failover undoes the answer.
    pub async fn find_created(&self, user: &str, idempotency: &Idempotency) -> Result<Option<Created>, LedgerError> {
        let files = self.files.clone();
        let filter = doc! { "user": user, "idempotency.key": &idempotency.key };
        let found = self.run("looking up an Idempotency-Key", async move { files.find_one(filter).await }).await?;
        let Some(id) = found.and_then(|found| found.get("_id").and_then(file_id_in)) else { return Ok(None) };
        let Some(record) = self.confirmed_file(id).await? else { return Ok(None) };
        let same = record.idempotency.as_ref().is_some_and(|known| known.fingerprint == idempotency.fingerprint);
        Ok(Some(if same { Created::Existing(Box::new(record)) } else { Created::KeyReused }))
    }
}

fn new_document(new: &NewFile, hint_push: Duration, settle: Duration) -> Result<Document, LedgerError> {
    let prepared = State::Prepared.as_str();
    let mut document = doc! {
        "_id": literal(crate::bson_form::id(new.id)),
        "version": literal(1_i64),
        "epoch": literal(0_i64),
        "state": prepared,
        "source": literal(to_bson(&new.source)?),
        "name": literal(new.name.as_str()),
        "media_type": literal(new.media_type.as_str()),
        "metadata": literal(to_bson(&new.metadata)?),
        "user": literal(new.user.as_str()),
        "generation": literal(i64::from(Generation::FIRST.0)),
        "created_at": "$$NOW",
        "updated_at": "$$NOW",
        "queued_at": "$$NOW",
        "due_at": now_plus(hint_push),
        "outbox": [{ "version": literal(1_i64), "event": EventKind::Prepared.as_str(), "state": prepared, "at": "$$NOW" }],
        "outbox_at": "$$NOW",
    };
    if !settle.is_zero() {
        // Nobody can claim the file before, so a source that looks the same at the claim has stood still for so long.
        document.insert("not_before", now_plus(settle));
        document.insert("due_at", now_plus(settle));
    }
    if let Some(remote) = &new.remote {
        document.insert("remote", literal(remote.as_str()));
    }
    if let Some(idempotency) = &new.idempotency {
        document.insert("idempotency", literal(to_bson(idempotency)?));
    }
    Ok(document)
}
