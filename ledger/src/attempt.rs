use std::time::Duration;

use contract::{EventKind, FileId, State, Step};
use mongodb::bson::{Document, doc};

use crate::bson_form::{incremented, now_plus, to_bson};
use crate::failure::appended;
use crate::filter::{by_id, states_before};
use crate::lease::lease_is_free;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError, Problem};

/// A counter of attempts (`$field`) without the last one.
pub(crate) fn given_back(field: &str) -> Document {
    doc! { "$max": [0, { "$subtract": [{ "$ifNull": [field, 0] }, 1] }] }
}

/// When the next attempt begins: `delay` from now, or at once if a caller has asked to cancel the file.
pub(crate) fn start_of_next(delay: Duration) -> Document {
    doc! { "$cond": [{ "$eq": ["$cancel_requested", true] }, "$$NOW", now_plus(delay)] }
}

impl Ledger {
    /// Frees the lease and records why the attempt failed and when to try again. The attempt stays counted. `None`: the
    /// lease was lost.
    pub async fn record_retry(
        &self,
        lease: &Lease,
        problem: &Problem,
        delay: Duration,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let transition = Transition::default()
            .set_literal("error", to_bson(problem)?)
            .set("failures", appended(problem))
            .set("not_before", start_of_next(delay))
            .set("due_at", start_of_next(delay))
            .unset(&["lease", "hint_refusals"]);
        transition.commit(self, "recording a retry", lease.filter()).await
    }

    /// Gives the file up for good, with the reason. `None`: the lease was lost.
    pub async fn record_failed(&self, lease: &Lease, problem: &Problem) -> Result<Option<FileRecord>, LedgerError> {
        let error = to_bson(problem)?;
        let transition = Transition::end(State::Failed, self.retention)
            .set_literal("error", error.clone())
            .set("failures", appended(problem))
            .event(EventKind::Failed, State::Failed, Some(doc! { "error": error }.into()));
        transition.commit(self, "giving up a file", lease.filter()).await
    }

    /// Frees the lease for the next holder, due now, and gives the attempt back: nobody is to blame. `None`: another
    /// worker has claimed the file. The lease may have expired: a holder that could not reach MongoDB in time gives
    /// back late.
    pub async fn hand_back(&self, lease: &Lease) -> Result<Option<FileRecord>, LedgerError> {
        let of_state = |state: State, field: &str| {
            doc! { "$cond": [{ "$eq": ["$state", state.as_str()] }, given_back(field), { "$ifNull": [field, 0] }] }
        };
        let transition = Transition::default()
            .set("attempts.chunking", of_state(State::Chunking, "$attempts.chunking"))
            .set("attempts.delivering", of_state(State::Delivering, "$attempts.delivering"))
            .set("due_at", "$$NOW")
            .unset(&["lease", "hint_refusals"]);
        transition.commit(self, "handing back a file", lease.last_claim_filter()).await
    }

    /// Puts off the delivery of a file that nobody holds, because its remote is at its concurrency limit. No attempt is
    /// counted.
    ///
    /// Written with `w: 1`: losing it in a failover only means that somebody looks at the file earlier.
    pub async fn defer(&self, file: FileId, delay: Duration) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let mut filter = by_id(file);
        filter.extend(doc! { "state": states_before(Step::Finalise), "$expr": lease_is_free() });
        let later = now_plus(delay);
        let put_off = vec![
            doc! { "$set": { "not_before": later.clone(), "due_at": later, "deferrals": incremented("$deferrals") } },
            doc! { "$unset": "hint_refusals" },
        ];
        self.run("putting off a delivery", async move { files.update_one(filter, put_off).await }).await?;
        Ok(())
    }
}
