use std::time::{Duration, Instant};

use contract::{Epoch, FileId, Timestamp};
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use crate::bson_form::now_plus;
use crate::filter::by_id;
use crate::{FileRecord, Ledger, LedgerError, Progress};

/// The right to work on a file, for a time.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The file.
    pub file: FileId,
    /// The claim that the lease comes from.
    pub epoch: Epoch,
    /// When it was claimed, by MongoDB's clock.
    pub claimed_at: Timestamp,
    /// A moment of this process' own clock before `claimed_at`.
    pub taken: Instant,
    /// How long it lasts from its claim or last renewal.
    pub length: Duration,
    pub(crate) owner: String,
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts its full length again, counted from before the renewal was sent.
    Kept,
    /// As [`Renewal::Kept`], and somebody wants the file cancelled.
    CancelRequested,
    /// The lease has expired, or the file has left the phase: stop at once.
    Lost,
}

/// The lease in a record.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LeaseField {
    owner: String,
    worker: String,
}

impl Lease {
    /// Now by MongoDB's clock, as far as this process can tell: never earlier than MongoDB's, at most one round trip
    /// later.
    pub fn now(&self) -> Timestamp {
        self.claimed_at.after(self.taken.elapsed())
    }

    /// Selects the record while this lease holds. An expired lease fences its holder even if nobody else has claimed
    /// the file.
    pub(crate) fn filter(&self) -> Document {
        let mut filter = self.last_claim_filter();
        filter.insert("$expr", doc! { "$gt": ["$lease.until", "$$NOW"] });
        filter
    }

    /// Selects the record until somebody else claims it, whether this lease has expired or not.
    pub(crate) fn last_claim_filter(&self) -> Document {
        let mut filter = by_id(self.file);
        filter.extend(doc! { "epoch": self.epoch.0, "lease.owner": &self.owner });
        filter
    }
}

/// `$expr`: nobody holds the file. A missing field is less than every date, so no lease counts as an expired one.
pub(crate) fn lease_is_free() -> Document {
    doc! { "$lte": ["$lease.until", "$$NOW"] }
}

/// `$expr`: nobody holds the file, and no failed attempt delays it.
pub(crate) fn free_to_claim() -> Document {
    doc! { "$and": [lease_is_free(), { "$lte": ["$not_before", "$$NOW"] }] }
}

impl FileRecord {
    /// Who holds it, for people; `None` if nobody does. The lease may have expired.
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.worker.as_str())
    }

    /// Whether `lease` is the last claim of this record. The lease may have expired.
    pub(crate) fn is_claimed_by(&self, lease: &Lease) -> bool {
        self.epoch == lease.epoch && self.lease.as_ref().is_some_and(|field| field.owner == lease.owner)
    }
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
            set.insert("progress", progress.to_document());
        }
        let (files, limit) = (self.relaxed_files(), self.server_limit());
        let renewed = self
            .run("renewing a lease", async move {
                let renewal = files.find_one_and_update(filter, vec![doc! { "$set": set }]);
                renewal.projection(doc! { "cancel_requested": 1 }).max_time(limit).await
            })
            .await?;
        Ok(match renewed {
            None => Renewal::Lost,
            Some(record) if record.get_bool("cancel_requested").unwrap_or_default() => Renewal::CancelRequested,
            Some(_) => Renewal::Kept,
        })
    }
}
