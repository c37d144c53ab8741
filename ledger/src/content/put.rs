use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use contract::{ChunkNumber, Digest, FileId, Generation};
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{Hint, ReadConcern, ReadPreference, SelectionCriteria};
use serde::Serialize;

use super::key::{chunk_key, content_key, key_of};
use super::{Proof, proof_in};
use crate::bson_form::binary;
use crate::error::is_duplicate_key;
use crate::index::PROOF_INDEX;
use crate::{Ledger, LedgerError};

/// A chunk to be written. The caller has checked length and hash.
#[derive(Debug, Clone)]
pub struct NewChunk {
    /// The file.
    pub file: FileId,
    /// The reading of the source that it comes from.
    pub generation: Generation,
    /// Its number in the file.
    pub number: ChunkNumber,
    /// SHA-256 of `data`.
    pub sha256: Digest,
    /// The bytes.
    pub data: Bytes,
}

/// What became of a chunk. A stored chunk is durable in a majority's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Written.
    Written,
    /// The same chunk was stored before.
    Duplicate,
    /// Another chunk was stored before under the same number.
    Conflict {
        /// Its length in bytes.
        len: u32,
        /// Its SHA-256.
        sha256: Digest,
    },
    /// There is no document for it: its generation was removed or never opened.
    NoDocument,
}

#[derive(Serialize)]
struct ChunkDocument {
    #[serde(rename = "_id")]
    id: Bytes,
    len: i64,
    sha256: Bytes,
    data: Bytes,
}

#[derive(Serialize)]
struct ContentDocument {
    #[serde(rename = "_id")]
    id: Bytes,
    c: HashMap<String, EmbeddedChunk>,
}

#[derive(Serialize)]
struct EmbeddedChunk {
    len: i64,
    sha256: Bytes,
    data: Bytes,
}

impl Ledger {
    /// Writes chunks as children, a document each, in one unordered insert. One outcome per chunk, in their order.
    pub async fn put_children(&self, chunks: Vec<NewChunk>) -> Result<Vec<PutOutcome>, LedgerError> {
        let keys: Vec<_> = chunks.iter().map(|c| chunk_key(c.file, c.generation, c.number)).collect();
        let proofs: Vec<_> = chunks.iter().map(proof_of).collect();
        let documents: Vec<_> = chunks
            .into_iter()
            .zip(&keys)
            .map(|(chunk, key)| ChunkDocument {
                id: key.clone().into(),
                len: chunk.data.len() as i64,
                sha256: digest_bytes(chunk.sha256),
                data: chunk.data,
            })
            .collect();
        let collection = self.chunks.clone_with_type::<ChunkDocument>();
        let inserted = self
            .run("writing chunks", async move { collection.insert_many(documents).ordered(false).await.map(drop) })
            .await;
        let refused = duplicates(inserted, keys.len())?;
        let stored = self.stored_children(refused.iter().map(|at| keys[*at].clone()).collect()).await?;
        Ok(outcomes(keys, proofs, &refused, &stored))
    }

    /// Writes files of one chunk, a content document each, in one unordered insert. One outcome per chunk, in their order.
    pub async fn put_whole(&self, chunks: Vec<NewChunk>) -> Result<Vec<PutOutcome>, LedgerError> {
        let keys: Vec<_> = chunks.iter().map(|c| content_key(c.file, c.generation)).collect();
        let proofs: Vec<_> = chunks.iter().map(proof_of).collect();
        let documents: Vec<_> = chunks
            .into_iter()
            .zip(&keys)
            .map(|(chunk, key)| {
                let embedded = EmbeddedChunk {
                    len: chunk.data.len() as i64,
                    sha256: digest_bytes(chunk.sha256),
                    data: chunk.data,
                };
                ContentDocument { id: key.clone().into(), c: HashMap::from([(chunk.number.to_string(), embedded)]) }
            })
            .collect();
        let collection = self.contents.clone_with_type::<ContentDocument>();
        let inserted = self
            .run("writing files of one chunk", async move {
                collection.insert_many(documents).ordered(false).await.map(drop)
            })
            .await;
        let refused = duplicates(inserted, keys.len())?;
        let keys_refused = refused.iter().map(|at| keys[*at].clone()).collect();
        let stored = self.stored_embedded(keys_refused, ChunkNumber(0)).await?;
        Ok(outcomes(keys, proofs, &refused, &stored))
    }

