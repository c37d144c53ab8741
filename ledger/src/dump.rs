use std::path::{Path, PathBuf};

use mongodb::bson::{self, Document, RawDocument, doc};

use crate::users::{UserDocument, is_known_form};
use crate::{Ledger, LedgerError};

/// The largest document that MongoDB takes, in bytes.
const DOCUMENT_MAX: usize = 16 * 1024 * 1024;

/// How many users were imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Users that were not in the table.
    pub added: u64,
    /// Users that were in the table already and are now as in the dump.
    pub replaced: u64,
}

/// Why a dump was not imported. Nothing was written, unless MongoDB itself failed half-way.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not as mongodump writes it.
    #[error("expected a .bson file as mongodump writes it (not gzipped), found at byte {at}: {found}")]
    Form {
        /// The offset in bytes.
        at: usize,
        /// What was found there.
        found: String,
    },
    /// A document that is not a user.
    #[error("document {number} of the dump is not a user: {why}")]
    User {
        /// Its number in the dump, from 1 on.
        number: usize,
        /// Why.
        why: String,
    },
    /// The file has no document.
    #[error("expected a dump of users, found no user in it")]
    Empty,
    /// MongoDB failed. Import again: users that were written are written again in the same way.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Reads the users of a collection that mongodump wrote. All are checked before the first is written.
    pub async fn import_users(&self, path: &Path) -> Result<Imported, DumpError> {
        let bytes = tokio::fs::read(path).await.map_err(|source| DumpError::Read { path: path.to_owned(), source })?;
        let users = users_of(&bytes)?;
        let mut imported = Imported { added: 0, replaced: 0 };
        for user in users {
            let collection = self.users.clone();
            let filter = doc! { "username": &user.username };
            let set = doc! {
                "$set": {
                    "password": user.password,
                    "scopes": user.scopes,
                    "disabled": user.disabled.unwrap_or(false),
                },
                // A restored user may have the original service's field; a user with both fields cannot be read.
                "$unset": { "hashed_password": "" },
            };
            let written = self
                .run("importing a user", async move { collection.update_one(filter, set).upsert(true).await })
                .await?;
            if written.upserted_id.is_some() {
                imported.added += 1;
            } else {
                imported.replaced += 1;
            }
        }
        Ok(imported)
    }
}

fn users_of(bytes: &[u8]) -> Result<Vec<UserDocument>, DumpError> {
    let mut users = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let document = next_document(bytes, at)?;
        at += document.as_bytes().len();
        let number = users.len() + 1;
        let refuse = |why: String| DumpError::User { number, why };
        let document = Document::try_from(document).map_err(|e| refuse(e.to_string()))?;
        let user: UserDocument = bson::deserialize_from_document(document).map_err(|e| refuse(e.to_string()))?;
        if user.username.is_empty() {
            return Err(refuse("its username is empty".into()));
        }
        if !is_known_form(&user.password) {
            return Err(refuse(format!("the password of {:?} is neither argon2id nor bcrypt", user.username)));
        }
        users.push(user);
    }
    if users.is_empty() { Err(DumpError::Empty) } else { Ok(users) }
}

fn next_document(bytes: &[u8], at: usize) -> Result<&RawDocument, DumpError> {
    let refuse = |found: String| DumpError::Form { at, found };
    let rest = &bytes[at..];
    let length = rest.first_chunk::<4>().ok_or_else(|| refuse(format!("{} bytes left over", rest.len())))?;
    let length = usize::try_from(i32::from_le_bytes(*length)).unwrap_or(0);
    if !(5..=DOCUMENT_MAX).contains(&length) || length > rest.len() {
        return Err(refuse(format!("a document of {length} bytes where {} are left", rest.len())));
    }
    RawDocument::from_bytes(&rest[..length]).map_err(|e| refuse(e.to_string()))
}
