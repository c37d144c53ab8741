//! What an audit reads and mends, for `waybill doctor`: reads of whole collections in bounded steps, by index, and the
//! few writes that put a file back on its way.

mod content;
mod files;
mod mend;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;
use mongodb::{Collection, error};

pub use content::{FoundContent, FoundKey};
pub use files::{Ages, FoundFile, Moment};

/// How far an audit has come in a collection: after this `_id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Position(Bson);

/// One step of an audit.
#[derive(Debug)]
pub struct Batch<T> {
    /// What was found, in order of `_id`.
    pub found: Vec<T>,
    /// Where the next step begins; `None` at the end.
    pub next: Option<Position>,
}

/// The documents after `after` in order of `_id`, at most `limit`.
///
/// The bounds of the index select them, not a filter: a comparison in a filter sees values of one type only, and an
/// audit must also find an `_id` of a wrong type.
async fn after_position<T: serde::de::DeserializeOwned + Send + Sync>(
    collection: &Collection<T>,
    after: Option<&Position>,
    projection: Document,
    limit: usize,
) -> error::Result<Vec<Document>> {
    let collection = collection.clone_with_type::<Document>();
    let by_id = doc! { "_id": 1 };
    // The lower bound is inclusive, so the query asks for one more document.
    let ask = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let find = collection.find(doc! {}).hint(Hint::Keys(by_id.clone())).sort(by_id).projection(projection).limit(ask);
    let find = find.batch_size(u32::try_from(ask).unwrap_or(u32::MAX));
    let cursor = match after {
        Some(Position(id)) => find.min(doc! { "_id": id }).await?,
        None => find.await?,
    };
    let mut documents: Vec<Document> = cursor.try_collect().await?;
    documents.retain(|document| after.is_none_or(|Position(id)| document.get("_id") != Some(id)));
    documents.truncate(limit);
    Ok(documents)
}
