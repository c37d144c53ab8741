use serde::{Deserialize, Serialize};

use crate::{Digest, FileId, Generation, ObjectPath, Timestamp};

/// The proof that a file was delivered: what was sent, where, and which hashes matched on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The file.
    pub file_id: FileId,
    /// What was read.
    pub source: ReceiptSource,
    /// SHA-256 of the whole: read from the source, stored, read back from MongoDB and sent, each equal.
    pub sha256: Digest,
    /// Bytes of the whole.
    pub size: u64,
    /// Chunks it was stored in.
    pub chunks: u32,
    /// Bytes of each chunk but the last.
    pub chunk_size: u32,
    /// Where it is.
    pub remote: ReceiptRemote,
    /// Bytes that the attempt which ended here sent; 0 where the remote already had the file from an earlier one.
    pub bytes_sent: u64,
    /// Attempts to deliver, this one included.
    pub attempts: u32,
    /// `exactly-once` where the remote can tell what it has, else `at-least-once`.
    pub guarantee: String,
    /// When a finaliser first began to deliver.
    pub begun_at: Timestamp,
    /// When the remote had the whole.
    pub delivered_at: Timestamp,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptSource {
    /// The path beneath its root.
    pub path: String,
    /// The name of the file at its source.
    pub name: String,
    /// Which reading of the source was stored.
    pub generation: Generation,
}

/// Where a file was delivered to and what the remote said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRemote {
    /// The configured name.
    pub name: String,
    /// `http`, `directory`, ...
    pub kind: String,
    /// The file's address there, without secrets.
    pub address: String,
    /// The name of the file there, with its folders.
    pub object: ObjectPath,
    /// The status of the answer, where the remote speaks HTTP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The entity tag of the answer, where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// What the remote itself shows of the content: `put` (it took every byte), `parts` (it took every
    /// part and put them together), `checksum` (the same, and it compared the SHA-256 of each body), `metadata` (it keeps the
    /// SHA-256 that was sent with the bytes), `digest` (its own SHA-256), `read-back` (it was read again and hashed), `fsync`
    /// (written, and synced by us or at our request).
    pub proof: String,
}
