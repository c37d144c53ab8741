use contract::{EventKind, FileId, ProblemKind, State, Step};
use mongodb::bson::doc;

use crate::contention::Tries;
use crate::filter::{at_version, states_before};
use crate::lease::lease_is_free;
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError, Problem};

/// What became of a request to requeue a failed file.
#[derive(Debug)]
pub enum Requeued {
    /// It will be delivered from the stored content.
    Delivering(Box<FileRecord>),
    /// It will be read again, in a new generation: its content was incomplete, wrong or removed.
    Chunking(Box<FileRecord>),
    /// It has not failed; nothing changed.
    NotFailed(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Requeues a failed file in the phase that failed. It is due now, and its attempts are counted from zero again.
    pub async fn requeue(&self, file: FileId) -> Result<Requeued, LedgerError> {
        let operation = "requeueing a file";
        let mut tries = Tries::of(operation);
        loop {
            tries.begin()?;
            let Some(record) = self.confirmed_file(file).await? else { return Ok(Requeued::Unknown) };
            if record.state != State::Failed {
                return Ok(Requeued::NotFailed(Box::new(record)));
            }
            let usable = record.has_usable_content() && record.expectation.is_some();
            let transition = if usable { redelivery() } else { rechunking() };
            if let Some(record) = transition.commit(self, operation, at_version(file, record.version)).await? {
                let record = Box::new(record);
                return Ok(if usable { Requeued::Delivering(record) } else { Requeued::Chunking(record) });
            }
        }
    }

    /// Makes a chunker read a stored file again from its source, in a new generation, because the content is incomplete
    /// or wrong. `None`: the file is not stored, somebody holds it, or it changed since `version`.
    pub async fn rechunk(&self, file: FileId, version: i64) -> Result<Option<FileRecord>, LedgerError> {
        let mut filter = at_version(file, version);
        filter.extend(doc! { "state": states_before(Step::Finalise), "$expr": lease_is_free() });
        rechunking().commit(self, "having a file read again", filter).await
    }
}

impl FileRecord {
    /// Whether the stored content can be delivered, as far as the record tells.
    fn has_usable_content(&self) -> bool {
        let wrong = self.error.as_ref().and_then(Problem::kind).is_some_and(ProblemKind::needs_new_reading);
        self.proven().is_some() && !wrong && self.content_removed != Some(self.generation)
    }
}

fn redelivery() -> Transition {
    fresh(State::Stored).set("attempts.delivering", 0_i64)
}

fn rechunking() -> Transition {
    fresh(State::Prepared)
        .set("generation", doc! { "$add": ["$generation", 1] })
        .set("attempts", doc! { "chunking": 0_i64, "delivering": 0_i64 })
        .unset(&["layout", "chunk_size", "sha256", "content_removed", "progress", "lease"])
}

/// As if the file had never failed, except for the failed attempts that the record keeps.
fn fresh(state: State) -> Transition {
    Transition::to(state)
        .set("due_at", "$$NOW")
        .set("queued_at", "$$NOW")
        .event(EventKind::Requeued, state, None)
        .unset(&["error", "not_before", "hint_refusals", "deferrals"])
}
