//! How much space MongoDB has left, looked at now and then.

use std::time::{Duration, Instant};

use ledger::Ledger;
use tokio::sync::Mutex;

/// How long a look is good for: at 500 MiB/s, written to the journal, the oplog and the collection, 300 MiB go meanwhile at most.
const FRESH: Duration = Duration::from_millis(200);

/// Tells whether MongoDB has less space than a floor.
#[derive(Debug)]
pub struct Space {
    ledger: Ledger,
    floor: u64,
    last: Mutex<Option<(Instant, Option<u64>)>>,
}

impl Space {
    /// Looks for `floor` bytes; 0: never looks.
    pub fn new(ledger: &Ledger, floor: u64) -> Self {
        Self { ledger: ledger.clone(), floor, last: Mutex::default() }
    }

    /// The free bytes, if they are fewer than the floor. Where MongoDB does not say, nothing is short: other errors tell more.
    pub async fn shortage(&self) -> Option<u64> {
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
        free.filter(|free| *free < self.floor)
    }

    /// The floor in bytes.
    pub const fn floor(&self) -> u64 {
        self.floor
    }
}
