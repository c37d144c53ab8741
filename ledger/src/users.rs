use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use mongodb::bson::{Document, doc};
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

/// The hash that a password is compared with if the user table is empty: argon2id with the default costs.
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

    /// Compares name and password with the table. An unknown name costs as much time as a wrong password: the password
    /// is then compared with the hash of another user, and the result is ignored. One call costs tens of milliseconds
    /// of a core, so the caller must bound how many run at once.
    pub async fn authenticate(&self, username: &str, password: &str) -> Result<Authentication, LedgerError> {
        let found = self.find_user(doc! { "username": username }).await?;
        let known = found.is_some();
        let user = match found {
            Some(user) => Some(user),
            None => self.find_user(doc! {}).await?,
        };
        let hash = user.as_ref().map_or_else(|| NOBODY.to_owned(), |user| user.password.clone());
        let password = password.to_owned();
        let right = blocking(move || matches(&password, &hash)).await?;
        Ok(match user {
            Some(user) if known && right && user.disabled == Some(true) => Authentication::Disabled,
            Some(user) if known && right => {
                Authentication::Accepted(User { username: user.username, scopes: user.scopes })
            }
            _ => Authentication::Rejected,
        })
    }

    /// The user of that name, unless it is disabled: for requests with a token that was issued before.
    pub async fn active_user(&self, username: &str) -> Result<Option<User>, LedgerError> {
        let user = self.find_user(doc! { "username": username }).await?.filter(|user| user.disabled != Some(true));
        Ok(user.map(|user| User { username: user.username, scopes: user.scopes }))
    }

    async fn find_user(&self, filter: Document) -> Result<Option<UserDocument>, LedgerError> {
        let users = self.users.clone_with_type::<UserDocument>();
        self.run("looking up a user", async move { users.find_one(filter).await }).await
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

/// Whether [`Ledger::authenticate`] can compare a password with this hash.
pub(crate) fn is_known_form(hash: &str) -> bool {
    is_bcrypt(hash) || (hash.starts_with("$argon2id$") && PasswordHash::new(hash).is_ok())
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
            assert!(!matches("correct horse", hash) && !is_known_form(hash), "{hash:?}");
        }
    }

    #[test]
    fn nobody_is_a_hash_that_costs_as_much_as_ours() {
        assert!(is_known_form(NOBODY));
        let costs = |hash: &str| hash.split('$').nth(3).map(str::to_owned);
        assert_eq!(costs(NOBODY), costs(&hash("x").unwrap()));
    }
}
