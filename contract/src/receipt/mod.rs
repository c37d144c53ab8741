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
pub use check::{Check, ReceiptVerdict, check_data, check_receipt};
pub use key::{KeyError, PublicKey, SigningKey, private_key_pem};
pub use proof::RemoteProof;

/// The algorithm of all signatures.
const ALGORITHM: &str = "ed25519";

/// The proof that a file was delivered: what was sent, where, and which hashes matched on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The file.
    pub file_id: FileId,
    /// The user whose request made the file known. Unset in receipts of releases that did not say so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prepared_by: Option<String>,
    /// The user whose finalise request said what the file must be and where it goes; unset likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finalised_by: Option<String>,
    /// What was read.
    pub source: ReceiptSource,
    /// SHA-256 of the whole file: read from the source, stored, read back from MongoDB and sent, each equal.
    pub sha256: Digest,
    /// Size of the whole file in bytes.
    pub size: u64,
    /// The number of chunks it was stored in.
    pub chunks: u32,
    /// Bytes of each chunk but the last.
    pub chunk_size: u32,
    /// Where it is.
    pub remote: ReceiptRemote,
    /// Bytes that the last attempt sent; 0 if the remote already had the file from an earlier one.
    pub bytes_sent: u64,
    /// Attempts to deliver since the file was accepted or last requeued, this one included.
    pub attempts: u32,
    /// The attempts that failed before, oldest first, at most the last 20. An attempt without an entry ended when its
    /// worker did. Where the numbers start again, the file was requeued.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub failures: Vec<FailedAttempt>,
    /// `exactly-once` if the remote can tell what it has, else `at-least-once`.
    pub guarantee: String,
    /// When a finaliser first began to deliver.
    pub begun_at: Timestamp,
    /// When the remote had the whole file.
    pub delivered_at: Timestamp,
    /// Who vouches for all of the above; unset if no key is configured.
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

/// A signature over the canonical form (RFC 8785) of a receipt without its `signature`. It has no further members:
/// nobody would sign them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptSignature {
    /// `ed25519`.
    pub algorithm: String,
    /// The name of the public key: the first 16 hexadecimal digits of its SHA-256.
    pub key_id: String,
    /// The 32 bytes of the public key, in base64. To trust a receipt because of this key, one must know the key from
    /// elsewhere.
    pub public_key: String,
    /// The 64 bytes of the signature, in base64.
    pub value: String,
}

/// An attempt to deliver that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Its number.
    pub attempt: u32,
    /// When it failed.
    pub at: Timestamp,
    /// `/problems/...`: what kind of failure it was.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for people; shortened if it was long.
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
    /// The status of the answer, if the remote speaks HTTP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The entity tag of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// The version that the remote gave the file, if it keeps versions (`x-amz-version-id`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// The checksum that the remote reported for what it has, if it reported one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checksum: Option<RemoteChecksum>,
    /// What the remote itself proves about the content, as the word of a [`RemoteProof`].
    pub proof: String,
    /// The same as a sentence, for readers who have only the receipt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proves: Option<String>,
}

/// A checksum as a remote wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteChecksum {
    /// The field of its answer: `x-amz-checksum-sha256`, `repr-digest`.
    pub field: String,
    /// Its value. For an object in parts, S3 reports the SHA-256 of the parts' SHA-256s, then `-` and the number of
    /// parts.
    pub value: String,
}
