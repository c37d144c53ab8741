use std::collections::BTreeMap;

use contract::{Digest, Epoch, Expectation, FileId, Generation, ProblemKind, Proven, Split, State, Timestamp};
use mongodb::bson::{self, Document};
use serde::{Deserialize, Serialize};

use crate::bson_form::{id_field, moment, moment_option};
use crate::outbox::OutboxEntry;
use crate::{Failure, LedgerError, Upload};

/// The record of a file: the truth about it at one version.
#[derive(Debug, Clone, Deserialize)]
pub struct FileRecord {
    /// Its id.
    #[serde(rename = "_id", deserialize_with = "id_field::deserialize")]
    pub id: FileId,
    /// Grows with every change of state.
    pub version: i64,
    /// How often it was claimed.
    pub epoch: Epoch,
    /// Where it is on its way.
    pub state: State,
    /// What is read.
    pub source: Source,
    /// The file's own name.
    pub name: String,
    /// Its media type, guessed from its name.
    pub media_type: String,
    /// What the caller noted about it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Who asked for it.
    pub user: String,
    /// The caller's key for the request, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// Which reading of the source counts.
    pub generation: Generation,
    /// How this generation is kept; unset until a chunker first claims it.
    pub layout: Option<Layout>,
    /// Bytes of a chunk of this generation; unset until a chunker first claims it.
    pub chunk_size: Option<u32>,
    /// How often the source had changed.
    #[serde(default)]
    pub source_changes: u32,
    /// SHA-256 of the whole, once stored.
    pub sha256: Option<Digest>,
    /// What a finalise request expects: waiting until `stored`, accepted from then on.
    pub expectation: Option<Expectation>,
    /// The remote that prepare named; that of the expectation once one is accepted.
    pub remote: Option<String>,
    /// How far delivery is.
    pub delivery: Option<Delivery>,
    /// Attempts per phase.
    #[serde(default)]
    pub attempts: Attempts,
    /// What went wrong last.
    pub error: Option<Problem>,
    /// The attempts that failed, oldest first; of many the last 20. A requeue keeps them.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// The proof of delivery, as it was written: what a later release added is signed too.
    pub receipt: Option<serde_json::Value>,
    /// Progress of the phase that is under way; may lag behind.
    #[serde(default)]
    pub progress: Progress,
    /// Who holds it.
    pub(crate) lease: Option<LeaseField>,
    /// When it may be claimed again after a failed attempt.
    #[serde(default, deserialize_with = "moment_option::deserialize")]
    pub not_before: Option<Timestamp>,
    /// Whether somebody wants it cancelled; whoever holds or claims it sees to it.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The generation whose content is removed, or being removed: its retention was over.
    pub content_removed: Option<Generation>,
    /// How often in a row its delivery was put off because its remote had enough to do.
    #[serde(default)]
    pub deferrals: u32,
    /// When the phase it is in, or waits for, was asked for: recorded, accepted or requeued. What is old counts from here.
    #[serde(default, deserialize_with = "moment_option::deserialize")]
    pub queued_at: Option<Timestamp>,
    /// When it was recorded.
    #[serde(deserialize_with = "moment::deserialize")]
    pub created_at: Timestamp,
    /// When its state last changed.
    #[serde(deserialize_with = "moment::deserialize")]
    pub updated_at: Timestamp,
    /// Events that are not known to be published.
    #[serde(default)]
    pub(crate) outbox: Vec<OutboxEntry>,
}

/// What is read, and how it looked when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The allowed root it lies beneath.
    pub root: String,
    /// Its path beneath the root.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970 by the file system.
    pub mtime_ns: i64,
}

/// The caller's key for a prepare request and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// `Idempotency-Key`, unique per user.
    pub key: String,
    /// SHA-256 of the request, to notice a key that is reused for another.
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

/// How far delivery is.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    /// When a finaliser first claimed the file. Set once: from then on the remote may have it.
    #[serde(deserialize_with = "moment::deserialize")]
    pub begun_at: Timestamp,
    /// Whether the claim that wrote this found `begun_at` set: then the remote must be asked before anything is sent.
    pub resumed: bool,
    /// The upload in parts that is under way, if the remote takes parts.
    #[serde(default)]
    pub upload: Option<Upload>,
}

/// Attempts, counted before any work, and given back where an outage of NATS or MongoDB or a shutdown ended them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Attempts {
    /// To read and store.
    #[serde(default)]
    pub chunking: u32,
    /// To deliver.
    #[serde(default)]
    pub delivering: u32,
}

/// What went wrong, for people and programs (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable type: `/problems/...`. A text, since a record may be of a later release.
    #[serde(rename = "type")]
    pub uri: String,
    /// The same for every problem of the type.
    pub title: String,
    /// What was expected, what was found, what to do.
    pub detail: String,
    /// The expected value, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<serde_json::Value>,
    /// The found value, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub found: Option<serde_json::Value>,
}

impl Problem {
    /// A problem of this kind; `detail` says what was expected, what was found and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            uri: kind.uri().to_owned(),
            title: kind.title().to_owned(),
            detail: detail.into(),
            expected: None,
            found: None,
        }
    }

    /// Its kind; `None` where a later release wrote one that this release does not know.
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_uri(&self.uri)
    }
}

impl From<&contract::Mismatch> for Problem {
    fn from(mismatch: &contract::Mismatch) -> Self {
        let (expected, found) = mismatch.expected_and_found();
        Self {
            expected: Some(expected),
            found: Some(found),
            ..Self::new(mismatch.problem_kind(), mismatch.to_string())
        }
    }
}

/// How far a phase is. Written with the renewals of the lease, so it lags by up to a quarter of it.
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

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LeaseField {
    pub(crate) owner: String,
    pub(crate) worker: String,
}

impl FileRecord {
    pub(crate) fn from_document(document: Document) -> Result<Self, LedgerError> {
        bson::deserialize_from_document(document)
            .map_err(|e| LedgerError::Unreadable { collection: "files", detail: e.to_string() })
    }

    /// How this generation is cut; `None` until a chunker first claims it.
    pub fn split(&self) -> Option<Split> {
        Split::new(self.source.size, self.chunk_size?)
    }

    /// What is known of the content, once it is stored.
    pub fn proven(&self) -> Option<Proven> {
        Some(Proven { sha256: self.sha256?, split: self.split()? })
    }

    /// Who holds it, for people; `None` where nobody does. The lease may have run out.
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.worker.as_str())
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
