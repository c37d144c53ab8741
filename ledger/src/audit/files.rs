use std::time::Duration;

use contract::{FileId, Timestamp};
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{Batch, Position, behind};
use crate::bson_form::id;
use crate::{FileRecord, Ledger, LedgerError};

/// A record as an audit finds it.
#[derive(Debug)]
pub struct FoundFile {
    /// Its id; `None` where the `_id` is no file id.
    pub id: Option<FileId>,
    /// Its `_id`, for people.
    pub key: String,
    /// The record, unless it cannot be read.
    pub record: Result<FileRecord, LedgerError>,
    /// How its moments lie.
    pub ages: Ages,
}

/// How the moments of a record lie, by MongoDB's clock.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// When somebody must look at it, `due_at`.
    pub due: Moment,
    /// Since when its outbox waits, `outbox_at`.
    pub outbox: Moment,
    /// When its lease runs out.
    pub lease: Moment,
    /// When its state last changed.
    pub updated: Moment,
}

/// How a moment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// There is none.
    Unset,
    /// It is yet to come.
    Ahead,
    /// It was so long ago.
    Past(Duration),
}

impl Moment {
    /// How long ago it was, if that is longer than `span`.
    pub fn longer_ago_than(self, span: Duration) -> Option<Duration> {
        match self {
            Self::Past(ago) if ago > span => Some(ago),
            _ => None,
        }
    }

    fn of(moment: Option<&Bson>, now: Timestamp) -> Self {
        let Some(moment) = moment.and_then(Bson::as_datetime) else { return Self::Unset };
        // Up to now: a moment that is now is past, as for a claim.
        u64::try_from(now.as_millis().saturating_sub(moment.timestamp_millis()))
            .map_or(Self::Ahead, |ago| Self::Past(Duration::from_millis(ago)))
    }
}

impl FoundFile {
    /// Whether somebody holds the file now.
    pub fn is_held(&self) -> bool {
        self.ages.lease == Moment::Ahead
    }

    fn of(document: Document, now: Timestamp) -> Self {
        let id = document.get("_id").and_then(file_id);
        let key = match (id, document.get("_id")) {
            (Some(id), _) => id.to_string(),
            (None, Some(other)) => other.to_string(),
            (None, None) => String::new(),
        };
        let lease = document.get_document("lease").ok().and_then(|lease| lease.get("until"));
        let ages = Ages {
            due: Moment::of(document.get("due_at"), now),
            outbox: Moment::of(document.get("outbox_at"), now),
            lease: Moment::of(lease, now),
            updated: Moment::of(document.get("updated_at"), now),
        };
        Self { id, key, ages, record: FileRecord::from_document(document) }
    }
}

impl Ledger {
    /// The records behind `after`, at most `limit`, oldest first. Those that cannot be read too.
    pub async fn audit_files(&self, after: Option<&Position>, limit: u16) -> Result<Batch<FoundFile>, LedgerError> {
        let (files, after, limit) = (self.files.clone(), after.cloned(), usize::from(limit));
        let now = self.now().await?;
        let documents = self
            .run("reading records", async move { behind(&files, after.as_ref(), Document::new(), limit).await })
            .await?;
        let last = documents.last().filter(|_| documents.len() == limit);
        let next = last.and_then(|document| document.get("_id").cloned()).map(Position);
        Ok(Batch { found: documents.into_iter().map(|document| FoundFile::of(document, now)).collect(), next })
    }

    /// The records of these files; those that are not there are left out.
    pub async fn audit_files_by_id(&self, ids: &[FileId]) -> Result<Vec<FoundFile>, LedgerError> {
        let files = self.files.clone();
        let filter = doc! { "_id": { "$in": ids.iter().map(|file| id(*file)).collect::<Vec<_>>() } };
        let now = self.now().await?;
        let documents = self
            .run("reading records", async move {
                let mut cursor = files.find(filter).await?;
                let mut documents = Vec::new();
                while cursor.advance().await? {
                    documents.push(cursor.deserialize_current()?);
                }
                Ok(documents)
            })
            .await?;
        Ok(documents.into_iter().map(|document| FoundFile::of(document, now)).collect())
    }

    /// MongoDB's time.
    async fn now(&self) -> Result<Timestamp, LedgerError> {
        let db = self.db.clone();
        let hello = self.run("asking for the time", async move { db.run_command(doc! { "hello": 1 }).await }).await?;
        let now = hello.get_datetime("localTime").map(|now: &DateTime| now.timestamp_millis());
        now.map(Timestamp::from_millis)
            .map_err(|e| LedgerError::mongo("asking for the time", mongodb::error::Error::custom(e)))
    }
}

fn file_id(id: &Bson) -> Option<FileId> {
    match id {
        Bson::Binary(binary) => <[u8; 16]>::try_from(binary.bytes.as_slice()).ok().map(FileId::from_bytes),
        _ => None,
    }
}
