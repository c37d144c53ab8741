use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use mongodb::bson::{self, Document, doc};
use serde::Deserialize;

use crate::error::is_duplicate_key;
use crate::{Ledger, LedgerError};

/// A user to add.
#[derive(Debug, Clone)]
pub struct NewUser<'a> {
    /// The name.
    pub username: &'a str,
    /// The password in clear; only its argon2id hash is kept.
    pub password: &'a str,
}

/// A user who may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub username: String,
    /// What the user may do.
    pub scopes: Vec<String>,
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Name and password are right.
    Accepted(User),
    /// The name or the password is wrong. Nobody is told which.
    Rejected,
    /// Name and password are right, but the user is disabled.
    Disabled,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UserDocument {
    pub(crate) username: String,
    /// The original service called it `hashed_password`.
    #[serde(alias = "hashed_password")]
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) disabled: Option<bool>,
}

/// The highest cost of a bcrypt hash that is compared: each step doubles the time, and cost 18 takes 43 seconds.
const BCRYPT_MAX: u32 = 12;

/// The most memory of an argon2id hash that is compared, in KiB. Ours has 19 MiB.
const ARGON2_MEMORY_MAX: u32 = 64 * 1024;

/// The most memory of an argon2id hash times its passes, in KiB: what RFC 9106 recommends where memory is scarce.
const ARGON2_WORK_MAX: u32 = 3 * ARGON2_MEMORY_MAX;

/// The hash that a password is compared with if there is none to compare it with: argon2id with the default costs.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$d2F5YmlsbC1ub2JvZHk$pTeK54QTS4w6u6XE12QiWxoyq3bGwxRTJISNc6LOZDk";

