use std::path::{Path, PathBuf};

use mongodb::bson::{Document, RawDocument, doc};

use crate::users::{UserDocument, check_hash};
use crate::{Ledger, LedgerError};

/// The largest document that MongoDB takes, in bytes.
const DOCUMENT_MAX: usize = 16 * 1024 * 1024;

/// What became of a dump of users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many users were not in the table.
    pub added: u64,
    /// How many users were in the table already and are now as in the dump.
    pub replaced: u64,
    /// Documents that are not users who could log in. They were left out.
    pub refused: Vec<RefusedUser>,
}

/// A document of a dump that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {number} of the dump was not imported: {why}")]
pub struct RefusedUser {
    /// Its number in the dump, from 1 on.
    pub number: usize,
    /// Why.
    pub why: String,
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
    /// The file has no document.
    #[error("expected a dump of users, found no user in it")]
    Empty,
    /// MongoDB failed. Import again: users that were written are written again in the same way.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Reads the users of a collection that mongodump wrote. The whole file is read before the first is written. A
    /// document that is not a user who could log in stops no other.
    pub async fn import_users(&self, path: &Path) -> Result<Imported, DumpError> {
        let bytes = tokio::fs::read(path).await.map_err(|source| DumpError::Read { path: path.to_owned(), source })?;
        let mut imported = Imported::default();
        let mut users = Vec::new();
        for (index, document) in documents_of(&bytes)?.into_iter().enumerate() {
            match user_of(document) {
                Ok(user) => users.push(user),
                Err(why) => imported.refused.push(RefusedUser { number: index + 1, why }),
            }
        }
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

fn documents_of(bytes: &[u8]) -> Result<Vec<&RawDocument>, DumpError> {
    let mut documents = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let document = next_document(bytes, at)?;
        at += document.as_bytes().len();
        documents.push(document);
    }
    if documents.is_empty() { Err(DumpError::Empty) } else { Ok(documents) }
}

fn user_of(document: &RawDocument) -> Result<UserDocument, String> {
    let document = Document::try_from(document).map_err(|error| error.to_string())?;
    let user = UserDocument::read(document)?;
    if user.username.is_empty() {
        return Err("its username is empty".into());
    }
    check_hash(&user.password).map_err(|why| format!("the password of {:?}: {why}", user.username))?;
    Ok(user)
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
