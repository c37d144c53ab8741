use contract::{FileId, Generation};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, doc};

use super::{Batch, Position, after_position};
use crate::bson_form::binary;
use crate::content::{content_key, generation_in};
use crate::{Layout, Ledger, LedgerError};

/// Bytes of a key: of file id and generation together, and of number and part together.
const GENERATION: usize = 20;
const NUMBER: usize = 6;

/// Content that was found, whether a record exists or not: one generation of a file, in one of the two collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContent {
    /// The collection that it is in, as a layout.
    pub layout: Layout,
    /// What its key says.
    pub key: FoundKey,
}

/// What the key of content says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKey {
    /// The content belongs to this generation of this file.
    Of(FileId, Generation),
    /// Waybill never makes such a key; the text shows it to people.
    Unreadable(String),
}

impl Ledger {
    /// The generations of files that have content after `after`, at most `limit`, by the index alone.
    pub async fn audit_content(
        &self,
        layout: Layout,
        after: Option<&Position>,
        limit: u16,
    ) -> Result<Batch<FoundContent>, LedgerError> {
        let (collection, after) = (self.content_collection(layout), after.cloned());
        let ids = self
            .run("reading the keys of content", async move {
                match layout {
                    Layout::Embedded => {
                        let found =
                            after_position(&collection, after.as_ref(), doc! { "_id": 1 }, usize::from(limit)).await?;
                        Ok(found.into_iter().filter_map(|mut document| document.remove("_id")).collect())
                    }
                    Layout::Children => {
                        let mut ids: Vec<Bson> = Vec::new();
                        while ids.len() < usize::from(limit) {
                            let last = ids.last().map(after_generation).or_else(|| after.clone());
                            let mut found = after_position(&collection, last.as_ref(), doc! { "_id": 1 }, 1).await?;
                            let Some(id) = found.pop().and_then(|mut document| document.remove("_id")) else { break };
                            ids.push(id);
                        }
                        Ok(ids)
                    }
                }
            })
            .await?;
        let last = ids.last().filter(|_| ids.len() == usize::from(limit));
        let next = last.map(|id| match layout {
            Layout::Embedded => Position(id.clone()),
            Layout::Children => after_generation(id),
        });
        Ok(Batch { found: ids.iter().map(|id| FoundContent { layout, key: key(id, layout) }).collect(), next })
    }
}

fn key(id: &Bson, layout: Layout) -> FoundKey {
    let length = match layout {
        Layout::Embedded => GENERATION,
        Layout::Children => GENERATION + NUMBER,
    };
    let found = match id {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes }) if bytes.len() == length => {
            generation_in(bytes)
        }
        _ => None,
    };
    found.map_or_else(|| FoundKey::Unreadable(id.to_string()), |(file, generation)| FoundKey::Of(file, generation))
}

/// The position after this generation's last possible chunk key; after this `_id` if it is not a chunk key.
fn after_generation(id: &Bson) -> Position {
    match key(id, Layout::Children) {
        FoundKey::Of(file, generation) => {
            let mut last = content_key(file, generation);
            last.extend_from_slice(&[u8::MAX; NUMBER]);
            Position(binary(last))
        }
        FoundKey::Unreadable(_) => Position(id.clone()),
    }
}
