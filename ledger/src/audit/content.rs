use std::collections::HashMap;

use contract::{ChunkNumber, FileId, Generation};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, RawDocument, doc};
use mongodb::error::Error;
use mongodb::options::Hint;

use super::{Batch, Position, after_position};
use crate::bson_form::binary;
use crate::content::{chunk_key, content_key, generation_in, key_of, number_in, proof_in};
use crate::index::PROOF_INDEX;
use crate::{ChunkProof, Layout, Ledger, LedgerError};

/// Keys of chunks in one query: those of hundreds of small files. The rest of a large file's keys is stepped over.
const KEYS: usize = 1024;

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
        let (collection, after, limit) = (self.content_collection(layout), after.cloned(), usize::from(limit));
        let ask = match layout {
            Layout::Embedded => limit,
            Layout::Children => KEYS.max(limit),
        };
        let read = self.run("reading the keys of content", async move {
            after_position(&collection, after.as_ref(), doc! { "_id": 1 }, ask).await
        });
        let mut ids: Vec<Bson> = read.await?.iter_mut().filter_map(|document| document.remove("_id")).collect();
        let is_end = ids.len() < ask;
        if layout == Layout::Children {
            ids.dedup_by_key(|id| after_generation(id));
        }
        let is_end = is_end && ids.len() <= limit;
        ids.truncate(limit);
        let last = ids.last().filter(|_| !is_end);
        let next = last.map(|id| match layout {
            Layout::Embedded => Position(id.clone()),
            Layout::Children => after_generation(id),
        });
        Ok(Batch { found: ids.iter().map(|id| FoundContent { layout, key: key(id, layout) }).collect(), next })
    }

    /// The first `limit` chunks in `chunks` from this one on, whichever files they belong to, in order of their keys
    /// and by the index alone.
    pub async fn audit_chunks(
        &self,
        (file, generation, number): (FileId, Generation, ChunkNumber),
        limit: u16,
    ) -> Result<Vec<((FileId, Generation), ChunkProof)>, LedgerError> {
        let last = chunk_key(FileId::from_bytes([u8::MAX; 16]), Generation(u32::MAX), ChunkNumber(u32::MAX));
        let filter = doc! { "_id": { "$gte": binary(chunk_key(file, generation, number)), "$lte": binary(last) } };
        let chunks = self.chunks.clone();
        self.run("reading which chunks are stored", async move {
            let find = chunks.find(filter).sort(doc! { "_id": 1 }).hint(Hint::Name(PROOF_INDEX.into()));
            let find = find.projection(doc! { "_id": 1, "len": 1, "sha256": 1 }).limit(limit.into());
            let mut cursor = find.batch_size(u32::from(limit) + 1).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                let chunk = cursor.current();
                let key = key_of(chunk)?;
                let of = generation_in(key).zip(number_in(key));
                let (of, number) = of.ok_or_else(|| Error::custom("expected a chunk's _id, found another"))?;
                let (len, sha256) = proof_in(chunk)?;
                found.push((of, ChunkProof { number, len, sha256 }));
            }
            Ok(found)
        })
        .await
    }

    /// The chunks in the documents of `contents` that these generations have, in order. What is not as a store writes
    /// it is left out with its whole generation.
    pub async fn audit_embedded(
        &self,
        of: &[(FileId, Generation)],
    ) -> Result<HashMap<(FileId, Generation), Vec<ChunkProof>>, LedgerError> {
        let keys: Vec<Bson> = of.iter().map(|(file, generation)| binary(content_key(*file, *generation))).collect();
        // The bytes stay in MongoDB, whatever the numbers are.
        let chunk = doc! { "n": "$$chunk.k", "len": "$$chunk.v.len", "sha256": "$$chunk.v.sha256" };
        let chunks = doc! { "$map": { "input": { "$objectToArray": "$c" }, "as": "chunk", "in": chunk } };
        let is_object = doc! { "$eq": [{ "$type": "$c" }, "object"] };
        let look = vec![
            doc! { "$match": { "_id": { "$in": keys } } },
            doc! { "$project": { "c": { "$cond": [is_object, chunks, "$$REMOVE"] } } },
        ];
        let contents = self.contents.clone();
        self.run("reading which chunks are stored", async move {
            let mut cursor = contents.aggregate(look).await?;
            let mut found = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                if let (Some(of), Some(proofs)) = (generation_in(key_of(document)?), embedded_in(document)) {
                    found.insert(of, proofs);
                }
            }
            Ok(found)
        })
        .await
    }
}

/// The chunks of a document of `contents`, as [`Ledger::audit_embedded`] asks for them, in order.
fn embedded_in(document: &RawDocument) -> Option<Vec<ChunkProof>> {
    let mut proofs = Vec::new();
    for chunk in document.get_array("c").ok()? {
        let chunk = chunk.ok()?.as_document()?;
        let number = ChunkNumber(chunk.get_str("n").ok()?.parse().ok()?);
        let (len, sha256) = proof_in(chunk).ok()?;
        proofs.push(ChunkProof { number, len, sha256 });
    }
    proofs.sort_by_key(|proof| proof.number);
    Some(proofs)
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
