use contract::{EventKind, FileId, State};
use mongodb::bson::doc;

use crate::bson_form::by_id;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError};

/// How often a request is judged again when the record changes in between.
const TRIES: u32 = 8;

/// What became of a request to cancel.
#[derive(Debug)]
pub enum CancelOutcome {
    /// Cancelled now: nobody held it, and no delivery was begun.
    Cancelled(Box<FileRecord>),
    /// Noted: whoever holds it, or claims it next, cancels it, unless the remote has it already.
    Requested(Box<FileRecord>),
    /// The file had ended before; nothing changed.
    Ended(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Cancels a file, or has it cancelled by whoever holds it.
    ///
    /// Once a delivery was begun only a finaliser can tell, by asking the remote: what is visible there ends as `delivered`.
    pub async fn cancel(&self, file: FileId) -> Result<CancelOutcome, LedgerError> {
        let operation = "cancelling a file";
        for _ in 0..TRIES {
            let Some(record) = self.file(file).await? else { return Ok(CancelOutcome::Unknown) };
            if record.state.is_terminal() {
                return Ok(CancelOutcome::Ended(Box::new(record)));
            }
            let mut filter = by_id(file);
            filter.insert("version", record.version);
            if !record.may_be_at_remote() {
                let mut free = filter.clone();
                free.insert("$expr", doc! { "$lte": ["$lease.until", "$$NOW"] });
                if let Some(record) = self.settle(operation, free, self.to_cancelled()).await? {
                    return Ok(CancelOutcome::Cancelled(Box::new(record)));
                }
            }
            let held = doc! { "$gt": ["$lease.until", "$$NOW"] };
            let request = Transition::default()
                .set("cancel_requested", true)
                .set("due_at", doc! { "$cond": [held, "$due_at", "$$NOW"] })
                .unset(&["not_before", "hint_refusals"]);
            if let Some(record) = self.settle(operation, filter, request).await? {
                return Ok(CancelOutcome::Requested(Box::new(record)));
            }
        }
        Err(LedgerError::Contended { operation, tries: TRIES })
    }

    /// Cancels a file under its lease. `None`: the lease was lost.
    pub async fn record_cancelled(&self, lease: &Lease) -> Result<Option<FileRecord>, LedgerError> {
        self.settle("cancelling a file", lease.filter(), self.to_cancelled()).await
    }

    fn to_cancelled(&self) -> Transition {
        Transition::end(State::Cancelled, self.retention).event(EventKind::Cancelled, State::Cancelled, None)
    }
}

impl FileRecord {
    /// Whether a remote may have it: a delivery was begun, and it is known where. Then it is never cancelled unasked.
    pub const fn may_be_at_remote(&self) -> bool {
        self.delivery.is_some() && self.expectation.is_some()
    }
}
