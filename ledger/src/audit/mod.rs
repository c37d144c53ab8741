//! What an audit reads and mends, for `waybill doctor`: walks over whole collections in bounded steps, by index, and the few
//! writes that put a file back on its way.

mod content;
mod files;
mod mend;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::Hint;
use mongodb::{Collection, error};

use crate::LedgerError;

pub use content::{FoundContent, FoundKey};
pub use files::{Ages, FoundFile, Moment};

/// How far a walk over a collection is: behind this `_id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Position(Bson);

/// One step of a walk.
#[derive(Debug)]
pub struct Batch<T> {
    /// What was found, in order of `_id`.
    pub found: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Position>,
}

impl LedgerError {
    /// Whether something is wrong with what is stored, not with reaching it.
    pub fn is_corrupt_data(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            // How our own readers of chunks report a document that has not the right fields.
            Self::Mongo { source, .. } => matches!(source.kind.as_ref(), ErrorKind::Custom(_)),
            _ => false,
        }
    }
}

/// The documents behind `after` in order of `_id`, at most `limit`.
///
/// By the bounds of the index, not by a filter: a comparison in a filter sees values of one type only, and whatever is wrong
/// in a collection is to be found too.
async fn behind<T: serde::de::DeserializeOwned + Send + Sync>(
    collection: &Collection<T>,
    after: Option<&Position>,
    projection: Document,
    limit: usize,
) -> error::Result<Vec<Document>> {
    let collection = collection.clone_with_type::<Document>();
    let by_id = doc! { "_id": 1 };
    // The bound is part of what it bounds, so one more is asked for.
    let ask = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let find = collection.find(doc! {}).hint(Hint::Keys(by_id.clone())).sort(by_id).projection(projection).limit(ask);
    let mut cursor = match after {
        Some(Position(id)) => find.min(doc! { "_id": id }).await?,
        None => find.await?,
    };
    let mut documents = Vec::new();
    while cursor.advance().await? {
        let document = cursor.deserialize_current()?;
        let is_bound = after.is_some_and(|Position(id)| document.get("_id") == Some(id));
        if !is_bound && documents.len() < limit {
            documents.push(document);
        }
    }
    Ok(documents)
}
