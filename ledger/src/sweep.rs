use std::time::Duration;

use contract::{FileId, State, Step};
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, doc};

use crate::bson_form::{id, millis, now_plus};
use crate::{FileRecord, Ledger, LedgerError, Outbox};

/// The furthest push of a hint that NATS refused because one is there already.
const PUSH_MAX: Duration = Duration::from_secs(300);

/// States in which a file waits for no hint; what is due then is the end of its retention.
const ENDED: [&str; 3] = [State::Delivered.as_str(), State::Failed.as_str(), State::Cancelled.as_str()];

/// What is to be done about a file that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueAction {
    /// Publish the hint to take this step.
    Hint(Step),
    /// Its retention is over: remove its content.
    RemoveContent,
}

/// A file that nobody has looked at in time.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// The file.
    pub file: FileId,
    /// What to do.
    pub action: DueAction,
    due_at: DateTime,
}

impl Ledger {
    /// Files whose `due_at` has passed, oldest first, at most `limit`.
    pub async fn overdue(&self, limit: u16) -> Result<Vec<Overdue>, LedgerError> {
        let found = self.past("due_at", Duration::ZERO, limit, doc! { "state": 1, "due_at": 1 }).await?;
        found.iter().map(overdue_of).collect()
    }

    /// Pushes a file's `due_at` on, unless somebody else did or it was claimed since. `true`: the action is ours.
    pub async fn push_due(&self, overdue: &Overdue) -> Result<bool, LedgerError> {
        let files = self.relaxed_files();
        let filter = doc! { "_id": id(overdue.file), "due_at": overdue.due_at };
        let push = vec![doc! { "$set": { "due_at": now_plus(self.hint_push) } }];
        let pushed = self.run("pushing a due time on", async move { files.update_one(filter, push).await }).await?;
        Ok(pushed.matched_count == 1)
    }

    /// Pushes `due_at` on further because NATS has a hint for the file already: twice as far each time, up to 5 minutes, or as far as
    /// ever if that is more.
    pub async fn record_refused_hint(&self, file: FileId) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let filter = doc! {
            "_id": id(file),
            "state": { "$nin": ENDED },
            "due_at": { "$exists": true },
            "lease": { "$exists": false },
        };
        let refusals = doc! { "$add": [{ "$ifNull": ["$hint_refusals", 0] }, 1] };
        let doubled =
            doc! { "$multiply": [millis(self.hint_push), { "$pow": [2, { "$min": ["$hint_refusals", 10] }] }] };
        let span = doc! { "$min": [doubled, millis(PUSH_MAX.max(self.hint_push))] };
        let push = vec![
            doc! { "$set": { "hint_refusals": refusals } },
            doc! { "$set": { "due_at": { "$add": ["$$NOW", span] } } },
        ];
        self.run("pushing a due time on", async move { files.update_one(filter, push).await }).await?;
        Ok(())
    }

    /// Makes everything due that waits for a hint: for a stream that was made anew and has lost them all.
    pub async fn make_all_due(&self) -> Result<u64, LedgerError> {
        let files = self.files.clone();
        let filter = doc! {
            "due_at": { "$exists": true },
            "state": { "$nin": ENDED },
            "$expr": { "$and": [{ "$lte": ["$lease.until", "$$NOW"] }, { "$lte": ["$not_before", "$$NOW"] }] },
        };
        let due = vec![doc! { "$set": { "due_at": "$$NOW" } }, doc! { "$unset": "hint_refusals" }];
        let made =
            self.run("making all files in work due", async move { files.update_many(filter, due).await }).await?;
        Ok(made.modified_count)
    }

    /// Outboxes that nobody has emptied for as long as a hint is pushed on, oldest first, at most `limit`.
    pub async fn stale_outboxes(&self, limit: u16) -> Result<Vec<Outbox>, LedgerError> {
        let found = self.past("outbox_at", self.hint_push, limit, Document::new()).await?;
        found.into_iter().map(|document| Ok(FileRecord::from_document(document)?.outbox())).collect()
    }

    /// Records whose `field` lies more than `age` in the past, by MongoDB's clock.
    ///
    /// The clock is asked first: a range over a constant uses the index, and a missing field is never less than it.
    async fn past(
        &self,
        field: &'static str,
        age: Duration,
        limit: u16,
        projection: Document,
    ) -> Result<Vec<Document>, LedgerError> {
        let (db, files) = (self.db.clone(), self.files.clone());
        self.run("sweeping", async move {
            let hello = db.run_command(doc! { "hello": 1 }).await?;
            let now = hello.get_datetime("localTime").map_err(mongodb::error::Error::custom)?;
            let before = DateTime::from_millis(now.timestamp_millis() - millis(age));
            collect(files, doc! { field: { "$lt": before } }, doc! { field: 1 }, projection, limit).await
        })
        .await
    }
}

async fn collect(
    files: Collection<Document>,
    filter: Document,
    sort: Document,
    projection: Document,
    limit: u16,
) -> mongodb::error::Result<Vec<Document>> {
    let mut cursor = files.find(filter).sort(sort).projection(projection).limit(i64::from(limit)).await?;
    let mut found = Vec::new();
    while cursor.advance().await? {
        found.push(cursor.deserialize_current()?);
    }
    Ok(found)
}

fn overdue_of(document: &Document) -> Result<Overdue, LedgerError> {
    let unreadable = |detail: String| LedgerError::Unreadable { collection: "files", detail };
    let uuid = match document.get("_id") {
        Some(mongodb::bson::Bson::Binary(binary)) => <[u8; 16]>::try_from(binary.bytes.as_slice()).ok(),
        _ => None,
    };
    let file = FileId::from_bytes(uuid.ok_or_else(|| unreadable("an _id is no UUID".into()))?);
    let due_at = *document.get_datetime("due_at").map_err(|e| unreadable(e.to_string()))?;
    let state: State = document.get_str("state").unwrap_or_default().parse().map_err(unreadable)?;
    let action = match state {
        State::Prepared | State::Chunking => DueAction::Hint(Step::Prepare),
        State::Stored | State::Delivering => DueAction::Hint(Step::Finalise),
        State::Delivered | State::Failed | State::Cancelled => DueAction::RemoveContent,
    };
    Ok(Overdue { file, action, due_at })
}
