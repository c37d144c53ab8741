use std::path::PathBuf;

use serde::Deserialize;

use crate::bounds::{within, wrong};
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// `[mongodb]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MongodbSettings {
    /// The connection string. MongoDB must run as a replica set, of at least one member. Empty: not configured.
    pub uri: Secret,
    /// A file that holds the connection string; used if `uri` is not set.
    pub uri_file: Option<PathBuf>,
    /// The database.
    pub database: String,
    /// The most connections of one service (1 to 1000).
    pub pool_size: u32,
    /// How many milliseconds to wait for an answer before an operation's outcome counts as unknown (500 to 120,000).
    pub operation_timeout_ms: u64,
    /// How many milliseconds to look for a primary (100 to 60,000).
    pub server_selection_timeout_ms: u64,
    /// How MongoDB compresses chunks on disk: `none`, `snappy`, `zstd`. Takes effect only when the collections are created.
    pub block_compressor: BlockCompressor,
}

/// How MongoDB compresses chunks on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockCompressor {
    /// Not at all: for files that are compressed already.
    #[default]
    None,
    /// Fast.
    Snappy,
    /// Smaller.
    Zstd,
}

impl BlockCompressor {
    /// MongoDB's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

impl Default for MongodbSettings {
    fn default() -> Self {
        Self {
            uri: Secret::new(String::new()),
            uri_file: None,
            database: "waybill".into(),
            pool_size: 32,
            operation_timeout_ms: 10_000,
            server_selection_timeout_ms: 4_000,
            block_compressor: BlockCompressor::None,
        }
    }
}

impl MongodbSettings {
    /// Whether `uri` or `uri_file` is set.
    pub fn is_configured(&self) -> bool {
        !self.uri.expose().is_empty() || self.uri_file.is_some()
    }

    /// The connection string, from the setting or its file; the default port on this machine if nothing is configured.
    pub fn uri(&self) -> Result<Secret, SettingsError> {
        let clear = Some(&self.uri).filter(|uri| !uri.expose().is_empty());
        let uri = secret_of("mongodb.uri_file", clear, self.uri_file.as_ref())?;
        let uri = uri.unwrap_or_else(|| Secret::new("mongodb://127.0.0.1:27017/?replicaSet=rs0".into()));
        if !["mongodb://", "mongodb+srv://"].iter().any(|scheme| uri.expose().starts_with(scheme)) {
            let why = "expected a connection string that begins with mongodb:// or mongodb+srv://";
            return Err(wrong("mongodb.uri", why));
        }
        Ok(uri)
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.database.is_empty() || self.database.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
            return Err(wrong("mongodb.database", "expected a database name without / \\ . \" $ or spaces"));
        }
        within("mongodb.pool_size", self.pool_size, 1..=1000)?;
        within("mongodb.operation_timeout_ms", self.operation_timeout_ms, 500..=120_000)?;
        within("mongodb.server_selection_timeout_ms", self.server_selection_timeout_ms, 100..=60_000)
    }
}
