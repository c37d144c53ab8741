use std::collections::BTreeMap;

use contract::{Digest, Epoch, Expectation, FileId, Generation, ObjectName, Proven, Split, State, Timestamp};
use mongodb::bson::{self, Document, doc};
use serde::{Deserialize, Serialize};

use crate::bson_form::{id_field, moment, moment_option, nanoseconds};
use crate::lease::LeaseField;
use crate::outbox::OutboxEntry;
use crate::{Failure, LedgerError, Problem, Upload};

/// The record of a file: the truth about it at one version.
#[derive(Debug, Clone, Deserialize)]
pub struct FileRecord {
    /// Its id.
    #[serde(rename = "_id", deserialize_with = "id_field::deserialize")]
    pub id: FileId,
    /// Rises with every transition.
    pub version: i64,
    /// How often it was claimed.
    pub epoch: Epoch,
    /// How far it has come.
    pub state: State,
    /// The file that is read.
    pub source: Source,
    /// The file's own name.
    pub name: ObjectName,
    /// Its media type, guessed from its name.
    pub media_type: String,
    /// The caller's own notes about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Who asked for it.
    pub user: String,
    /// The caller's key for the request, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// Which reading of the source counts.
    pub generation: Generation,
    /// Where the chunks of this generation are; unset until a chunker first claims it.
    pub layout: Option<Layout>,
    /// Bytes of a chunk of this generation; unset until a chunker first claims it.
    pub chunk_size: Option<u32>,
    /// SHA-256 of the whole file, once it is stored.
    pub sha256: Option<Digest>,
    /// What a finalise request expects: it waits until the file is `stored`, and is accepted from then on.
    pub expectation: Option<Expectation>,
    /// Who made the finalise request that the expectation is of. Unset in records of releases that did not keep it.
    pub finalised_by: Option<String>,
    /// The remote that prepare named; once an expectation is accepted, the remote of the expectation.
    pub remote: Option<String>,
    /// How far its delivery has come.
    pub delivery: Option<Delivery>,
    /// Its attempts per phase.
    #[serde(default)]
    pub attempts: Attempts,
    /// What went wrong last.
    pub error: Option<Problem>,
    /// The last 20 attempts that failed, oldest first. A requeue keeps them.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// The proof of delivery, kept as JSON: the signature also covers members that only a later release knows.
    pub receipt: Option<serde_json::Value>,
    /// Progress of the present phase. It may lag.
    #[serde(default)]
    pub progress: Progress,
    /// Who holds it.
    pub(crate) lease: Option<LeaseField>,
    /// When it may be claimed: after the pause that follows a failed attempt, or that the source must stand still for.
    #[serde(default, deserialize_with = "moment_option::deserialize")]
    pub not_before: Option<Timestamp>,
    /// Whether somebody asked to cancel it. Its holder, or the next holder, cancels it.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The generation whose content was removed, or is being removed, because its retention was over.
    pub content_removed: Option<Generation>,
    /// How often in a row its delivery was put off because its remote was at its concurrency limit.
    #[serde(default)]
    pub deferrals: u32,
    /// When it was last recorded, accepted or requeued: the age of the phase that it is in, or waits for, counts from
    /// here.
    #[serde(default, deserialize_with = "moment_option::deserialize")]
    pub queued_at: Option<Timestamp>,
    /// When it was recorded.
    #[serde(deserialize_with = "moment::deserialize")]
    pub created_at: Timestamp,
    /// When its state last changed.
    #[serde(deserialize_with = "moment::deserialize")]
    pub updated_at: Timestamp,
    /// Its events that are not known to be published.
    #[serde(default)]
    pub(crate) outbox: Vec<OutboxEntry>,
}

/// The file that is read, and its size and time when they were last checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The configured root that it is beneath.
    pub root: String,
    /// Its path beneath the root.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970 by the file system.
    #[serde(with = "nanoseconds")]
    pub mtime_ns: i128,
}

/// The caller's key for a prepare request, and which request it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// `Idempotency-Key`, unique per user.
    pub key: String,
    /// SHA-256 of the request, to detect a key that is reused for another request.
    pub fingerprint: Digest,
}

/// Where the chunks of a generation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All in one document of `contents`.
    Embedded,
    /// A document each in `chunks`.
    Children,
}

impl Layout {
    /// The layout for a file of `size` bytes where up to `embed_limit` bytes go into one document.
    pub const fn of(size: u64, embed_limit: u64) -> Self {
        if size <= embed_limit { Self::Embedded } else { Self::Children }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Children => "children",
        }
    }
}

/// How far a delivery has come.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    /// When a finaliser first claimed the file. Set once: from then on the remote may have it.
    #[serde(deserialize_with = "moment::deserialize")]
    pub begun_at: Timestamp,
    /// Whether `begun_at` was set before the last claim. If so, the remote must be asked before anything is sent.
    pub resumed: bool,
    /// The upload in parts that is in progress, if the remote takes parts.
    #[serde(default)]
    pub upload: Option<Upload>,
}

/// Attempts. Each is counted before any work, and given back if an outage of NATS or MongoDB, or a shutdown, ended it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Attempts {
    /// Attempts to read and store.
    #[serde(default)]
    pub chunking: u32,
    /// Attempts to deliver.
    #[serde(default)]
    pub delivering: u32,
}

/// How far a phase has come. It is written with each renewal of the lease, so it lags by up to a quarter of the lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Progress {
    /// Chunks stored.
    #[serde(default)]
    pub chunks_stored: u32,
    /// Bytes stored.
    #[serde(default)]
    pub bytes_stored: u64,
    /// Bytes handed to the remote in the present attempt.
    #[serde(default)]
    pub bytes_delivered: u64,
}

impl Progress {
    pub(crate) fn to_document(self) -> Document {
        doc! {
            "chunks_stored": i64::from(self.chunks_stored),
            "bytes_stored": i64::try_from(self.bytes_stored).unwrap_or(i64::MAX),
            "bytes_delivered": i64::try_from(self.bytes_delivered).unwrap_or(i64::MAX),
        }
    }
}

/// The state in a document of `files` that was read without the other fields.
pub(crate) fn state_in(document: &Document) -> Result<State, LedgerError> {
    let state = document.get_str("state").unwrap_or_default().parse();
    state.map_err(|detail| LedgerError::Unreadable { collection: "files", detail })
}

impl FileRecord {
    pub(crate) fn from_document(document: Document) -> Result<Self, LedgerError> {
        bson::deserialize_from_document(document)
            .map_err(|e| LedgerError::Unreadable { collection: "files", detail: e.to_string() })
    }

    /// Whether it is stored and waits for a finalise request.
    pub fn rests(&self) -> bool {
        self.state == State::Stored && self.expectation.is_none()
    }

    /// How this generation is split; `None` until a chunker first claims it.
    pub fn split(&self) -> Option<Split> {
        Split::new(self.source.size, self.chunk_size?)
    }

    /// What is known of the content; `None` until it is stored.
    pub fn proven(&self) -> Option<Proven> {
        Some(Proven { sha256: self.sha256?, split: self.split()? })
    }

    /// Attempts of the phase it is in.
    pub fn attempts(&self) -> u32 {
        match self.state {
            State::Prepared | State::Chunking => self.attempts.chunking,
            State::Failed | State::Cancelled if self.delivery.is_none() => self.attempts.chunking,
            _ => self.attempts.delivering,
        }
    }
}
