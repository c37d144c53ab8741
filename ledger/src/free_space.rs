use std::time::{Duration, Instant};

use mongodb::bson::{Bson, doc};
use tokio::sync::Mutex;

use crate::{Ledger, LedgerError};

/// How long a figure is used. At 500 MiB/s, written to the journal, the oplog and the collection, at most 300 MiB are
/// written meanwhile.
const FRESH: Duration = Duration::from_millis(200);

/// The free space of MongoDB, asked for now and then and compared with a floor.
#[derive(Debug)]
pub struct FreeSpace {
    ledger: Ledger,
    floor: u64,
    last: Mutex<Option<(Instant, Option<u64>)>>,
}

impl FreeSpace {
    /// Compares with `floor` bytes; 0 never asks MongoDB.
    pub fn new(ledger: &Ledger, floor: u64) -> Self {
        Self { ledger: ledger.clone(), floor, last: Mutex::default() }
    }

    /// The free bytes, if `needed` more bytes would leave fewer than the floor. Also `None` if MongoDB gives no figure:
    /// the operation that follows then reports a more useful error.
    pub async fn shortage(&self, needed: u64) -> Option<u64> {
        if self.floor == 0 {
            return None;
        }
        let mut last = self.last.lock().await;
        let free = match *last {
            Some((at, free)) if at.elapsed() < FRESH => free,
            _ => {
                let free = self.ledger.free_space().await.unwrap_or_else(|error| {
                    tracing::debug!("MongoDB does not say how much space is left: {error}");
                    None
                });
                *last = Some((Instant::now(), free));
                free
            }
        };
        free.filter(|free| *free < self.floor.saturating_add(needed))
    }

    /// The floor in bytes.
    pub const fn floor(&self) -> u64 {
        self.floor
    }
}

impl Ledger {
    /// Bytes that MongoDB has for new content: free space on its file system, and the space of removed content, which
    /// MongoDB reuses. `None` if it does not say.
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
