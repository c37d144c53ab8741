use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::{Ledger, LedgerError, User};

/// How long an active user is remembered: a disabled user's token keeps working for at most this long. It saves a busy
/// caller's requests most queries of the user table. Users who are *not* active are never remembered.
const FRESH: Duration = Duration::from_secs(3);

/// How many users are remembered at most.
const USERS_MAX: usize = 4096;

/// Users who were active when they were last looked up.
#[derive(Debug, Default)]
pub(super) struct ActiveUsers(Mutex<HashMap<String, Remembered>>);

#[derive(Debug)]
struct Remembered {
    user: User,
    since: Instant,
}

impl ActiveUsers {
    /// The user, if it exists and is not disabled, now or up to [`FRESH`] ago.
    pub(super) async fn find(&self, ledger: &Ledger, username: &str) -> Result<Option<User>, LedgerError> {
        let asked = Instant::now();
        if let Some(user) = self.remembered(username, asked) {
            return Ok(Some(user));
        }
        let user = ledger.active_user(username).await?;
        if let Some(user) = &user {
            // From the moment when the query began, because the answer may be as old as that.
            self.remember(user.clone(), asked);
        }
        Ok(user)
    }

    fn remembered(&self, username: &str, now: Instant) -> Option<User> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = users.get(username)?;
        (now.saturating_duration_since(known.since) < FRESH).then(|| known.user.clone())
    }

    fn remember(&self, user: User, since: Instant) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS_MAX {
            users.retain(|_, known| since.saturating_duration_since(known.since) < FRESH);
        }
        if users.len() < USERS_MAX {
            users.insert(user.username.clone(), Remembered { user, since });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(username: &str) -> User {
        User { username: username.into(), scopes: vec!["upload".into()] }
    }

    #[test]
    fn forgets_after_a_while() {
        let (users, then) = (ActiveUsers::default(), Instant::now());
        users.remember(user("ada"), then);
        assert_eq!(users.remembered("ada", then + FRESH / 2), Some(user("ada")));
        assert_eq!(users.remembered("ada", then + FRESH), None);
        assert_eq!(users.remembered("eve", then), None);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let (users, then) = (ActiveUsers::default(), Instant::now());
        for n in 0..2 * USERS_MAX {
            users.remember(user(&n.to_string()), then);
        }
        assert_eq!(users.0.lock().unwrap().len(), USERS_MAX);
        users.remember(user("later"), then + FRESH);
        assert_eq!(users.0.lock().unwrap().len(), 1);
    }
}