    /// Makes the document that takes the chunks of a small file of several chunks. Does nothing if it exists.
    pub async fn open_content(&self, file: FileId, generation: Generation) -> Result<(), LedgerError> {
        let contents = self.contents.clone_with_type::<Document>();
        let empty = doc! { "_id": binary(content_key(file, generation)), "c": {} };
        match self.run("opening a content document", async move { contents.insert_one(empty).await }).await {
            Err(LedgerError::Mongo { source, .. }) if is_duplicate_key(&source) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes a chunk into its file's content document. Without upsert: concurrent upserts of one document fail with E11000
    /// for different chunks.
    pub async fn put_embedded(&self, chunk: NewChunk) -> Result<PutOutcome, LedgerError> {
        let key = content_key(chunk.file, chunk.generation);
        let proof = proof_of(&chunk);
        let field = format!("c.{}", chunk.number);
        let value = doc! {
            "len": chunk.data.len() as i64,
            "sha256": binary(chunk.sha256.as_bytes().to_vec()),
            "data": binary(chunk.data.into()),
        };
        let filter = doc! { "_id": binary(key.clone()), &field: { "$exists": false } };
        let contents = self.contents.clone();
        let update = doc! { "$set": { field: value } };
        let written =
            self.run("writing a chunk into its file", async move { contents.update_one(filter, update).await }).await?;
        if written.matched_count == 1 {
            return Ok(PutOutcome::Written);
        }
        let stored = self.stored_embedded(vec![key.clone()], chunk.number).await?;
        Ok(compare(proof, stored.get(&key)))
    }

    async fn stored_children(&self, keys: Vec<Vec<u8>>) -> Result<HashMap<Vec<u8>, Proof>, LedgerError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let chunks = self.chunks.clone();
        let filter = doc! { "_id": { "$in": keys.into_iter().map(binary).collect::<Vec<_>>() } };
        self.run("comparing chunks", async move {
            let proof = doc! { "_id": 1, "len": 1, "sha256": 1 };
            let found = chunks.find(filter).projection(proof).hint(Hint::Name(PROOF_INDEX.into()));
            let mut cursor = found
                .read_concern(ReadConcern::majority())
                .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
                .await?;
            let mut stored = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                stored.insert(key_of(document)?.to_vec(), proof_in(document)?);
            }
            Ok(stored)
        })
        .await
    }

    async fn stored_embedded(
        &self,
        keys: Vec<Vec<u8>>,
        number: ChunkNumber,
    ) -> Result<HashMap<Vec<u8>, Proof>, LedgerError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let contents = self.contents.clone();
        let filter = doc! { "_id": { "$in": keys.into_iter().map(binary).collect::<Vec<_>>() } };
        let number = number.to_string();
        self.run("comparing chunks", async move {
            let proof = doc! { format!("c.{number}.len"): 1, format!("c.{number}.sha256"): 1 };
            let mut cursor = contents.find(filter).projection(proof).read_concern(ReadConcern::majority()).await?;
            let mut stored = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                let chunks = document.get_document("c").map_err(mongodb::error::Error::custom)?;
                if let Ok(chunk) = chunks.get_document(number.as_str()) {
                    stored.insert(key_of(document)?.to_vec(), proof_in(chunk)?);
                }
            }
            Ok(stored)
        })
        .await
    }
}

fn digest_bytes(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

fn proof_of(chunk: &NewChunk) -> Proof {
    (u32::try_from(chunk.data.len()).unwrap_or(u32::MAX), chunk.sha256)
}

/// What became of a chunk that was not written, judged by what is stored under its number.
fn compare(proof: Proof, stored: Option<&Proof>) -> PutOutcome {
    match stored {
        None => PutOutcome::NoDocument,
        Some(stored) if *stored == proof => PutOutcome::Duplicate,
        Some((len, sha256)) => PutOutcome::Conflict { len: *len, sha256: *sha256 },
    }
}

/// The positions in the batch that were refused because their key exists.
fn duplicates(inserted: Result<(), LedgerError>, count: usize) -> Result<BTreeSet<usize>, LedgerError> {
    match inserted {
        Ok(()) => Ok(BTreeSet::new()),
        Err(LedgerError::Mongo { source, .. }) if is_duplicate_key(&source) => match source.kind.as_ref() {
            ErrorKind::InsertMany(many) => {
                Ok(many.write_errors.iter().flatten().map(|write| write.index).filter(|at| *at < count).collect())
            }
            _ => Ok((0..count).collect()),
        },
        Err(error) => Err(error),
    }
}

fn outcomes(
    keys: Vec<Vec<u8>>,
    proofs: Vec<Proof>,
    refused: &BTreeSet<usize>,
    stored: &HashMap<Vec<u8>, Proof>,
) -> Vec<PutOutcome> {
    let outcome = |(at, (key, proof)): (usize, (Vec<u8>, Proof))| {
        if refused.contains(&at) { compare(proof, stored.get(&key)) } else { PutOutcome::Written }
    };
    keys.into_iter().zip(proofs).enumerate().map(outcome).collect()
}
