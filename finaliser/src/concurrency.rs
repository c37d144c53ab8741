//! How many deliveries may run to one remote at once, so that slow or dead remotes leave slots for the others (a
//! bulkhead).

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long a slot waits for a remote that works and is at its limit. Most deliveries are shorter; a remote at which
/// none ends in this time is struggling.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a delivery is deferred at first; each further time in a row doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest that a delivery is deferred: a remote that works again may have to wait this long.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The slots of a finaliser: how many deliveries it runs at once, to all remotes together.
#[derive(Debug)]
pub(crate) struct Slots {
    all: usize,
    remotes: usize,
    taken: Mutex<Taken>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many deliveries run.
    slots: usize,
    /// To how many remotes they run.
    remotes: usize,
}

impl Slots {
    /// `all` slots for the deliveries to `remotes` remotes.
    pub(crate) fn new(all: usize, remotes: usize) -> Arc<Self> {
        Arc::new(Self { all, remotes, taken: Mutex::default(), ended: Notify::new() })
    }

    /// How many slots are kept for remotes to which no delivery runs: one for each of them, but no more than a quarter.
    fn kept(&self, taken: &Taken) -> usize {
        (self.all / 4).min(self.remotes.saturating_sub(taken.remotes))
    }
}

/// The concurrency limit of one remote.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    slots: Arc<Slots>,
    most: usize,
    /// How many deliveries run to it. Changed only while [`Slots::taken`] is locked.
    running: Mutex<usize>,
    /// The last delivery failed, or no delivery has ended for a while.
    is_struggling: AtomicBool,
}

/// A delivery that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a ConcurrencyLimit);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.count(|taken, ours| {
            *ours -= 1;
            taken.slots -= 1;
            taken.remotes -= usize::from(*ours == 0);
        });
        self.0.slots.ended.notify_waiters();
    }
}

impl ConcurrencyLimit {
    /// A limit of `most` deliveries at once, of those that `slots` allows.
    pub(crate) const fn new(slots: Arc<Slots>, most: usize) -> Self {
        Self { slots, most, running: Mutex::new(0), is_struggling: AtomicBool::new(false) }
    }

    /// Reads or changes what is taken, and how much of it by this remote.
    fn count<T>(&self, change: impl FnOnce(&mut Taken, &mut usize) -> T) -> T {
        // A poisoned lock is harmless: nothing in `change` panics.
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ours = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut taken, &mut ours)
    }

    /// Whether another delivery may run. The first to a remote always may: the slots that are kept are for it.
    fn has_room(&self, taken: &Taken, ours: usize) -> bool {
        ours == 0 || (ours < self.most && taken.slots + self.slots.kept(taken) < self.slots.all)
    }

    /// Whether another delivery would have to wait.
    pub(crate) fn is_reached(&self) -> bool {
        self.count(|taken, ours| !self.has_room(taken, *ours))
    }

    /// Whether another delivery must be deferred, because the limit is reached and no running delivery is about to end.
    pub(crate) async fn must_defer(&self) -> bool {
        if !self.is_reached() {
            return false;
        }
        if self.is_struggling.load(Ordering::Relaxed) {
            return true;
        }
        let waited = tokio::time::timeout(PATIENCE, self.acquire()).await;
        // Deliveries to other remotes may be what takes the slots.
        let is_ours = self.count(|_, ours| *ours >= self.most);
        self.is_struggling.fetch_or(waited.is_err() && is_ours, Ordering::Relaxed);
        waited.is_err()
    }

    /// Waits until another delivery may run.
    pub(crate) async fn acquire(&self) -> Running<'_> {
        loop {
            let mut ended = pin!(self.slots.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            let begun = self.count(|taken, ours| {
                let has_room = self.has_room(taken, *ours);
                if has_room {
                    taken.remotes += usize::from(*ours == 0);
                    taken.slots += 1;
                    *ours += 1;
                }
                has_room
            });
            if begun {
                return Running(self);
            }
            ended.await;
        }
    }

    /// Notes whether the remote did what a delivery asked it to do.
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
        let limit = || ConcurrencyLimit::new(Slots::new(4, 2), 1);
        let (slow, well) = (limit(), limit());
        assert!(!slow.is_reached() && !well.is_reached());
        let running = slow.acquire().await;
        assert!(slow.is_reached());
        assert!(!well.must_defer().await);
        let waited = tokio::time::Instant::now();
        assert!(slow.must_defer().await);
        assert_eq!(waited.elapsed(), PATIENCE);
        assert!(slow.must_defer().await);
        assert_eq!(waited.elapsed(), PATIENCE, "the second does not wait");
        slow.note(true);
        drop(running);
        assert!(!slow.must_defer().await);
    }

    #[tokio::test(start_paused = true)]
    async fn two_remotes_leave_the_last_quarter_of_the_slots_to_others() {
        let slots = Slots::new(8, 4);
        let [first, second, third, other] = [6, 6, 6, 6].map(|most| ConcurrencyLimit::new(Arc::clone(&slots), most));
        let mut running = Vec::new();
        for _ in 0..5 {
            running.push(first.acquire().await);
        }
        running.push(second.acquire().await);
        // Six of eight slots are taken: neither gets another, but every other remote gets one.
        assert!(first.must_defer().await && second.must_defer().await);
        assert!(!second.is_struggling.load(Ordering::Relaxed), "it has places of its own");
        running.push(third.acquire().await);
        assert!(third.must_defer().await);
        assert!(!other.must_defer().await);
        let of_other = other.acquire().await;
        // A delivery that ends makes room for one that waits.
        running.truncate(4);
        drop(of_other);
        running.push(second.acquire().await);
        assert!(!first.is_reached());
        running.clear();
        let taken = slots.taken.lock().unwrap();
        assert_eq!((taken.slots, taken.remotes), (0, 0));
    }

    #[tokio::test]
    async fn no_slot_is_kept_for_nobody() {
        let slots = Slots::new(8, 2);
        let [first, second] = [6, 6].map(|most| ConcurrencyLimit::new(Arc::clone(&slots), most));
        let mut running = Vec::new();
        for _ in 0..6 {
            running.push(first.acquire().await);
        }
        running.push(second.acquire().await);
        assert!(!second.is_reached());
        running.push(second.acquire().await);
        assert!(second.is_reached() && first.is_reached());
    }

    #[tokio::test]
    async fn a_delivery_that_waits_begins_when_another_ends() {
        let limit = ConcurrencyLimit::new(Slots::new(1, 1), 1);
        let running = limit.acquire().await;
        let ending = async {
            tokio::task::yield_now().await;
            drop(running);
        };
        testing::within(async { tokio::join!(limit.acquire(), ending) }).await;
    }
}
