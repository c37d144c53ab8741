use std::time::Duration;

use contract::{EventKind, State};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;

use crate::bson_form::now_plus;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError, Problem, Progress};

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts its full length again, counted from before the renewal was sent.
    Kept,
    /// Another has the file, or it left the phase: stop at once.
    Lost,
}

impl Ledger {
    /// Renews a lease and writes the progress figures with it.
    ///
    /// Written with `w: 1`: losing a renewal in a failover only repeats work.
    pub async fn renew(&self, lease: &Lease, progress: Option<Progress>) -> Result<Renewal, LedgerError> {
        let mut filter = lease.filter();
        filter.insert("$expr", doc! { "$gt": ["$lease.until", "$$NOW"] });
        let until = now_plus(lease.length);
        let mut set = doc! { "lease.until": until.clone(), "due_at": until };
        if let Some(progress) = progress {
            set.insert("progress", progress_document(progress));
        }
        let files = self.relaxed_files();
        let renewed = self
            .run("renewing a lease", async move { files.update_one(filter, vec![doc! { "$set": set }]).await })
            .await?;
        Ok(if renewed.matched_count == 1 { Renewal::Kept } else { Renewal::Lost })
    }

    /// Frees the lease and commits when to try again. The attempt stays counted. `None`: the lease was lost.
    pub async fn retry_later(
        &self,
        lease: &Lease,
        problem: &Problem,
        delay: Duration,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let transition = Transition::default()
            .set_literal("error", to_bson(problem)?)
            .set("not_before", now_plus(delay))
            .set("due_at", now_plus(delay))
            .unset(&["lease", "hint_refusals"]);
        self.settle("committing a retry", lease.filter(), transition).await
    }

    /// Frees the lease for the next holder, due now, and gives the attempt back: nobody is to blame. `None`: the lease was lost.
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
        self.settle("handing a file back", lease.filter(), transition).await
    }

    /// Gives the file up for good, with the reason. `None`: the lease was lost.
    pub async fn fail(&self, lease: &Lease, problem: &Problem) -> Result<Option<FileRecord>, LedgerError> {
        let problem = to_bson(problem)?;
        let transition = Transition::to(State::Failed)
            .set_literal("error", problem.clone())
            .event(EventKind::Failed, State::Failed, Some(doc! { "error": problem }.into()))
            .release();
        self.settle("giving a file up", lease.filter(), transition).await
    }

    /// Makes one transition of the record that passes `filter`; `None` where none passes.
    pub(crate) async fn settle(
        &self,
        doing: &'static str,
        filter: Document,
        transition: Transition,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let files = self.files.clone();
        let pipeline = transition.into_pipeline();
        let after = self
            .run(doing, async move {
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
