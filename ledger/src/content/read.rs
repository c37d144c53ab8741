use std::sync::Arc;

use bytes::Bytes;
use contract::{ChunkNumber, Digest, FileId, Generation};
use futures_util::StreamExt;
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::Error;
use mongodb::options::{Hint, ReadConcern};
use mongodb::raw_batch_cursor::RawBatch;

use super::key::{chunk_key, content_key, key_of, number_in};
use super::proof_in;
use crate::bson_form::binary;
use crate::index::PROOF_INDEX;
use crate::{Layout, Ledger, LedgerError};

/// A chunk as it was stored.
#[derive(Debug, Clone)]
pub struct StoredChunk {
    /// Its number in the file.
    pub number: ChunkNumber,
    /// Its SHA-256 when it was written.
    pub sha256: Digest,
    /// Its bytes now: a view of MongoDB's reply. The reply stays in memory as long as any of its chunks.
    pub data: Bytes,
}

/// What is known of a stored chunk without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkProof {
    /// Its number in the file.
    pub number: ChunkNumber,
    /// Its length in bytes.
    pub len: u32,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A reply of MongoDB that stays where the driver put it: the chunks are views of it, and no byte is copied.
struct Reply(Arc<RawBatch>);

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}

/// Which chunks of one generation are read. Missing ones are left out.
struct Range {
    layout: Layout,
    filter: Document,
    numbers: Vec<ChunkNumber>,
}

impl Range {
    fn new(file: FileId, generation: Generation, layout: Layout, from: ChunkNumber, count: u32) -> Self {
        let end = ChunkNumber(from.0.saturating_add(count));
        let filter = match layout {
            Layout::Children => doc! { "_id": {
                "$gte": binary(chunk_key(file, generation, from)),
                "$lt": binary(chunk_key(file, generation, end)),
            } },
            Layout::Embedded => doc! { "_id": binary(content_key(file, generation)) },
        };
        Self { layout, filter, numbers: (from.0..end.0).map(ChunkNumber).collect() }
    }

    fn projection(&self, fields: &[&str]) -> Document {
        match self.layout {
            Layout::Children => fields.iter().map(|field| ((*field).to_owned(), 1.into())).collect(),
            Layout::Embedded => {
                let of = |number: &ChunkNumber| {
                    fields.iter().map(|field| (format!("c.{number}.{field}"), 1.into())).collect::<Vec<_>>()
                };
                self.numbers.iter().flat_map(of).collect()
            }
        }
    }

    /// Passes each chunk of a document of the cursor to `take`, in order.
    fn visit(
        &self,
        document: &RawDocument,
        mut take: impl FnMut(ChunkNumber, &RawDocument) -> mongodb::error::Result<()>,
    ) -> mongodb::error::Result<()> {
        match self.layout {
            Layout::Children => {
                let number = number_in(key_of(document)?);
                let number =
                    number.ok_or_else(|| Error::custom("expected a chunk's _id of 26 bytes, found another length"))?;
                take(number, document)
            }
            Layout::Embedded => {
                let chunks = document.get_document("c").map_err(Error::custom)?;
                for number in &self.numbers {
                    if let Some(chunk) = chunks.get(number.to_string()).map_err(Error::custom)? {
                        let chunk = chunk.as_document().ok_or_else(|| {
                            Error::custom("expected an embedded chunk to be a document, found something else")
                        })?;
                        take(*number, chunk)?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Ledger {
    /// Reads `count` chunks from `from` on, in order. Missing ones are left out; the numbers show which.
    pub async fn read_chunks(
        &self,
        file: FileId,
        generation: Generation,
        layout: Layout,
        from: ChunkNumber,
        count: u32,
    ) -> Result<Vec<StoredChunk>, LedgerError> {
        let range = Range::new(file, generation, layout, from, count);
        let collection = self.content_collection(layout);
        self.run("reading chunks", async move {
            let projection = range.projection(&["_id", "len", "sha256", "data"]);
            let find = collection.find(range.filter.clone()).sort(doc! { "_id": 1 });
            // With the limit, the driver knows that the first batch is the last, and asks for no other. With the hint,
            // MongoDB does not try out two indexes, each by reading the chunks.
            let find = find.limit(i64::from(count)).batch_size(count.saturating_add(1));
            let find = find.read_concern(ReadConcern::majority());
            let mut batches = match layout {
                Layout::Children => find.hint(Hint::Keys(doc! { "_id": 1 })).batch().await?,
                Layout::Embedded => find.projection(projection).batch().await?,
            };
            let mut chunks = Vec::new();
            while let Some(batch) = batches.next().await {
                let batch = Arc::new(batch?);
                let reply = Bytes::from_owner(Reply(Arc::clone(&batch)));
                for document in batch.doc_slices()? {
                    let document = document?.as_document();
                    let document = document
                        .ok_or_else(|| Error::custom("expected a result to be a document, found something else"))?;
                    range.visit(document, |number, chunk| {
                        let (_, sha256) = proof_in(chunk)?;
                        let data = chunk.get_binary("data").map_err(Error::custom)?;
                        chunks.push(StoredChunk { number, sha256, data: reply.slice_ref(data.bytes) });
                        Ok(())
                    })?;
                }
            }
            Ok(chunks)
        })
        .await
    }

    /// Reads which of `count` chunks from `from` on are stored, in order, by the index alone.
    pub async fn read_proofs(
        &self,
        file: FileId,
        generation: Generation,
        layout: Layout,
        from: ChunkNumber,
        count: u32,
    ) -> Result<Vec<ChunkProof>, LedgerError> {
        let range = Range::new(file, generation, layout, from, count);
        let collection = self.content_collection(layout);
        self.run("reading which chunks are stored", async move {
            let find = collection.find(range.filter.clone()).sort(doc! { "_id": 1 });
            let find =
                find.projection(range.projection(&["_id", "len", "sha256"])).read_concern(ReadConcern::majority());
            let mut cursor = match layout {
                Layout::Children => find.hint(Hint::Name(PROOF_INDEX.into())).await?,
                Layout::Embedded => find.await?,
            };
            let mut proofs = Vec::new();
            while cursor.advance().await? {
                range.visit(cursor.current(), |number, chunk| {
                    let (len, sha256) = proof_in(chunk)?;
                    proofs.push(ChunkProof { number, len, sha256 });
                    Ok(())
                })?;
            }
            Ok(proofs)
        })
        .await
    }
}
