use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a file: a UUID of version 7, so later ids sort later (as far as the gateways' clocks agree).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FileId([u8; 16]);

/// A text that is not a file id.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected a file id (36 characters like 0190f3c2-7b1e-7a10-9f2e-5d1c0c9f6b11), found {found:?}")]
pub struct FileIdError {
    found: String,
}

impl FileId {
    /// A new, unique id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().into_bytes())
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as MongoDB stores them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FileId {
    type Err = FileIdError;

    /// Accepts only the hyphenated form in lower case: an id has one spelling in subjects, logs and addresses.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || FileIdError { found: text.chars().take(64).collect() };
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse());
        }
        Uuid::try_parse(text).map(|id| Self(id.into_bytes())).map_err(|_| refuse())
    }
}

impl From<FileId> for String {
    fn from(id: FileId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for FileId {
    type Error = FileIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number! {
    /// The position of a chunk in its file, from 0.
    ChunkNumber(u32)
}
number! {
    /// Which reading of the source a chunk belongs to, from 1. A source that changed is read again as the next generation,
    /// so chunks of two readings never mix.
    Generation(u32)
}
number! {
    /// How many times a file was claimed. A worker's write carries the epoch of its claim; the record refuses older epochs.
    Epoch(i64)
}

impl Generation {
    /// The generation of a file's first reading.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = FileId::generate();
        assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        let id = FileId::generate().to_string();
        for text in ["", "1", &id.to_uppercase(), &id.replace('-', ""), &format!("{{{id}}}"), &format!("{id} ")] {
            assert!(text.parse::<FileId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn later_ids_sort_later() {
        let ids: Vec<FileId> = (0..1000).map(|_| FileId::generate()).collect();
        assert!(ids.is_sorted());
    }
}
