use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::SigningKey;
use serde::Deserialize;

use super::{Secret, SettingsError, secret_of};

/// `[nats]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsSettings {
    /// Where the servers are: `nats://host:port`, several separated by commas; `tls://` for TLS. Empty: not configured.
    pub url: String,
    /// What all subjects, streams and services begin with.
    pub prefix: String,
    /// A user's name, with `password` or `password_file`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
    /// A credentials file (JWT and seed) as `nsc` writes it.
    pub credentials_file: Option<PathBuf>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: "waybill".into(),
            username: None,
            password: None,
            password_file: None,
            credentials_file: None,
            ca_file: None,
        }
    }
}

impl NatsSettings {
    /// Where the servers are; the usual port of this machine where nothing is configured.
    pub fn url(&self) -> &str {
        if self.url.is_empty() { "nats://127.0.0.1:4222" } else { &self.url }
    }

    /// The password, from wherever it is kept.
    pub fn password(&self) -> Result<Option<Secret>, SettingsError> {
        secret_of("nats.password_file", self.password.as_ref(), self.password_file.as_ref())
    }
}

/// `[mongodb]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MongodbSettings {
    /// The connection string. A replica set is needed, of one member at least. Empty: not configured.
    pub uri: Secret,
    /// A file that holds it; used where `uri` is not set.
    pub uri_file: Option<PathBuf>,
    /// The database.
    pub database: String,
    /// Connections at most, per service (1 to 1000).
    pub pool_size: u32,
    /// After how many milliseconds without an answer an operation's outcome counts as unknown (500 to 120,000).
    pub operation_timeout_ms: u64,
    /// How many milliseconds to look for a primary (100 to 60,000).
    pub server_selection_timeout_ms: u64,
    /// How MongoDB compresses chunks on disk: `none`, `snappy`, `zstd`. Takes effect when the collections are first made.
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
    /// The name that MongoDB has for it.
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
    /// Whether it is said anywhere where MongoDB is.
    pub fn is_configured(&self) -> bool {
        !self.uri.expose().is_empty() || self.uri_file.is_some()
    }

    /// The connection string, from wherever it is kept; the usual port of this machine where nothing is configured.
    pub fn uri(&self) -> Result<Secret, SettingsError> {
        let clear = Some(&self.uri).filter(|uri| !uri.expose().is_empty());
        let uri = secret_of("mongodb.uri_file", clear, self.uri_file.as_ref())?;
        let uri = uri.unwrap_or_else(|| Secret::new("mongodb://127.0.0.1:27017/?replicaSet=rs0".into()));
        if !["mongodb://", "mongodb+srv://"].iter().any(|scheme| uri.expose().starts_with(scheme)) {
            return Err(SettingsError::Value {
                key: "mongodb.uri".into(),
                why: "expected a connection string that begins with mongodb:// or mongodb+srv://".into(),
            });
        }
        Ok(uri)
    }
}

/// `[files]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilesSettings {
    /// The folders beneath which files may be read; a relative path lies beneath the first. Needed by gateway and chunker,
    /// under the same names.
    pub roots: Vec<PathBuf>,
    /// Bytes of a chunk (65,536 to 4,194,304). NATS' `max_payload` must be at least this and 8 KiB more.
    pub chunk_size: u32,
    /// Up to how many bytes all chunks of a file go into one document (0 to 15,728,640).
    pub embed_limit: u64,
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self { roots: Vec::new(), chunk_size: 1024 * 1024, embed_limit: 2 * 1024 * 1024 }
    }
}

/// `[work]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkSettings {
    /// How many milliseconds a claim lasts unless renewed (1,000 to 600,000). Renewed every quarter of it.
    pub lease_ms: u64,
    /// How many milliseconds lie between two looks for files that nobody works on (100 to 60,000).
    pub sweep_ms: u64,
    /// How many milliseconds a service has to finish or hand back its work when it is stopped (500 to 300,000).
    pub grace_ms: u64,
}

impl Default for WorkSettings {
    fn default() -> Self {
        Self { lease_ms: 15_000, sweep_ms: 3_000, grace_ms: 10_000 }
    }
}

impl WorkSettings {
    /// How long a claim lasts unless renewed.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// What lies between two sweeps.
    pub const fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    /// What a service has to come to its end.
    pub const fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

/// `[retry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// How many milliseconds to wait after the first failed attempt (10 to 600,000); twice as long after each further one.
    pub first_ms: u64,
    /// How many milliseconds to wait at most (10 to 86,400,000).
    pub max_ms: u64,
    /// After how many attempts at a phase a file is given up (1 to 10,000).
    pub attempts: u32,
    /// How many seconds after a phase was asked for a failed attempt is the last (60 to 31,536,000).
    pub max_age_seconds: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        // 2 s, 4 s, ... 15 min: 24 attempts take about four hours.
        Self { first_ms: 2_000, max_ms: 900_000, attempts: 24, max_age_seconds: 259_200 }
    }
}

/// `[retention]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// How many seconds after its delivery a file's chunks are removed (0 to 315,360,000).
    pub delivered_seconds: u64,
    /// The same after it was given up; a file that is requeued before need not be read again.
    pub failed_seconds: u64,
    /// The same after it was cancelled.
    pub cancelled_seconds: u64,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        // A day to look into what was delivered, thirty to requeue what failed, an hour for what nobody wants.
        Self { delivered_seconds: 86_400, failed_seconds: 2_592_000, cancelled_seconds: 3_600 }
    }
}

