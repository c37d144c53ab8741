use mongodb::bson::{Bson, doc};

use crate::{Ledger, LedgerError};

impl Ledger {
    /// Bytes that MongoDB has for new content: free space on its file system, and space of removed content, which MongoDB keeps
    /// for itself. `None` if it does not say.
    pub async fn free_space(&self) -> Result<Option<u64>, LedgerError> {
        let db = self.db.clone();
        let operation = "asking MongoDB how much space is left";
        let stats =
            self.run(operation, async move { db.run_command(doc! { "dbStats": 1, "freeStorage": 1 }).await }).await?;
        let figure = |name| match stats.get(name) {
            Some(Bson::Double(value)) => Some(*value),
            Some(Bson::Int32(value)) => Some(f64::from(*value)),
            #[allow(clippy::cast_precision_loss, reason = "space is far below 2^53 bytes")]
            Some(Bson::Int64(value)) => Some(*value as f64),
            _ => None,
        };
        let kept = figure("freeStorageSize").unwrap_or_default();
        let free = figure("fsTotalSize").zip(figure("fsUsedSize")).map(|(total, used)| (total - used).max(0.0) + kept);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and far below 2^64")]
        Ok(free.map(|bytes| bytes as u64))
    }
}
