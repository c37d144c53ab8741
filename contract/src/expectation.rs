use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::{Digest, ObjectName, ProblemKind, Split, WIRE_CHUNK_SIZE};

/// What a finalise request expects the file to be, and where to deliver it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Bytes of the whole file, if the caller gave them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// Number of chunks, if the caller gave it: counted in chunks of 1 MiB or of the file's own chunk size.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chunks: Option<u64>,
    /// The file's name at the remote.
    pub name: ObjectName,
    /// The name of the remote.
    pub remote: String,
}

/// What is known of a file whose chunks are all stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// How it is split.
    pub split: Split,
}

/// A difference between what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The hash differs.
    #[error("expected SHA-256 {expected}, found {found}")]
    Digest {
        /// What the request said.
        expected: Digest,
        /// What is stored.
        found: Digest,
    },
    /// The size differs.
    #[error("expected {expected} bytes, found {found}")]
    Size {
        /// What the request said.
        expected: u64,
        /// What is stored.
        found: u64,
    },
    /// The number of chunks differs.
    #[error("expected {expected} chunks, found {found}")]
    Chunks {
        /// What the request said.
        expected: u64,
        /// What is stored, counted in chunks of 1 MiB.
        found: u64,
    },
}

impl Mismatch {
    /// The kind of problem this is.
    pub const fn problem_kind(&self) -> ProblemKind {
        match self {
            Self::Digest { .. } => ProblemKind::DigestMismatch,
            Self::Size { .. } => ProblemKind::SizeMismatch,
            Self::Chunks { .. } => ProblemKind::ChunkCountMismatch,
        }
    }

    /// What was expected and what was found, as JSON.
    pub fn expected_and_found(&self) -> (serde_json::Value, serde_json::Value) {
        match self {
            Self::Digest { expected, found } => (json!(expected), json!(found)),
            Self::Size { expected, found } | Self::Chunks { expected, found } => (json!(expected), json!(found)),
        }
    }
}

impl Expectation {
    /// Whether another request asks for the same delivery. Size and number of chunks are only checked, so they do not count.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.name == other.name && self.remote == other.remote
    }

    /// Compares this with what is stored. Size and count come before the hash: they tell more about what went wrong.
    pub fn judge(&self, proven: &Proven) -> Result<(), Mismatch> {
        let size = proven.split.size();
        if let Some(expected) = self.size.filter(|expected| *expected != size) {
            return Err(Mismatch::Size { expected, found: size });
        }
        let wire_count = size.div_ceil(u64::from(WIRE_CHUNK_SIZE));
        let own_count = u64::from(proven.split.count());
        if let Some(expected) = self.chunks.filter(|expected| *expected != wire_count && *expected != own_count) {
            return Err(Mismatch::Chunks { expected, found: wire_count });
        }
        if !bool::from(self.sha256.as_bytes().ct_eq(proven.sha256.as_bytes())) {
            return Err(Mismatch::Digest { expected: self.sha256, found: proven.sha256 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(size: Option<u64>, chunks: Option<u64>) -> Expectation {
        Expectation {
            sha256: Digest::of(b"abc"),
            size,
            chunks,
            name: ObjectName::new("a").unwrap(),
            remote: "archive".into(),
        }
    }

    #[test]
    fn both_ways_to_count_chunks_are_accepted() {
        let proven = Proven { sha256: Digest::of(b"abc"), split: Split::new(3 << 20, 64 * 1024).unwrap() };
        for chunks in [None, Some(3), Some(48)] {
            assert_eq!(expectation(Some(3 << 20), chunks).judge(&proven), Ok(()));
        }
        assert_eq!(expectation(None, Some(4)).judge(&proven), Err(Mismatch::Chunks { expected: 4, found: 3 }));
    }

    #[test]
    fn an_empty_file_has_no_chunks() {
        let proven = Proven { sha256: Digest::of(b"abc"), split: Split::new(0, 1 << 20).unwrap() };
        assert_eq!(expectation(Some(0), Some(0)).judge(&proven), Ok(()));
        assert!(expectation(Some(0), Some(1)).judge(&proven).is_err());
    }

    #[test]
    fn a_mismatch_says_what_differs() {
        let split = Split::new(3, 1 << 20).unwrap();
        let proven = Proven { sha256: Digest::of(b"abd"), split };
        assert!(matches!(expectation(Some(3), Some(1)).judge(&proven), Err(Mismatch::Digest { .. })));
        assert!(matches!(expectation(Some(4), Some(1)).judge(&proven), Err(Mismatch::Size { .. })));
    }
}