/// `[auth]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// What tokens are signed with, at least 32 bytes.
    pub jwt_secret: Option<Secret>,
    /// A file that holds it.
    pub jwt_secret_file: Option<PathBuf>,
    /// How many seconds a token is good for (1 to 86,400).
    pub token_seconds: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self { jwt_secret: None, jwt_secret_file: None, token_seconds: 30 * 60 }
    }
}

impl AuthSettings {
    /// What tokens are signed with, from wherever it is kept.
    pub fn jwt_secret(&self) -> Result<Secret, SettingsError> {
        let secret = secret_of("auth.jwt_secret_file", self.jwt_secret.as_ref(), self.jwt_secret_file.as_ref())?;
        let secret = secret.ok_or(SettingsError::Missing {
            key: "auth.jwt_secret",
            why: "tokens are signed with it; set it, or auth.jwt_secret_file, to at least 32 random bytes \
                  (openssl rand -hex 32)",
        })?;
        match secret.expose().len() {
            0..32 => Err(SettingsError::Value {
                key: "auth.jwt_secret".into(),
                why: format!("expected at least 32 bytes, found {}", secret.expose().len()),
            }),
            _ => Ok(secret),
        }
    }
}

/// `[receipts]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptSettings {
    /// The private key (Ed25519) that receipts are signed with. Unset or empty: they are not signed.
    pub signing_key: Option<Secret>,
    /// A file that holds it.
    pub signing_key_file: Option<PathBuf>,
}

impl ReceiptSettings {
    /// Whether it is said anywhere where the key is.
    pub fn is_configured(&self) -> bool {
        self.clear().is_some() || self.signing_key_file.is_some()
    }

    /// The key, from wherever it is kept; `None` where receipts are not signed.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, SettingsError> {
        let Some(text) = secret_of("receipts.signing_key_file", self.clear(), self.signing_key_file.as_ref())? else {
            return Ok(None);
        };
        let read = text.expose().parse::<SigningKey>();
        let wrong = |error: contract::KeyError| SettingsError::Value {
            key: if self.clear().is_some() { "receipts.signing_key" } else { "receipts.signing_key_file" }.into(),
            why: error.to_string(),
        };
        read.map(Some).map_err(wrong)
    }

    /// Empty is as good as unset: a compose file hands on a variable that nobody has set.
    fn clear(&self) -> Option<&Secret> {
        self.signing_key.as_ref().filter(|key| !key.expose().is_empty())
    }
}

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// Where it listens; port 0 picks one.
    pub listen: SocketAddr,
    /// The largest body of a request in bytes (1,024 to 16,777,216).
    pub body_limit: usize,
    /// How many connections at once (1 to 100,000); further ones wait.
    pub max_connections: usize,
    /// How many milliseconds a client has to send the head of a request, and then its body (100 to 600,000).
    pub read_timeout_ms: u64,
    /// Below how many free bytes at MongoDB new files are refused (0 to 2^50; 0: never).
    pub free_space_floor: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            body_limit: 64 * 1024,
            max_connections: 1024,
            read_timeout_ms: 15_000,
            free_space_floor: 1024 * 1024 * 1024,
        }
    }
}

/// `[chunker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkerSettings {
    /// Files at once (1 to 64).
    pub concurrency: usize,
    /// Chunks of a file under way at most (2 to 16).
    pub window: usize,
    /// How many milliseconds to wait for the store's answer to a chunk (100 to 60,000).
    pub chunk_timeout_ms: u64,
}

impl Default for ChunkerSettings {
    fn default() -> Self {
        Self { concurrency: 8, window: 16, chunk_timeout_ms: 10_000 }
    }
}

impl ChunkerSettings {
    /// How long to wait for the store's answer to a chunk.
    pub const fn chunk_timeout(&self) -> Duration {
        Duration::from_millis(self.chunk_timeout_ms)
    }
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Writes to MongoDB at once (1 to 64).
    pub writers: usize,
    /// Bytes of chunks taken in and not yet answered at most (4,194,304 to 1,073,741,824); beyond, a chunk is answered `busy`.
    pub in_flight_bytes: u32,
    /// Below how many free bytes at MongoDB chunks are answered `busy` (0 to 2^50; 0: never): a full disk ends MongoDB.
    pub free_space_floor: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { writers: 4, in_flight_bytes: 32 * 1024 * 1024, free_space_floor: 256 * 1024 * 1024 }
    }
}

/// `[finaliser]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinaliserSettings {
    /// Files at once (1 to 64).
    pub concurrency: usize,
    /// Chunks of a file in memory at most: on their way from MongoDB, hashed, on their way to the remote (4 to 16); at most 16 MiB whatever it says. Two large files at once have twice as many.
    pub prefetch: u32,
    /// Files at once to one remote (1 to 64), so that one that is slow or dead leaves slots for the others.
    pub per_remote: usize,
}

impl Default for FinaliserSettings {
    fn default() -> Self {
        Self { concurrency: 8, prefetch: 8, per_remote: 6 }
    }
}

/// `[health]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// Where a worker answers `/healthz` and `/readyz`; not at all if unset. The gateway answers them where it listens.
    pub listen: Option<SocketAddr>,
}

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// `plain` or `json`.
    pub format: LogFormat,
    /// What is logged, in the syntax of tracing's `EnvFilter`: `info`, `chunker=debug,info`.
    pub filter: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Plain,
    /// For programs.
    Json,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Plain, filter: "info".into() }
    }
}
