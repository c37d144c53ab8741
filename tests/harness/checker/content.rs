use std::collections::BTreeMap;

use contract::{FileId, State};
use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Document, doc};

use super::{Case, Found, Rule, Violation};

/// R5: content that should be gone. A key begins with file id (16 bytes) and generation (4, big endian).
pub(super) async fn forgotten(
    case: &Case<'_>,
    database: &Database,
    records: &BTreeMap<FileId, Found>,
) -> anyhow::Result<Vec<Violation>> {
    let mut there: BTreeMap<(FileId, u32), u32> = BTreeMap::new();
    for collection in ["contents", "chunks"] {
        let keys = database.collection::<Document>(collection).find(doc! {}).projection(doc! { "_id": 1 }).await?;
        let keys: Vec<Document> = keys.try_collect().await?;
        for key in keys {
            let Some(key) = key.get_binary_generic("_id").ok().and_then(|key| key.first_chunk::<20>()) else {
                anyhow::bail!("{collection} has a document with the _id {key}");
            };
            let (file, generation) = key.split_at(16);
            let generation = u32::from_be_bytes(generation.try_into()?);
            *there.entry((FileId::from_bytes(file.try_into()?), generation)).or_default() += 1;
        }
    }
    let judge = |((file, generation), documents): (&(FileId, u32), &u32)| {
        let what = |why: &str| format!("{documents} documents of {file}, generation {generation}, are there: {why}");
        let wrong = |why: &str| Some(Violation::new(Rule::Forgotten, what(why)));
        let not_yet = |why: &str| Some(Violation::not_yet(Rule::Forgotten, what(why)));
        let Some(found) = records.get(file) else { return wrong("the file is not recorded") };
        match found.state {
            // The record was read before the content and may have changed since; one that stays behind shows at the deadline.
            _ if *generation > found.generation => not_yet("the record has not come to that generation"),
            _ if *generation < found.generation => not_yet("a later generation counts"),
            State::Delivered | State::Failed | State::Cancelled if case.forgets => {
                not_yet("the file is terminal, and its retention is over")
            }
            _ => None,
        }
    };
    Ok(there.iter().filter_map(judge).collect())
}
