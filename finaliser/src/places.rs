//! How many deliveries run to each remote at once, so that one that is slow or dead leaves slots for the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a slot waits for a place at a remote that works. Most deliveries are shorter; a remote where none ends for so
/// long struggles.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a delivery is put off the first time; twice as long each further time in a row.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// How long it is put off at most: as much later it may begin after the remote is well again.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The places at all remotes.
#[derive(Debug)]
pub(crate) struct Places(BTreeMap<String, Remote>);

#[derive(Debug)]
struct Remote {
    free: Arc<Semaphore>,
    /// The last that was heard of it was a failure, or nothing for long.
    struggles: AtomicBool,
}

/// A place at a remote; free again when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Places {
    /// `most` places at each remote.
    pub(crate) fn new<'a>(remotes: impl Iterator<Item = &'a String>, most: usize) -> Self {
        let remote = || Remote { free: Arc::new(Semaphore::new(most)), struggles: AtomicBool::new(false) };
        Self(remotes.map(|name| (name.clone(), remote())).collect())
    }

    /// Whether any remote has no free place. Only then is it worth a look where a file goes before it is claimed.
    pub(crate) fn are_short(&self) -> bool {
        self.0.values().any(|remote| remote.free.available_permits() == 0)
    }

    /// Whether a delivery to `remote` must be put off: there is no place, and none becomes free soon.
    pub(crate) async fn must_wait(&self, remote: &str) -> bool {
        let Some(remote) = self.0.get(remote) else { return false };
        if remote.free.available_permits() > 0 {
            return false;
        }
        if remote.struggles.load(Ordering::Relaxed) {
            return true;
        }
        let waited = tokio::time::timeout(PATIENCE, remote.free.acquire()).await;
        remote.struggles.fetch_or(waited.is_err(), Ordering::Relaxed);
        waited.is_err()
    }

    /// Takes a place, waiting for it if others were faster. `None`: there is no such remote.
    pub(crate) async fn take(&self, remote: &str) -> Option<Place> {
        // The semaphores are never closed.
        self.0.get(remote)?.free.clone().acquire_owned().await.ok()
    }

    /// Notes whether the remote did what it was asked.
    pub(crate) fn note(&self, remote: &str, works: bool) {
        if let Some(remote) = self.0.get(remote) {
            remote.struggles.store(!works, Ordering::Relaxed);
        }
    }
}

/// How long to put a delivery off that was put off `before` times in a row. `jitter` is a random number from 0 to 1.
pub(crate) fn delay(before: u32, jitter: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
    doubled.min(LONGEST_DELAY).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_put_off_longer_each_time_up_to_a_minute() {
        let seconds: Vec<_> = (0..8).map(|before| delay(before, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST_DELAY / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_remote_that_struggles_is_not_waited_for() {
        let names = ["slow".to_owned(), "well".to_owned()];
        let places = Places::new(names.iter(), 1);
        assert!(!places.are_short());
        let place = places.take("slow").await.unwrap();
        assert!(places.are_short());
        assert!(!places.must_wait("well").await);
        let waited = tokio::time::Instant::now();
        assert!(places.must_wait("slow").await);
        assert_eq!(waited.elapsed(), PATIENCE);
        assert!(places.must_wait("slow").await);
        assert_eq!(waited.elapsed(), PATIENCE, "the second does not wait");
        places.note("slow", true);
        drop(place);
        assert!(!places.must_wait("slow").await);
    }
}
