//! The settings of one service each, and where workers answer health checks.

use std::net::SocketAddr;
use std::time::Duration;

use contract::CHUNK_SIZE_MAX;
use serde::Deserialize;

use crate::SettingsError;
use crate::bounds::within;

/// The highest floor of free space in bytes, 1 PiB: a higher figure must be a mistake.
const SPACE_MAX: u64 = 1 << 50;

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// The address it listens on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The largest body of a request in bytes (1,024 to 16,777,216).
    pub body_limit: usize,
    /// The most connections at once (1 to 100,000). On further ones, only health checks are answered.
    pub max_connections: usize,
    /// The most connections at once from one address, or from one IPv6 network of 64 bits (1 to 100,000). A proxy
    /// before the gateway is one address.
    pub max_connections_per_peer: usize,
    /// How many milliseconds a client has to send the head of a request, and then its body, and how long it may take
    /// nothing of an answer (100 to 600,000).
    pub read_timeout_ms: u64,
    /// The free bytes at MongoDB that a new file must leave, or it is refused (0 to 2^50; 0: never).
    pub free_space_floor: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            body_limit: 64 * 1024,
            max_connections: 1024,
            max_connections_per_peer: 256,
            read_timeout_ms: 15_000,
            free_space_floor: 1024 * 1024 * 1024,
        }
    }
}

impl GatewaySettings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("gateway.body_limit", self.body_limit, 1024..=16 * 1024 * 1024)?;
        within("gateway.max_connections", self.max_connections, 1..=100_000)?;
        within("gateway.max_connections_per_peer", self.max_connections_per_peer, 1..=100_000)?;
        within("gateway.read_timeout_ms", self.read_timeout_ms, 100..=600_000)?;
        within("gateway.free_space_floor", self.free_space_floor, 0..=SPACE_MAX)
    }
}

/// `[chunker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkerSettings {
    /// Files at once (1 to 64).
    pub concurrency: usize,
    /// The most chunks of a file in flight (2 to 16).
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

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("chunker.concurrency", self.concurrency, 1..=64)?;
        within("chunker.window", self.window, 2..=16)?;
        within("chunker.chunk_timeout_ms", self.chunk_timeout_ms, 100..=60_000)
    }
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Writes to MongoDB at once (1 to 64).
    pub writers: usize,
    /// The most bytes of chunks taken in and not yet answered (4,194,304 to 1,073,741,824); beyond, a chunk is answered
    /// `busy`.
    pub in_flight_bytes: u32,
    /// The free bytes at MongoDB below which chunks are answered `busy` (0 to 2^50; 0: never): a full disk stops
    /// MongoDB.
    pub free_space_floor: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { writers: 4, in_flight_bytes: 32 * 1024 * 1024, free_space_floor: 256 * 1024 * 1024 }
    }
}

impl StoreSettings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("store.writers", self.writers, 1..=64)?;
        within("store.in_flight_bytes", self.in_flight_bytes, CHUNK_SIZE_MAX..=1 << 30)?;
        within("store.free_space_floor", self.free_space_floor, 0..=SPACE_MAX)
    }
}

/// `[finaliser]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinaliserSettings {
    /// Files at once (1 to 64).
    pub concurrency: usize,
    /// The most chunks of a file in memory, from MongoDB to the remote (4 to 16), and never more than 16 MiB. Two large
    /// files at once have twice as many.
    pub prefetch: u32,
    /// Files at once to one remote (1 to 64), so that a slow or dead remote leaves slots for the others. Of the last
    /// quarter of the slots a remote gets none, but for its first file, while there are remotes to which nothing is
    /// sent.
    pub per_remote: usize,
}

impl Default for FinaliserSettings {
    fn default() -> Self {
        Self { concurrency: 8, prefetch: 8, per_remote: 6 }
    }
}

impl FinaliserSettings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("finaliser.concurrency", self.concurrency, 1..=64)?;
        within("finaliser.per_remote", self.per_remote, 1..=64)?;
        within("finaliser.prefetch", self.prefetch, 4..=16)
    }
}

/// `[health]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// The address on which a worker answers `/healthz` and `/readyz`; unset: none. The gateway answers them on its own
    /// address.
    pub listen: Option<SocketAddr>,
}
