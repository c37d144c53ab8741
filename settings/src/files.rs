use std::path::PathBuf;
use std::time::Duration;

use contract::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN};
use serde::Deserialize;

use crate::SettingsError;
use crate::bounds::{within, wrong};

/// The largest `embed_limit`: a document of MongoDB holds 16 MiB, and keys and hashes need room too.
const EMBED_LIMIT_MAX: u64 = 15 * 1024 * 1024;

/// The highest `max_size`: as many chunks of the largest size as can be counted.
const MAX_SIZE_MAX: u64 = 1 << 54;

/// `[files]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilesSettings {
    /// The folders beneath which files may be read; a relative path is beneath the first. Gateway and chunker need the
    /// same folders, under the same paths.
    pub roots: Vec<PathBuf>,
    /// Bytes of a chunk (65,536 to 4,194,304). NATS' `max_payload` must be at least 8 KiB larger.
    pub chunk_size: u32,
    /// The largest file in bytes whose chunks all go into one document (0 to 15,728,640).
    pub embed_limit: u64,
    /// The largest file in bytes that is accepted (1 to 2^54).
    pub max_size: u64,
    /// How many seconds a source must stand still, by size and time, before it is read (0 to 86,400).
    pub settle_seconds: u64,
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            chunk_size: 1024 * 1024,
            embed_limit: 2 * 1024 * 1024,
            max_size: 1 << 40,
            settle_seconds: 0,
        }
    }
}

impl FilesSettings {
    /// How long a source must stand still before it is read.
    pub const fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds)
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if let Some(root) = self.roots.iter().find(|root| !root.is_absolute()) {
            return Err(wrong("files.roots", format!("expected absolute paths, found {}", root.display())));
        }
        within("files.chunk_size", self.chunk_size, CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX)?;
        within("files.embed_limit", self.embed_limit, 0..=EMBED_LIMIT_MAX)?;
        within("files.max_size", self.max_size, 1..=MAX_SIZE_MAX)?;
        within("files.settle_seconds", self.settle_seconds, 0..=86_400)
    }
}
