//! The content of files: chunks with their lengths and hashes. A small file has all of its chunks in one document of
//! `contents`, a larger one has a document per chunk in `chunks`.

mod garbage;
mod key;
mod put;
mod read;
mod remove;

use contract::Digest;
use mongodb::Collection;
use mongodb::bson::{RawDocument, RawDocumentBuf};
use mongodb::error::{Error, Result};

use crate::{Layout, Ledger};

pub use garbage::CheckedContent;
pub(crate) use key::{chunk_key, content_key, generation_in, key_of, number_in};
pub use put::{NewChunk, PutOutcome};
pub use read::{ChunkProof, StoredChunk};

/// Length in bytes and SHA-256 of a chunk.
type Proof = (u32, Digest);

impl Ledger {
    pub(crate) fn content_collection(&self, layout: Layout) -> Collection<RawDocumentBuf> {
        match layout {
            Layout::Children => self.chunks.clone(),
            Layout::Embedded => self.contents.clone(),
        }
    }
}

/// The proof of a stored chunk, from its document.
pub(crate) fn proof_in(chunk: &RawDocument) -> Result<Proof> {
    let sha256 = chunk.get_binary("sha256").map_err(Error::custom)?;
    let sha256 =
        sha256.bytes.try_into().map_err(|_| Error::custom("expected a SHA-256 of 32 bytes, found another length"))?;
    let len = chunk.get_i64("len").map_err(Error::custom)?;
    let len = u32::try_from(len).map_err(Error::custom)?;
    Ok((len, Digest::from_bytes(sha256)))
}
