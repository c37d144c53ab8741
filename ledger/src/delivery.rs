use contract::{EventKind, Receipt, State};
use mongodb::bson::doc;

use crate::bson_form::to_bson;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError};

impl Ledger {
    /// Records that the remote has the whole file, with the receipt. `None`: the lease was lost; the next holder asks
    /// the remote.
    pub async fn record_delivered(&self, lease: &Lease, receipt: &Receipt) -> Result<Option<FileRecord>, LedgerError> {
        let mut filter = lease.filter();
        filter.insert("state", State::Delivering.as_str());
        let size = i64::try_from(receipt.size).unwrap_or(i64::MAX);
        let receipt = to_bson(receipt)?;
        let transition = Transition::end(State::Delivered, self.retention)
            .set_literal("receipt", receipt.clone())
            .set("progress.bytes_delivered", size)
            .event(EventKind::Delivered, State::Delivered, Some(doc! { "receipt": receipt }.into()))
            .unset(&["error", "delivery.upload"]);
        transition.commit(self, "recording a delivery", filter).await
    }
}
