//! How files are worked on: leases and sweeps, retries, and how long content is kept afterwards.

use std::time::Duration;

use serde::Deserialize;

use crate::SettingsError;
use crate::bounds::within;

/// The longest retention in seconds: ten years.
const RETENTION_MAX: u64 = 315_360_000;

/// `[work]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkSettings {
    /// How many milliseconds a lease lasts unless renewed (1,000 to 600,000). Its holder renews it every quarter of
    /// this time.
    pub lease_ms: u64,
    /// How many milliseconds to wait between two sweeps for files that nobody works on (100 to 60,000).
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
    /// How long a lease lasts unless renewed.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long to wait between two sweeps.
    pub const fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    /// How long a service has to finish or hand back its work when it is stopped.
    pub const fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("work.lease_ms", self.lease_ms, 1_000..=600_000)?;
        within("work.sweep_ms", self.sweep_ms, 100..=60_000)?;
        within("work.grace_ms", self.grace_ms, 500..=300_000)
    }
}

/// `[retry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// How many milliseconds to wait after the first failed attempt (10 to 600,000); twice as long after each further
    /// one.
    pub first_ms: u64,
    /// The longest wait in milliseconds (10 to 86,400,000).
    pub max_ms: u64,
    /// How many attempts a phase gets before the file is given up (1 to 10,000).
    pub attempts: u32,
    /// For how many seconds after a phase was requested its failed attempts are retried (60 to 31,536,000).
    pub max_age_seconds: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        // 2 s, 4 s, ... 15 min: 24 attempts take about four hours.
        Self { first_ms: 2_000, max_ms: 900_000, attempts: 24, max_age_seconds: 259_200 }
    }
}

impl RetrySettings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("retry.first_ms", self.first_ms, 10..=600_000)?;
        within("retry.max_ms", self.max_ms, 10..=86_400_000)?;
        within("retry.attempts", self.attempts, 1..=10_000)?;
        within("retry.max_age_seconds", self.max_age_seconds, 60..=31_536_000)
    }
}

/// `[retention]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// How many seconds a stored file waits for a finalise request (60 to 315,360,000). Then it fails, and its chunks
    /// are removed.
    pub stored_seconds: u64,
    /// How many seconds after its delivery a file's chunks are removed (0 to 315,360,000).
    pub delivered_seconds: u64,
    /// The same after it failed; a file that is requeued before then need not be read again.
    pub failed_seconds: u64,
    /// The same after it was cancelled.
    pub cancelled_seconds: u64,
    /// How many seconds after its chunks were removed a file's record is deleted (3,600 to 315,360,000). Unset: never.
    pub record_seconds: Option<u64>,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        // A week to finalise a file, a day to look into a delivered one, thirty days to requeue a failed one, an hour
        // for a cancelled one.
        Self {
            stored_seconds: 604_800,
            delivered_seconds: 86_400,
            failed_seconds: 2_592_000,
            cancelled_seconds: 3_600,
            record_seconds: None,
        }
    }
}

impl RetentionSettings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("retention.stored_seconds", self.stored_seconds, 60..=RETENTION_MAX)?;
        within("retention.delivered_seconds", self.delivered_seconds, 0..=RETENTION_MAX)?;
        within("retention.failed_seconds", self.failed_seconds, 0..=RETENTION_MAX)?;
        within("retention.cancelled_seconds", self.cancelled_seconds, 0..=RETENTION_MAX)?;
        self.record_seconds.map_or(Ok(()), |record| within("retention.record_seconds", record, 3_600..=RETENTION_MAX))
    }
}
