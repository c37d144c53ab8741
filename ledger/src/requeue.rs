use contract::{EventKind, FileId, ProblemKind, State};
use mongodb::bson::doc;

use crate::bson_form::by_id;
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError, Problem};

/// How often a request is judged again when the record changes in between.
const TRIES: u32 = 8;

/// What became of a request to take a failed file up again.
#[derive(Debug)]
pub enum Requeued {
    /// It is delivered again, from the content that is stored.
    Delivering(Box<FileRecord>),
    /// It is read again, in a new generation: its content was incomplete, wrong or removed.
    Chunking(Box<FileRecord>),
    /// It has not failed; nothing changed.
    NotFailed(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Takes a failed file up again in the phase that failed, with all its attempts, due now.
    pub async fn requeue(&self, file: FileId) -> Result<Requeued, LedgerError> {
        let doing = "requeueing a file";
        for _ in 0..TRIES {
            let Some(record) = self.file(file).await? else { return Ok(Requeued::Unknown) };
            if record.state != State::Failed {
                return Ok(Requeued::NotFailed(Box::new(record)));
            }
            let mut filter = by_id(file);
            filter.insert("version", record.version);
            let usable = record.has_usable_content() && record.expectation.is_some();
            let transition = if usable { deliver_again() } else { read_again() };
            if let Some(record) = self.settle(doing, filter, transition).await? {
                let record = Box::new(record);
                return Ok(if usable { Requeued::Delivering(record) } else { Requeued::Chunking(record) });
            }
        }
        Err(LedgerError::Contended { doing, tries: TRIES })
    }

    /// Has a stored file read again from its source, in a new generation, because its content is incomplete or wrong.
    /// `None`: the file is not stored, somebody holds it, or it changed since `version`.
    pub async fn read_again(&self, file: FileId, version: i64) -> Result<Option<FileRecord>, LedgerError> {
        let mut filter = by_id(file);
        filter.insert("version", version);
        filter.insert("state", doc! { "$in": [State::Stored.as_str(), State::Delivering.as_str()] });
        filter.insert("$expr", doc! { "$lte": ["$lease.until", "$$NOW"] });
        self.settle("having a file read again", filter, read_again()).await
    }
}

impl FileRecord {
    /// Whether what is stored can be delivered, as far as the record knows.
    fn has_usable_content(&self) -> bool {
        let wrong = self.error.as_ref().and_then(Problem::kind).is_some_and(ProblemKind::needs_new_reading);
        self.proven().is_some() && !wrong && self.content_removed != Some(self.generation)
    }
}

fn deliver_again() -> Transition {
    fresh(State::Stored).set("attempts.delivering", 0_i64)
}

fn read_again() -> Transition {
    fresh(State::Prepared)
        .set("generation", doc! { "$add": ["$generation", 1] })
        .set("attempts", doc! { "chunking": 0_i64, "delivering": 0_i64 })
        .set("source_changes", 0_i64)
        .unset(&["layout", "chunk_size", "sha256", "content_removed", "progress", "lease"])
}

fn fresh(state: State) -> Transition {
    Transition::to(state)
        .set("due_at", "$$NOW")
        .set("queued_at", "$$NOW")
        .event(EventKind::Requeued, state, None)
        .unset(&["error", "not_before", "hint_refusals", "deferrals"])
}