impl Ledger {
    /// Adds a user. `false`: a user of that name exists, and stays unchanged.
    pub async fn add_user(&self, new: &NewUser<'_>) -> Result<bool, LedgerError> {
        let password = new.password.to_owned();
        let hash = blocking(move || hash(&password)).await??;
        let user = doc! { "username": new.username, "password": hash, "scopes": [], "disabled": false };
        let users = self.users.clone();
        match self.run("adding a user", async move { users.insert_one(user).await }).await {
            Ok(_) => Ok(true),
            Err(LedgerError::Mongo { source, .. }) if is_duplicate_key(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether there is any user.
    pub async fn has_users(&self) -> Result<bool, LedgerError> {
        let users = self.users.clone();
        Ok(self.run("looking for users", async move { users.find_one(doc! {}).await }).await?.is_some())
    }

    /// Compares name and password with the table. One call takes tens to hundreds of milliseconds of a core, so the
    /// caller must bound how many run at once.
    ///
    /// A password is hashed whatever the name. But imported hashes may cost more than ours: so that the time tells
    /// nobody which names exist, the caller answers every [`Authentication::Rejected`] after the same time.
    pub async fn authenticate(&self, username: &str, password: &str) -> Result<Authentication, LedgerError> {
        let user = self.find_user(username).await?.filter(|user| match check_hash(&user.password) {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!("nobody can log in as {username:?}, whose password needs to be set again: {why}");
                false
            }
        });
        let hash = user.as_ref().map_or_else(|| NOBODY.to_owned(), |user| user.password.clone());
        let password = password.to_owned();
        let right = blocking(move || matches(&password, &hash)).await?;
        Ok(match user {
            Some(user) if right && user.disabled == Some(true) => Authentication::Disabled,
            Some(user) if right => Authentication::Accepted(User { username: user.username, scopes: user.scopes }),
            _ => Authentication::Rejected,
        })
    }

    /// The user of that name, unless it is disabled: for requests with a token that was issued before.
    pub async fn active_user(&self, username: &str) -> Result<Option<User>, LedgerError> {
        let user = self.find_user(username).await?.filter(|user| user.disabled != Some(true));
        Ok(user.map(|user| User { username: user.username, scopes: user.scopes }))
    }

    /// A user whose document cannot be read does not exist: only an operator can mend it, and the log says so.
    async fn find_user(&self, username: &str) -> Result<Option<UserDocument>, LedgerError> {
        let (users, filter) = (self.users.clone(), doc! { "username": username });
        let found = self.run("looking up a user", async move { users.find_one(filter).await }).await?;
        Ok(found.and_then(|document| match UserDocument::read(document) {
            Ok(user) => Some(user),
            Err(why) => {
                tracing::warn!("the document of the user {username:?} cannot be read: {why}");
                None
            }
        }))
    }
}

impl UserDocument {
    pub(crate) fn read(document: Document) -> Result<Self, String> {
        bson::deserialize_from_document(document).map_err(|error| error.to_string())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LedgerError> {
    let operation = "hashing a password";
    tokio::task::spawn_blocking(work).await.map_err(|source| LedgerError::Aborted { operation, source })
}

fn hash(password: &str) -> Result<String, LedgerError> {
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|e| LedgerError::Password(e.to_string()))
}

fn matches(password: &str, hash: &str) -> bool {
    if is_bcrypt(hash) {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// `$2a$`, `$2b$`, `$2y$`: passlib and others write these.
fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) && hash.len() == 60
}

/// Whether [`Ledger::authenticate`] compares a password with this hash, and if not, why.
pub(crate) fn check_hash(hash: &str) -> Result<(), String> {
    if is_bcrypt(hash) {
        return match hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok()) {
            Some(0..=BCRYPT_MAX) => Ok(()),
            Some(cost) => Err(format!("expected bcrypt with a cost of at most {BCRYPT_MAX}, found {cost}")),
            None => Err("expected the cost of a bcrypt hash to be a number, found another text".into()),
        };
    }
    let parsed = hash.starts_with("$argon2id$").then(|| PasswordHash::new(hash).ok()).flatten();
    let Some(params) = parsed.and_then(|hash| Params::try_from(&hash).ok()) else {
        return Err("expected argon2id or bcrypt, found neither".into());
    };
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory <= ARGON2_MEMORY_MAX && memory.saturating_mul(passes) <= ARGON2_WORK_MAX {
        return Ok(());
    }
    Err(format!(
        "expected argon2id with at most {ARGON2_MEMORY_MAX} KiB, and {ARGON2_WORK_MAX} KiB times passes, found {memory} \
         KiB and {passes} passes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2id_and_bcrypt_are_compared() {
        let own = hash("correct horse").unwrap();
        assert!(own.starts_with("$argon2id$"));
        assert!(matches("correct horse", &own) && !matches("battery staple", &own));
        let theirs = bcrypt::hash("correct horse", 4).unwrap();
        for version in ["$2a$", "$2b$"] {
            let theirs = theirs.replacen("$2b$", version, 1);
            assert!(matches("correct horse", &theirs) && !matches("battery staple", &theirs));
        }
    }

    #[test]
    fn text_that_is_not_a_hash_matches_nothing() {
        for hash in ["", "correct horse", "$2b$12$short", "$1$abc"] {
            assert!(!matches("correct horse", hash) && check_hash(hash).is_err(), "{hash:?}");
        }
    }

    #[test]
    fn nobody_is_a_hash_that_costs_as_much_as_ours() {
        check_hash(NOBODY).unwrap();
        let costs = |hash: &str| hash.split('$').nth(3).map(str::to_owned);
        assert_eq!(costs(NOBODY), costs(&hash("x").unwrap()));
    }

    #[test]
    fn a_hash_that_costs_too_much_is_refused_with_its_cost() {
        let bcrypt = |cost: &str| format!("$2b${cost}${}", "a".repeat(53));
        let argon2 = |costs: &str| {
            format!("$argon2id$v=19${costs}$c2FsdHNhbHRzYWx0$pTeK54QTS4w6u6XE12QiWxoyq3bGwxRTJISNc6LOZDk")
        };
        for hash in [bcrypt("04"), bcrypt("12"), argon2("m=19456,t=2,p=1"), argon2("m=65536,t=3,p=4")] {
            assert_eq!(check_hash(&hash), Ok(()), "{hash}");
        }
        for (hash, named) in [
            (bcrypt("13"), "13"),
            (bcrypt("18"), "18"),
            (bcrypt("xx"), "number"),
            (argon2("m=65537,t=1,p=1"), "65537 KiB"),
            (argon2("m=4194304,t=1,p=1"), "4194304 KiB"),
            (argon2("m=65536,t=4,p=1"), "4 passes"),
            (argon2("m=19456,t=4294967295,p=1"), "4294967295 passes"),
        ] {
            let why = check_hash(&hash).unwrap_err();
            assert!(why.contains(named), "{hash}: {why}");
        }
    }
}
