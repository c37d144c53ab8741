use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use contract::{ChunkNumber, Digest, FileId, Generation};
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{ReadConcern, SelectionCriteria};
use serde::Serialize;

use crate::bson_form::{binary, chunk_key, content_key};
use crate::error::is_duplicate_key;
use crate::index::PROOF_INDEX;
use crate::{Ledger, LedgerError};

/// A chunk to be written, checked before.
#[derive(Debug, Clone)]
pub struct NewChunk {
    /// The file.
    pub file: FileId,
    /// Which reading of its source.
    pub generation: Generation,
    /// The place.
    pub number: ChunkNumber,
    /// SHA-256 of `data`.
    pub sha256: Digest,
    /// The bytes.
    pub data: Bytes,
}

/// What became of a chunk, durable in a majority's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Written.
    Written,
    /// The same chunk was there.
    Duplicate,
    /// Another was there, with this length and hash.
    Conflict {
        /// Its length in bytes.
        len: u32,
        /// Its SHA-256.
        sha256: Digest,
    },
    /// The document it belongs into is not there: its generation is gone or was never opened.
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

/// Length and hash of a chunk that is there.
type Known = (u32, Digest);

impl Ledger {
    /// Writes chunks as children, a document each, in one unordered insert. One outcome per chunk, in their order.
    pub async fn put_children(&self, chunks: Vec<NewChunk>) -> Result<Vec<PutOutcome>, LedgerError> {
        let keys: Vec<_> = chunks.iter().map(|c| chunk_key(c.file, c.generation, c.number)).collect();
        let wanted = proofs_of(&chunks);
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
        let there = duplicates(inserted, keys.len())?;
        let known = self.known_children(there.iter().map(|at| keys[*at].clone()).collect()).await?;
        outcomes(keys, wanted, &there, known)
    }

    /// Writes files of one chunk, a content document each, in one unordered insert. One outcome per chunk, in their order.
    pub async fn put_whole(&self, chunks: Vec<NewChunk>) -> Result<Vec<PutOutcome>, LedgerError> {
        let keys: Vec<_> = chunks.iter().map(|c| content_key(c.file, c.generation)).collect();
        let wanted = proofs_of(&chunks);
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
        let there = duplicates(inserted, keys.len())?;
        let keys_there = there.iter().map(|at| keys[*at].clone()).collect();
        let known = self.known_embedded(keys_there, ChunkNumber(0)).await?;
        outcomes(keys, wanted, &there, known)
    }

    /// Makes the document that takes the chunks of a small file of several chunks. Harmless where it is there.
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
        let wanted = (proof_len(&chunk), chunk.sha256);
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
        let known = self.known_embedded(vec![key.clone()], chunk.number).await?;
        Ok(known.get(&key).map_or(PutOutcome::NoDocument, |known| compare(wanted, *known)))
    }

    async fn known_children(&self, keys: Vec<Vec<u8>>) -> Result<HashMap<Vec<u8>, Known>, LedgerError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let chunks = self.chunks.clone();
        let filter = doc! { "_id": { "$in": keys.into_iter().map(binary).collect::<Vec<_>>() } };
        self.run("comparing chunks", async move {
            let proof = doc! { "_id": 1, "len": 1, "sha256": 1 };
            let found = chunks.find(filter).projection(proof).hint(mongodb::options::Hint::Name(PROOF_INDEX.into()));
            let mut cursor = found
                .read_concern(ReadConcern::majority())
                .selection_criteria(SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary))
                .await?;
            let mut known = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                known.insert(key_of(document)?, known_in(document)?);
            }
            Ok(known)
        })
        .await
    }

    async fn known_embedded(
        &self,
        keys: Vec<Vec<u8>>,
        number: ChunkNumber,
    ) -> Result<HashMap<Vec<u8>, Known>, LedgerError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let contents = self.contents.clone();
        let filter = doc! { "_id": { "$in": keys.into_iter().map(binary).collect::<Vec<_>>() } };
        let number = number.to_string();
        self.run("comparing chunks", async move {
            let proof = doc! { format!("c.{number}.len"): 1, format!("c.{number}.sha256"): 1 };
            let mut cursor = contents.find(filter).projection(proof).read_concern(ReadConcern::majority()).await?;
            let mut known = HashMap::new();
            while cursor.advance().await? {
                let document = cursor.current();
                let chunks = document.get_document("c").map_err(mongodb::error::Error::custom)?;
                if let Ok(chunk) = chunks.get_document(number.as_str()) {
                    known.insert(key_of(document)?, known_in(chunk)?);
                }
            }
            Ok(known)
        })
        .await
    }
}

fn digest_bytes(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

fn proof_len(chunk: &NewChunk) -> u32 {
    u32::try_from(chunk.data.len()).unwrap_or(u32::MAX)
}

fn proofs_of(chunks: &[NewChunk]) -> Vec<Known> {
    chunks.iter().map(|chunk| (proof_len(chunk), chunk.sha256)).collect()
}

fn compare(wanted: Known, (len, sha256): Known) -> PutOutcome {
    if wanted == (len, sha256) { PutOutcome::Duplicate } else { PutOutcome::Conflict { len, sha256 } }
}

/// The places in the batch that were refused because their key is there.
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
    wanted: Vec<Known>,
    there: &BTreeSet<usize>,
    known: HashMap<Vec<u8>, Known>,
) -> Result<Vec<PutOutcome>, LedgerError> {
    let outcome = |(at, (key, wanted)): (usize, (Vec<u8>, Known))| {
        if there.contains(&at) {
            known.get(&key).map_or(PutOutcome::NoDocument, |known| compare(wanted, *known))
        } else {
            PutOutcome::Written
        }
    };
    Ok(keys.into_iter().zip(wanted).enumerate().map(outcome).collect())
}

pub(crate) fn key_of(document: &RawDocument) -> mongodb::error::Result<Vec<u8>> {
    Ok(document.get_binary("_id").map_err(mongodb::error::Error::custom)?.bytes.to_vec())
}

/// Length and hash of a stored chunk.
pub(crate) fn known_in(document: &RawDocument) -> mongodb::error::Result<Known> {
    let sha256 = document.get_binary("sha256").map_err(mongodb::error::Error::custom)?;
    let sha256 = sha256.bytes.try_into().map_err(|_| mongodb::error::Error::custom("a SHA-256 has not 32 bytes"))?;
    let len = document.get_i64("len").map_err(mongodb::error::Error::custom)?;
    let len = u32::try_from(len).map_err(mongodb::error::Error::custom)?;
    Ok((len, Digest::from_bytes(sha256)))
}
