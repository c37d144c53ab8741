use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::serve::Peer;

/// How many failed logins in a row are free, for a peer and for a name.
const BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// How often one more is free after that: about 30,000 guesses a day.
const ONE_EVERY: Duration = Duration::from_secs(3);

/// How many keys are kept before those that no longer matter are dropped. Every failure took the time of a hash, so
/// within the minute until they are forgotten there are few thousand.
const KEYS_MAX: usize = 4096;

/// How many pairs of peer and name that logged in are remembered.
const KNOWN_MAX: usize = 4096;

/// Slows down guessing: after too many failures of a peer or for a name, logins are refused for a while without a look
/// at the password.
///
/// A peer from which a user has logged in before is counted for this user alone. So a stranger who guesses, at the same
/// address or with the same name, does not lock out those who were here before.
pub(super) struct Guard {
    failures: DefaultKeyedRateLimiter<Key>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    blocked: HashMap<Key, Instant>,
    known: HashMap<(Peer, String), Instant>,
}

/// What failures are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Peer(Peer),
    Name(String),
    /// A peer from which this user has logged in.
    Known(Peer, String),
}

/// One login.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    peer: Peer,
    name: String,
    known: bool,
}

impl Attempt {
    /// Whom it counts for when logins wait for their turn.
    pub(super) fn source(&self) -> Key {
        if self.known { Key::Known(self.peer, self.name.clone()) } else { Key::Peer(self.peer) }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let name = (!self.known).then(|| Key::Name(self.name.clone()));
        [Some(self.source()), name].into_iter().flatten()
    }
}

impl Default for Guard {
    fn default() -> Self {
        let quota = Quota::with_period(ONE_EVERY).expect("the period is not zero").allow_burst(BURST);
        Self { failures: DefaultKeyedRateLimiter::keyed(quota), memory: Mutex::default() }
    }
}

impl Guard {
    pub(super) fn attempt(&self, peer: Peer, name: &str) -> Attempt {
        let name = name.to_owned();
        let known = self.memory().known.contains_key(&(peer, name.clone()));
        Attempt { peer, name, known }
    }

    /// How long this login is refused.
    pub(super) fn refused_for(&self, attempt: &Attempt) -> Option<Duration> {
        let (memory, now) = (self.memory(), Instant::now());
        let rest = |key: Key| memory.blocked.get(&key)?.checked_duration_since(now).filter(|rest| !rest.is_zero());
        attempt.keys().filter_map(rest).max()
    }

    pub(super) fn succeeded(&self, attempt: Attempt) {
        let mut memory = self.memory();
        let pair = (attempt.peer, attempt.name);
        if memory.known.len() >= KNOWN_MAX && !memory.known.contains_key(&pair) {
            let oldest = memory.known.iter().min_by_key(|(_, since)| **since).map(|(pair, _)| pair.clone());
            oldest.map(|pair| memory.known.remove(&pair));
        }
        memory.known.insert(pair, Instant::now());
    }

    pub(super) fn failed(&self, attempt: &Attempt) {
        for key in attempt.keys() {
            let Err(too_many) = self.failures.check_key(&key) else { continue };
            let rest = too_many.wait_time_from(DefaultClock::default().now());
            tracing::warn!("too many failed logins for {key}: further ones are refused for {rest:.1?}");
            self.memory().blocked.insert(key, Instant::now() + rest);
        }
        if self.failures.len() > KEYS_MAX {
            self.failures.retain_recent();
            let now = Instant::now();
            self.memory().blocked.retain(|_, until| *until > now);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Peer(peer) => write!(f, "the peer {peer}"),
            Self::Name(name) => write!(f, "the name {}", shown(name)),
            Self::Known(peer, name) => write!(f, "the name {} at the peer {peer}", shown(name)),
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// A name that anybody may have sent, as a log line shows it: cut and escaped.
pub(super) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    let cut: String = name.chars().take(CHARS_MAX).collect();
    let rest = if cut.len() < name.len() { "..." } else { "" };
    format!("\"{}\"{rest}", cut.escape_debug())
}
