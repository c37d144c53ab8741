use contract::{FileId, Generation};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, doc};

use super::{Batch, Position, behind};
use crate::bson_form::{binary, content_key};
use crate::{Layout, Ledger, LedgerError};

/// Bytes of a file id in a key, and of a file id and a generation.
const FILE: usize = 16;
const GENERATION: usize = 20;

/// Content that is there, whoever it belongs to: one generation of a file, in one of the two collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContent {
    /// In which collection.
    pub layout: Layout,
    /// Whose it is.
    pub key: FoundKey,
}

/// Whose content it is, as its key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKey {
    /// A generation of a file.
    Of(FileId, Generation),
    /// No key that Waybill makes, for people.
    Unreadable(String),
}

impl Ledger {
    /// Which generations of which files have content behind `after`, at most `limit`, by the index alone.
    pub async fn audit_content(
        &self,
        layout: Layout,
        after: Option<&Position>,
        limit: u16,
    ) -> Result<Batch<FoundContent>, LedgerError> {
        let (collection, after) = (self.content_collection(layout), after.cloned());
        let ids = self
            .run("reading whose content there is", async move {
                match layout {
                    Layout::Embedded => {
                        let found = behind(&collection, after.as_ref(), doc! { "_id": 1 }, usize::from(limit)).await?;
                        Ok(found.into_iter().filter_map(|mut document| document.remove("_id")).collect())
                    }
                    Layout::Children => {
                        let mut ids: Vec<Bson> = Vec::new();
                        while ids.len() < usize::from(limit) {
                            let last = ids.last().map(behind_generation).or_else(|| after.clone());
                            let mut found = behind(&collection, last.as_ref(), doc! { "_id": 1 }, 1).await?;
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
            Layout::Children => behind_generation(id),
        });
        Ok(Batch { found: ids.iter().map(|id| FoundContent { layout, key: key(id, layout) }).collect(), next })
    }
}

fn length(layout: Layout) -> usize {
    match layout {
        Layout::Embedded => GENERATION,
        Layout::Children => GENERATION + 6,
    }
}

fn key(id: &Bson, layout: Layout) -> FoundKey {
    let read = || {
        let Bson::Binary(binary) = id else { return None };
        let generic = binary.subtype == BinarySubtype::Generic && binary.bytes.len() == length(layout);
        let file = binary.bytes.get(..FILE).filter(|_| generic)?.try_into().ok()?;
        let generation = binary.bytes.get(FILE..GENERATION)?.try_into().ok()?;
        Some(FoundKey::Of(FileId::from_bytes(file), Generation(u32::from_be_bytes(generation))))
    };
    read().unwrap_or_else(|| FoundKey::Unreadable(id.to_string()))
}

/// Behind the last possible chunk of the generation that this chunk is of; behind the chunk itself where its key is no right one.
fn behind_generation(id: &Bson) -> Position {
    match key(id, Layout::Children) {
        FoundKey::Of(file, generation) => {
            let mut last = content_key(file, generation);
            last.extend_from_slice(&[u8::MAX; 6]);
            Position(binary(last))
        }
        FoundKey::Unreadable(_) => Position(id.clone()),
    }
}
