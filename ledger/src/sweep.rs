use std::time::Duration;

use contract::{FileId, State, Step};
use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};

use crate::bson_form::{file_id_in, id, incremented, millis, now_plus};
use crate::filter::waits_for_worker;
use crate::lease::free_to_claim;
use crate::record::state_in;
use crate::{FileRecord, Ledger, LedgerError, Outbox};

/// The furthest that a refused hint pushes on `due_at`.
const PUSH_MAX: Duration = Duration::from_secs(300);

/// What is to be done about a file that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueAction {
    /// Publish the hint to take this step.
    Hint(Step),
    /// End it: it has rested for long, and nobody finalised it.
    EndRest,
    /// Remove its content: its retention is over.
    RemoveContent,
}

/// A file that is due.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// The file.
    pub file: FileId,
    /// What to do.
    pub action: DueAction,
    due_at: DateTime,
}

impl Ledger {
    /// Files whose `due_at` has passed, oldest first, at most `limit`. A record that cannot be read is left out.
    pub async fn overdue(&self, limit: u16) -> Result<Vec<Overdue>, LedgerError> {
        let fields = doc! { "state": 1, "due_at": 1, "expectation.remote": 1 };
        let found = self.past("due_at", Duration::ZERO, limit, fields).await?;
        Ok(readable(found, |document| overdue_of(&document)))
    }

    /// Pushes on a file's `due_at`, unless somebody else has done so or has claimed the file since it was read. `true`:
    /// the caller takes the action.
    pub async fn push_due(&self, overdue: &Overdue) -> Result<bool, LedgerError> {
        let files = self.relaxed_files();
        let filter = doc! { "_id": id(overdue.file), "due_at": overdue.due_at };
        let push = vec![doc! { "$set": { "due_at": now_plus(self.hint_push) } }];
        let pushed = self.run("postponing a due time", async move { files.update_one(filter, push).await }).await?;
        Ok(pushed.matched_count == 1)
    }

    /// Records that NATS refused a hint because it has one for the file. Each time, `due_at` is pushed on twice as far,
    /// up to 5 minutes, or up to the usual push if that is longer.
    pub async fn record_refused_hint(&self, file: FileId) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let mut filter = doc! { "_id": id(file), "due_at": { "$exists": true }, "lease": { "$exists": false } };
        filter.extend(waits_for_worker());
        let doubled =
            doc! { "$multiply": [millis(self.hint_push), { "$pow": [2, { "$min": ["$hint_refusals", 10] }] }] };
        let span = doc! { "$min": [doubled, millis(PUSH_MAX.max(self.hint_push))] };
        let push = vec![
            doc! { "$set": { "hint_refusals": incremented("$hint_refusals") } },
            doc! { "$set": { "due_at": { "$add": ["$$NOW", span] } } },
        ];
        self.run("postponing a due time", async move { files.update_one(filter, push).await }).await?;
        Ok(())
    }

    /// Sets `due_at` to now for every file that waits for a hint, because all hints were lost when the stream was
    /// created again.
    pub async fn make_all_due(&self) -> Result<u64, LedgerError> {
        let files = self.files.clone();
        let mut filter = doc! { "due_at": { "$exists": true }, "$expr": free_to_claim() };
        filter.extend(waits_for_worker());
        let due = vec![doc! { "$set": { "due_at": "$$NOW" } }, doc! { "$unset": "hint_refusals" }];
        let made =
            self.run("making all files in work due", async move { files.update_many(filter, due).await }).await?;
        Ok(made.modified_count)
    }

    /// Outboxes that have waited for longer than the usual push of `due_at`, oldest first, at most `limit`. A record
    /// that cannot be read is left out.
    pub async fn stale_outboxes(&self, limit: u16) -> Result<Vec<Outbox>, LedgerError> {
        let found = self.past("outbox_at", self.hint_push, limit, Document::new()).await?;
        Ok(readable(found, |document| Ok(FileRecord::from_document(document)?.outbox())))
    }

    /// Records whose `field` is more than `age` in the past, by MongoDB's clock, at most `limit`.
    ///
    /// The clock is read first: a range that ends at a constant uses the index, and a missing field is in no such
    /// range.
    async fn past(
        &self,
        field: &'static str,
        age: Duration,
        limit: u16,
        projection: Document,
    ) -> Result<Vec<Document>, LedgerError> {
        let files = self.files.clone();
        let before = DateTime::from_millis(self.now().await?.timestamp_millis() - millis(age));
        self.run("sweeping", async move {
            let find = files.find(doc! { field: { "$lt": before } }).sort(doc! { field: 1 });
            find.projection(projection).limit(i64::from(limit)).await?.try_collect().await
        })
        .await
    }
}

/// What `read` makes of each document. One that cannot be read must not keep the others waiting.
fn readable<T>(documents: Vec<Document>, read: impl Fn(Document) -> Result<T, LedgerError>) -> Vec<T> {
    let or_log = |document: Document| {
        let id = document.get("_id").map(ToString::to_string).unwrap_or_default();
        read(document).inspect_err(|error| tracing::error!("the record {id} was left out of a sweep: {error}")).ok()
    };
    documents.into_iter().filter_map(or_log).collect()
}

fn overdue_of(document: &Document) -> Result<Overdue, LedgerError> {
    let unreadable = |detail: String| LedgerError::Unreadable { collection: "files", detail };
    let file = document
        .get("_id")
        .and_then(file_id_in)
        .ok_or_else(|| unreadable("expected an _id that is a UUID, found something else".into()))?;
    let due_at = *document.get_datetime("due_at").map_err(|e| unreadable(e.to_string()))?;
    let action = match state_in(document)? {
        State::Stored if !document.contains_key("expectation") => DueAction::EndRest,
        state => state.next_step().map_or(DueAction::RemoveContent, DueAction::Hint),
    };
    Ok(Overdue { file, action, due_at })
}
