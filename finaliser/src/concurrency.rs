//! How many deliveries may run to one remote at once, so that a slow or dead remote leaves slots for the others (a
//! bulkhead).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a slot waits for a remote that works and is at its limit. Most deliveries are shorter; a remote at which
/// none ends in this time is struggling.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a delivery is deferred at first; each further time in a row doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest that a delivery is deferred. A remote that works again may wait so long for it.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The concurrency limit of one remote.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    free: Semaphore,
    /// The last delivery failed, or none has ended for long.
    is_struggling: AtomicBool,
}

impl ConcurrencyLimit {
    /// A limit of `most` deliveries.
    pub(crate) const fn new(most: usize) -> Self {
        Self { free: Semaphore::const_new(most), is_struggling: AtomicBool::new(false) }
    }

    /// Whether as many deliveries run as may.
    pub(crate) fn is_reached(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Whether another delivery must be deferred, because the limit is reached and no running delivery ends soon.
    pub(crate) async fn must_defer(&self) -> bool {
        if !self.is_reached() {
            return false;
        }
        if self.is_struggling.load(Ordering::Relaxed) {
            return true;
        }
        let waited = tokio::time::timeout(PATIENCE, self.free.acquire()).await;
        self.is_struggling.fetch_or(waited.is_err(), Ordering::Relaxed);
        waited.is_err()
    }

    /// Waits until another delivery may run. It runs until the permit is dropped.
    pub(crate) async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so there is always a permit.
        self.free.acquire().await.ok()
    }

    /// Notes whether the remote did what a delivery asked of it.
    pub(crate) fn note(&self, works: bool) {
        self.is_struggling.store(!works, Ordering::Relaxed);
    }
}

/// How long to defer a delivery that was deferred `before` times in a row. `jitter` is a random number from 0 to 1.
pub(crate) fn delay(before: u32, jitter: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
    doubled.min(LONGEST_DELAY).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_deferred_longer_each_time_up_to_a_minute() {
        let seconds: Vec<_> = (0..8).map(|before| delay(before, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST_DELAY / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_struggling_remote_is_not_waited_for() {
        let (slow, well) = (ConcurrencyLimit::new(1), ConcurrencyLimit::new(1));
        assert!(!slow.is_reached() && !well.is_reached());
        let permit = slow.acquire().await.unwrap();
        assert!(slow.is_reached());
        assert!(!well.must_defer().await);
        let waited = tokio::time::Instant::now();
        assert!(slow.must_defer().await);
        assert_eq!(waited.elapsed(), PATIENCE);
        assert!(slow.must_defer().await);
        assert_eq!(waited.elapsed(), PATIENCE, "the second does not wait");
        slow.note(true);
        drop(permit);
        assert!(!slow.must_defer().await);
    }
}
