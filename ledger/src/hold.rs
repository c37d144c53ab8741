use std::time::Duration;

use contract::{EventKind, FileId, State};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;

use crate::bson_form::{id, now_plus};
use crate::failure::appended;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError, Problem, Progress};

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts its full length again, counted from before the renewal was sent.
    Kept,
    /// As [`Renewal::Kept`], and somebody wants the file cancelled.
    CancelRequested,
    /// Another has the file, or it left the phase: stop at once.
    Lost,
}

impl Ledger {
    /// Renews a lease and writes the progress figures with it.
    ///
    /// Written with `w: 1`: losing a renewal in a failover only repeats work.
    pub async fn renew(&self, lease: &Lease, progress: Option<Progress>) -> Result<Renewal, LedgerError> {
        let filter = lease.filter();
        let until = now_plus(lease.length);
        let mut set = doc! { "lease.until": until.clone(), "due_at": until };
        if let Some(progress) = progress {
            set.insert("progress", progress_document(progress));
        }
        let files = self.relaxed_files();
        let renewed = self
            .run("renewing a lease", async move {
                let renewal = files.find_one_and_update(filter, vec![doc! { "$set": set }]);
                renewal.projection(doc! { "cancel_requested": 1 }).await
            })
            .await?;
        Ok(match renewed {
            None => Renewal::Lost,
            Some(record) if record.get_bool("cancel_requested").unwrap_or_default() => Renewal::CancelRequested,
            Some(_) => Renewal::Kept,
        })
    }

    /// Frees the lease and commits when to try again. The attempt stays counted. `None`: the lease was lost.
    pub async fn record_retry(
        &self,
        lease: &Lease,
        problem: &Problem,
        delay: Duration,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let transition = Transition::default()
            .set_literal("error", to_bson(problem)?)
            .set("failures", appended(problem))
            .set("not_before", now_plus(delay))
            .set("due_at", now_plus(delay))
            .unset(&["lease", "hint_refusals"]);
        self.settle("committing a retry", lease.filter(), transition).await
    }

    /// Puts off the delivery of a file that nobody holds: its remote has enough to do. No attempt is counted.
    ///
    /// Written with `w: 1`: losing it in a failover only means that somebody looks earlier.
    pub async fn defer(&self, file: FileId, delay: Duration) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let filter = doc! {
            "_id": id(file),
            "state": { "$in": [State::Stored.as_str(), State::Delivering.as_str()] },
            "$expr": { "$lte": ["$lease.until", "$$NOW"] },
        };
        let later = now_plus(delay);
        let deferrals = doc! { "$add": [{ "$ifNull": ["$deferrals", 0] }, 1] };
        let put_off = vec![
            doc! { "$set": { "not_before": later.clone(), "due_at": later, "deferrals": deferrals } },
            doc! { "$unset": "hint_refusals" },
        ];
        self.run("putting a delivery off", async move { files.update_one(filter, put_off).await }).await?;
        Ok(())
    }

    /// Frees the lease for the next holder, due now, and gives the attempt back: nobody is to blame. `None`: another has
    /// claimed the file. The lease may have run out: a holder that could not reach MongoDB in time gives back late.
    pub async fn hand_back(&self, lease: &Lease) -> Result<Option<FileRecord>, LedgerError> {
        let less = |field: &str| doc! { "$max": [0, { "$subtract": [{ "$ifNull": [field, 0] }, 1] }] };
        let of_state = |state: State, field: &str| {
            doc! { "$cond": [{ "$eq": ["$state", state.as_str()] }, less(field), { "$ifNull": [field, 0] }] }
        };
        let transition = Transition::default()
            .set("attempts.chunking", of_state(State::Chunking, "$attempts.chunking"))
            .set("attempts.delivering", of_state(State::Delivering, "$attempts.delivering"))
            .set("due_at", "$$NOW")
            .unset(&["lease", "hint_refusals"]);
        self.settle("handing a file back", lease.owned(), transition).await
    }

    /// Gives the file up for good, with the reason. `None`: the lease was lost.
    pub async fn record_failed(&self, lease: &Lease, problem: &Problem) -> Result<Option<FileRecord>, LedgerError> {
        let error = to_bson(problem)?;
        let transition = Transition::end(State::Failed, self.retention)
            .set_literal("error", error.clone())
            .set("failures", appended(problem))
            .event(EventKind::Failed, State::Failed, Some(doc! { "error": error }.into()));
        self.settle("giving a file up", lease.filter(), transition).await
    }

    /// Makes one transition of the record that passes `filter`; `None` where none passes.
    pub(crate) async fn settle(
        &self,
        operation: &'static str,
        filter: Document,
        transition: Transition,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let files = self.files.clone();
        let pipeline = transition.into_pipeline();
        let after = self
            .run(operation, async move {
                files.find_one_and_update(filter, pipeline).return_document(ReturnDocument::After).await
            })
            .await?;
        after.map(FileRecord::from_document).transpose()
    }
}

pub(crate) fn progress_document(progress: Progress) -> Document {
    doc! {
        "chunks_stored": i64::from(progress.chunks_stored),
        "bytes_stored": i64::try_from(progress.bytes_stored).unwrap_or(i64::MAX),
        "bytes_delivered": i64::try_from(progress.bytes_delivered).unwrap_or(i64::MAX),
    }
}

pub(crate) fn to_bson(value: &impl serde::Serialize) -> Result<Bson, LedgerError> {
    mongodb::bson::serialize_to_bson(value)
        .map_err(|e| LedgerError::Unreadable { collection: "files", detail: format!("a value cannot be kept: {e}") })
}
