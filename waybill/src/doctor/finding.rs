//! What the doctor finds: the kinds of findings, one finding, and the report that prints and counts them.

use std::fmt;
use std::io::Write;

use contract::{FileId, one_line, plain_json};
use serde::Serialize;

/// The maximum length of each part of a finding's line, in characters.
const PART: usize = 300;

/// What is wrong. The words for it never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FindingKind {
    /// A stream does not exist.
    StreamMissing,
    /// A stream is not set as this release needs it.
    StreamDiffers,
    /// A consumer does not exist.
    ConsumerMissing,
    /// A consumer is not set as this release needs it.
    ConsumerDiffers,
    /// A record cannot be read.
    RecordUnreadable,
    /// A record lacks what its state implies.
    RecordIncomplete,
    /// Nobody looked at a file in time.
    Overdue,
    /// A file that has not ended has no `due_at`.
    Unscheduled,
    /// A lease expired long ago and nobody has claimed the file since.
    LeaseRunOut,
    /// Events were not published.
    OutboxLeft,
    /// Chunks are missing.
    ChunkMissing,
    /// Chunks have a wrong length.
    ChunkLength,
    /// There are chunks beyond the end of the file.
    ChunkBeyondEnd,
    /// Chunks are not as a store writes them.
    ChunkUnreadable,
    /// The bytes of chunks do not have the hash that was stored with them.
    ChunkHash,
    /// The whole does not have the hash that was proved against the source.
    WholeHash,
    /// Content of a file that has no record.
    ContentWithoutRecord,
    /// Content of a generation that no longer counts.
    OlderGeneration,
    /// Content of a generation that the record has not reached: impossible unless MongoDB was restored from an older
    /// dump.
    HigherGeneration,
    /// Content in a collection that is not the one for the layout of this generation.
    ContentMisplaced,
    /// Content that the record marks as removed.
    ContentNotRemoved,
    /// A document of content whose key is not one of a chunk.
    ContentKey,
}

impl FindingKind {
    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::StreamMissing => "stream-missing",
            Self::StreamDiffers => "stream-differs",
            Self::ConsumerMissing => "consumer-missing",
            Self::ConsumerDiffers => "consumer-differs",
            Self::RecordUnreadable => "record-unreadable",
            Self::RecordIncomplete => "record-incomplete",
            Self::Overdue => "overdue",
            Self::Unscheduled => "unscheduled",
            Self::LeaseRunOut => "lease-run-out",
            Self::OutboxLeft => "outbox-left",
            Self::ChunkMissing => "chunk-missing",
            Self::ChunkLength => "chunk-length",
            Self::ChunkBeyondEnd => "chunk-beyond-end",
            Self::ChunkUnreadable => "chunk-unreadable",
            Self::ChunkHash => "chunk-hash",
            Self::WholeHash => "whole-hash",
            Self::ContentWithoutRecord => "content-without-record",
            Self::OlderGeneration => "older-generation",
            Self::HigherGeneration => "higher-generation",
            Self::ContentMisplaced => "content-misplaced",
            Self::ContentNotRemoved => "content-not-removed",
            Self::ContentKey => "content-key",
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// What is wrong.
    pub(super) kind: FindingKind,
    /// The file, if the finding is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file_id: Option<FileId>,
    /// The stream, consumer or document, if the finding is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What should be the case.
    pub(super) expected: String,
    /// What is the case.
    pub(super) found: String,
    /// What to do about it.
    pub(super) to_do: &'static str,
    /// Whether it was mended.
    pub(super) mended: bool,
    /// What was done, or why it could not be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) did: Option<String>,
}

impl Finding {
    /// A finding about a file.
    pub(super) fn of_file(
        kind: FindingKind,
        file: FileId,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self { file_id: Some(file), ..Self::new(kind, expected, found) }
    }

    /// A finding about something that is not a file.
    pub(super) fn of_name(
        kind: FindingKind,
        name: String,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self { name: Some(name), ..Self::new(kind, expected, found) }
    }

    fn new(kind: FindingKind, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self { kind, file_id: None, name: None, expected, found, to_do: "", mended: false, did: None }
    }

    /// Adds what to do about it.
    pub(super) fn advising(self, to_do: &'static str) -> Self {
        Self { to_do, ..self }
    }

    /// Marks it as mended, with what was done.
    pub(super) fn mended(self, did: impl fmt::Display) -> Self {
        Self { mended: true, did: Some(did.to_string()), ..self }
    }

    /// Adds why it could not be mended.
    pub(super) fn left(self, why: impl fmt::Display) -> Self {
        Self { did: Some(why.to_string()), ..self }
    }
}

impl fmt::Display for Finding {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match (&self.file_id, &self.name) {
            (Some(file), _) => file.to_string(),
            (None, Some(name)) => one_line(name, PART),
            (None, None) => "-".to_owned(),
        };
        let (kind, expected, found) = (self.kind.as_str(), one_line(&self.expected, PART), one_line(&self.found, PART));
        write!(f, "{kind:22}  {subject}  expected {expected}; found {found}; ")?;
        match (&self.did, self.mended) {
            (Some(did), true) => write!(f, "mended: {}", one_line(did, PART)),
            (Some(why), false) => write!(f, "not mended: {}; {}", one_line(why, PART), self.to_do),
            (None, _) => write!(f, "to do: {}", self.to_do),
        }
    }
}

/// Prints findings as they come, and counts them.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    /// How many findings there were.
    pub(super) findings: u64,
    /// How many of them were mended.
    pub(super) mended: u64,
}

impl Report {
    /// A report without findings. `json`: prints a line of JSON per finding.
    pub(super) const fn new(json: bool) -> Self {
        Self { json, findings: 0, mended: 0 }
    }

    /// Prints a finding.
    pub(super) fn add(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.findings += 1;
        self.mended += u64::from(finding.mended);
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", plain_json(&serde_json::to_string(finding)?))?;
        } else {
            writeln!(out, "{finding}")?;
        }
        Ok(())
    }
}
