use std::fmt::Display;
use std::ops::RangeInclusive;

use contract::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, Names};

use super::{Settings, SettingsError};

/// The largest `embed_limit`: a document of MongoDB holds 16 MiB, and keys and hashes need room too.
const EMBED_LIMIT_MAX: u64 = 15 * 1024 * 1024;

/// The longest retention in seconds: ten years.
const RETENTION_MAX: u64 = 315_360_000;

/// The highest floor of free space in bytes, 1 PiB: a figure beyond any disk is a typing error.
const SPACE_MAX: u64 = 1 << 50;

impl Settings {
    /// Looks whether every value is within its bounds, whichever service it is for.
    pub fn check(&self) -> Result<(), SettingsError> {
        Names::new(&self.nats.prefix).map_err(|e| wrong("nats.prefix", e))?;
        if self.mongodb.database.is_empty() || self.mongodb.database.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
            return Err(wrong("mongodb.database", "expected a database name without / \\ . \" $ and spaces"));
        }
        if let Some(root) = self.files.roots.iter().find(|root| !root.is_absolute()) {
            return Err(wrong("files.roots", format!("expected absolute paths, found {}", root.display())));
        }
        self.check_bounds()?;
        for (name, remote) in &self.remotes {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(wrong(
                    "remotes",
                    format!("expected names of letters a-z and A-Z, digits, - and _, found {name:?}"),
                ));
            }
            remote.check().map_err(|why| wrong(&format!("remotes.{name}"), why))?;
        }
        match &self.default_remote {
            Some(name) if !self.remotes.contains_key(name) => {
                Err(wrong("default_remote", format!("expected one of the configured remotes, found {name:?}")))
            }
            _ => Ok(()),
        }
    }

    fn check_bounds(&self) -> Result<(), SettingsError> {
        within("mongodb.pool_size", self.mongodb.pool_size, 1..=1000)?;
        within("mongodb.operation_timeout_ms", self.mongodb.operation_timeout_ms, 500..=120_000)?;
        within("mongodb.server_selection_timeout_ms", self.mongodb.server_selection_timeout_ms, 100..=60_000)?;
        within("files.chunk_size", self.files.chunk_size, CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX)?;
        within("files.embed_limit", self.files.embed_limit, 0..=EMBED_LIMIT_MAX)?;
        within("work.lease_ms", self.work.lease_ms, 1_000..=600_000)?;
        within("work.sweep_ms", self.work.sweep_ms, 100..=60_000)?;
        within("work.grace_ms", self.work.grace_ms, 500..=300_000)?;
        within("retry.first_ms", self.retry.first_ms, 10..=600_000)?;
        within("retry.max_ms", self.retry.max_ms, 10..=86_400_000)?;
        within("retry.attempts", self.retry.attempts, 1..=10_000)?;
        within("retry.max_age_seconds", self.retry.max_age_seconds, 60..=31_536_000)?;
        within("retention.delivered_seconds", self.retention.delivered_seconds, 0..=RETENTION_MAX)?;
        within("retention.failed_seconds", self.retention.failed_seconds, 0..=RETENTION_MAX)?;
        within("retention.cancelled_seconds", self.retention.cancelled_seconds, 0..=RETENTION_MAX)?;
        within("auth.token_seconds", self.auth.token_seconds, 1..=86_400)?;
        within("gateway.body_limit", self.gateway.body_limit, 1024..=16 * 1024 * 1024)?;
        within("gateway.max_connections", self.gateway.max_connections, 1..=100_000)?;
        within("gateway.read_timeout_ms", self.gateway.read_timeout_ms, 100..=600_000)?;
        within("gateway.free_space_floor", self.gateway.free_space_floor, 0..=SPACE_MAX)?;
        within("chunker.concurrency", self.chunker.concurrency, 1..=64)?;
        within("chunker.window", self.chunker.window, 2..=16)?;
        within("chunker.chunk_timeout_ms", self.chunker.chunk_timeout_ms, 100..=60_000)?;
        within("store.writers", self.store.writers, 1..=64)?;
        within("store.in_flight_bytes", self.store.in_flight_bytes, CHUNK_SIZE_MAX..=1 << 30)?;
        within("store.free_space_floor", self.store.free_space_floor, 0..=SPACE_MAX)?;
        within("finaliser.concurrency", self.finaliser.concurrency, 1..=64)?;
        within("finaliser.per_remote", self.finaliser.per_remote, 1..=64)?;
        within("finaliser.prefetch", self.finaliser.prefetch, 4..=16)
    }
}

fn within<T: PartialOrd + Display>(key: &str, value: T, bounds: RangeInclusive<T>) -> Result<(), SettingsError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(wrong(key, format!("expected {} to {}, found {value}", bounds.start(), bounds.end())))
}

fn wrong(key: &str, why: impl Display) -> SettingsError {
    SettingsError::Value { key: key.to_owned(), why: why.to_string() }
}
