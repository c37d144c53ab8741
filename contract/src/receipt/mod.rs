//! The proof that a file was delivered, and how anybody can check it.

mod canonical;
mod check;
mod key;
mod proof;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Digest, FileId, Generation, ObjectPath, Timestamp};

pub use canonical::{CanonicalError, canonical_json, read_json};
pub use check::{Check, Verdict, check_data, check_receipt};
pub use key::{KeyError, PublicKey, SigningKey, private_key_pem};
pub use proof::RemoteProof;

/// The algorithm of all signatures.
const ALGORITHM: &str = "ed25519";

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
    /// Attempts to deliver since the file was accepted or last requeued, this one included.
    pub attempts: u32,
    /// The attempts that failed before, oldest first; of many the last 20. An attempt without an entry ended with its worker.
    /// Where the numbers begin again the file was requeued.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub failures: Vec<FailedAttempt>,
    /// `exactly-once` where the remote can tell what it has, else `at-least-once`.
    pub guarantee: String,
    /// When a finaliser first began to deliver.
    pub begun_at: Timestamp,
    /// When the remote had the whole.
    pub delivered_at: Timestamp,
    /// Who vouches for all of the above; unset where no key is configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signature: Option<ReceiptSignature>,
}

impl Receipt {
    /// Signs it. The same receipt gets the same signature every time.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), CanonicalError> {
        self.signature = None;
        let message = canonical_json(&serde_json::to_value(&*self)?)?;
        let public = key.public();
        self.signature = Some(ReceiptSignature {
            algorithm: ALGORITHM.to_owned(),
            key_id: public.id(),
            public_key: public.to_string(),
            value: STANDARD.encode(key.sign(message.as_bytes())),
        });
        Ok(())
    }
}

/// A signature over the canonical form (RFC 8785) of a receipt without its `signature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptSignature {
    /// `ed25519`.
    pub algorithm: String,
    /// What the public key is called: the first 16 hexadecimal digits of its SHA-256.
    pub key_id: String,
    /// Its 32 bytes, in base64. Whoever trusts a receipt because of this key must know it from elsewhere.
    pub public_key: String,
    /// The 64 bytes of the signature, in base64.
    pub value: String,
}

/// An attempt to deliver that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Its number.
    pub attempt: u32,
    /// When it had failed.
    pub at: Timestamp,
    /// `/problems/...`: what kind of failure it was.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for people; cut where it was long.
    pub detail: String,
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
    /// The version that the remote made of it, where it keeps versions (`x-amz-version-id`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// The checksum that the remote named of what it has, where it named one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checksum: Option<RemoteChecksum>,
    /// What the remote itself shows of the content, as the word of a [`RemoteProof`].
    pub proof: String,
    /// The same as a sentence, for whoever has only the receipt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proves: Option<String>,
}

/// A checksum as a remote wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteChecksum {
    /// The field of its answer: `x-amz-checksum-sha256`, `repr-digest`.
    pub field: String,
    /// What it held. Of an object in parts S3 names the SHA-256 of the parts' SHA-256s, with `-` and their number.
    pub value: String,
}
