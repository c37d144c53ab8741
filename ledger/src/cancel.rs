use contract::{EventKind, FileId, State};
use mongodb::bson::doc;

use crate::contention::Tries;
use crate::filter::at_version;
use crate::lease::lease_is_free;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError};

/// What became of a request to cancel.
#[derive(Debug)]
pub enum CancelOutcome {
    /// Cancelled now: nobody held it, and no delivery had begun.
    Cancelled(Box<FileRecord>),
    /// Requested: the worker that holds it, or claims it next, cancels it, unless the remote has it already.
    Requested(Box<FileRecord>),
    /// The file had ended before; nothing changed.
    Ended(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Cancels a file, or asks the worker that holds it to do so.
    ///
    /// Once a delivery has begun, only a finaliser can tell, by asking the remote: a file that is visible there ends as
    /// `delivered`.
    pub async fn cancel(&self, file: FileId) -> Result<CancelOutcome, LedgerError> {
        let operation = "cancelling a file";
        let mut tries = Tries::of(operation);
        loop {
            tries.begin()?;
            let Some(record) = self.confirmed_file(file).await? else { return Ok(CancelOutcome::Unknown) };
            if record.state.is_terminal() {
                return Ok(CancelOutcome::Ended(Box::new(record)));
            }
            let unchanged = at_version(file, record.version);
            if !record.may_be_at_remote() {
                let mut free = unchanged.clone();
                free.insert("$expr", lease_is_free());
                if let Some(record) = self.to_cancelled().commit(self, operation, free).await? {
                    return Ok(CancelOutcome::Cancelled(Box::new(record)));
                }
            }
            let request = Transition::default()
                .set("cancel_requested", true)
                .set("due_at", doc! { "$cond": [lease_is_free(), "$$NOW", "$due_at"] })
                .unset(&["not_before", "hint_refusals"]);
            if let Some(record) = request.commit(self, operation, unchanged).await? {
                return Ok(CancelOutcome::Requested(Box::new(record)));
            }
        }
    }

    /// Cancels a file under its lease. `None`: the lease was lost.
    pub async fn record_cancelled(&self, lease: &Lease) -> Result<Option<FileRecord>, LedgerError> {
        self.to_cancelled().commit(self, "cancelling a file", lease.filter()).await
    }

    fn to_cancelled(&self) -> Transition {
        Transition::end(State::Cancelled, self.retention).event(EventKind::Cancelled, State::Cancelled, None)
    }
}

impl FileRecord {
    /// Whether a remote may have it: a delivery has begun, and the record names the remote. Such a file is never
    /// cancelled before the remote has been asked.
    pub const fn may_be_at_remote(&self) -> bool {
        self.delivery.is_some() && self.expectation.is_some()
    }
}
