use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::{Ledger, LedgerError};

/// How long a user who was found active counts as active: so long a token outlives its user at most. It saves a look into
/// the user table with most requests of a busy caller. That a user is *not* active is never remembered.
const FRESH: Duration = Duration::from_secs(3);

/// How many users are remembered at most.
const USERS_MAX: usize = 4096;

/// Users who were found active a moment ago.
#[derive(Debug, Default)]
pub(super) struct ActiveUsers(Mutex<HashMap<String, Instant>>);

impl ActiveUsers {
    /// Whether the user is there and not disabled, now or up to [`FRESH`] ago.
    pub(super) async fn is_active(&self, ledger: &Ledger, user: &str) -> Result<bool, LedgerError> {
        let asked = Instant::now();
        if self.is_remembered(user, asked) {
            return Ok(true);
        }
        let active = ledger.user_is_active(user).await?;
        if active {
            // From before the question: the answer may be as old as that.
            self.remember(user, asked);
        }
        Ok(active)
    }

    fn is_remembered(&self, user: &str, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(user).is_some_and(|since| now.saturating_duration_since(*since) < FRESH)
    }

    fn remember(&self, user: &str, since: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= USERS_MAX {
            known.retain(|_, then| since.saturating_duration_since(*then) < FRESH);
        }
        if known.len() < USERS_MAX {
            known.insert(user.to_owned(), since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_a_while() {
        let (users, then) = (ActiveUsers::default(), Instant::now());
        users.remember("ada", then);
        assert!(users.is_remembered("ada", then + FRESH / 2));
        assert!(!users.is_remembered("ada", then + FRESH));
        assert!(!users.is_remembered("eve", then));
    }

    #[test]
    fn remembers_a_bounded_number() {
        let (users, then) = (ActiveUsers::default(), Instant::now());
        for n in 0..2 * USERS_MAX {
            users.remember(&n.to_string(), then);
        }
        assert_eq!(users.0.lock().unwrap().len(), USERS_MAX);
        users.remember("later", then + FRESH);
        assert_eq!(users.0.lock().unwrap().len(), 1);
    }
}
