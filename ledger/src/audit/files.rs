use std::time::Duration;

use contract::FileId;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{Batch, Position, after_position};
use crate::bson_form::{file_id_in, id};
use crate::{FileRecord, Ledger, LedgerError};

/// A record as an audit finds it.
#[derive(Debug)]
pub struct FoundFile {
    /// Its id; `None` if the `_id` is not a file id.
    pub id: Option<FileId>,
    /// Its `_id`, for people.
    pub key: String,
    /// The record, unless it cannot be read.
    pub record: Result<FileRecord, LedgerError>,
    /// How long ago each of its times was.
    pub ages: Ages,
}

/// How long ago each time in a record was, by MongoDB's clock.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// `due_at`: when somebody must look at the file.
    pub due: Moment,
    /// `outbox_at`: since when the outbox has been waiting.
    pub outbox: Moment,
    /// When the lease expires.
    pub lease: Moment,
    /// When the state last changed.
    pub updated: Moment,
}

/// A time in a record, compared with now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The record has none.
    Unset,
    /// It is yet to come.
    Ahead,
    /// It was this long ago.
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

    fn of(moment: Option<&Bson>, now: DateTime) -> Self {
        let Some(moment) = moment.and_then(Bson::as_datetime) else { return Self::Unset };
        // A time that equals now counts as past, as it does for a claim.
        u64::try_from(now.timestamp_millis().saturating_sub(moment.timestamp_millis()))
            .map_or(Self::Ahead, |ago| Self::Past(Duration::from_millis(ago)))
    }
}

impl FoundFile {
    /// Whether somebody holds the file now.
    pub fn is_held(&self) -> bool {
        self.ages.lease == Moment::Ahead
    }

    fn of(document: Document, now: DateTime) -> Self {
        let id = document.get("_id").and_then(file_id_in);
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
    /// The records after `after`, at most `limit`, oldest first, including those that cannot be read.
    pub async fn audit_files(&self, after: Option<&Position>, limit: u16) -> Result<Batch<FoundFile>, LedgerError> {
        let (files, after, limit) = (self.files.clone(), after.cloned(), usize::from(limit));
        let now = self.now().await?;
        let documents = self
            .run("reading records", async move { after_position(&files, after.as_ref(), Document::new(), limit).await })
            .await?;
        let last = documents.last().filter(|_| documents.len() == limit);
        let next = last.and_then(|document| document.get("_id").cloned()).map(Position);
        Ok(Batch { found: documents.into_iter().map(|document| FoundFile::of(document, now)).collect(), next })
    }

    /// The records of these files; missing ones are left out.
    pub async fn audit_files_by_id(&self, ids: &[FileId]) -> Result<Vec<FoundFile>, LedgerError> {
        let files = self.files.clone();
        let filter = doc! { "_id": { "$in": ids.iter().map(|file| id(*file)).collect::<Vec<_>>() } };
        let now = self.now().await?;
        let documents: Vec<Document> =
            self.run("reading records", async move { files.find(filter).await?.try_collect().await }).await?;
        Ok(documents.into_iter().map(|document| FoundFile::of(document, now)).collect())
    }
}
