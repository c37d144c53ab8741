//! The settings of all services: one file in sections. Defaults come first, then the file, then the environment
//! (`WAYBILL__SECTION__KEY`); the later wins. An unknown key is an error, so that misspelt keys are noticed.
//!
//! Each section is declared with its defaults and its bounds in one place.

mod arguments;
mod auth;
mod bounds;
mod error;
mod files;
mod load;
mod mongodb;
mod nats;
mod receipts;
mod remotes;
mod secret;
mod services;
pub mod telemetry;
mod work;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use arguments::ServiceArgs;
pub use auth::AuthSettings;
pub use error::SettingsError;
pub use files::FilesSettings;
pub use mongodb::{BlockCompressor, MongodbSettings};
pub use nats::NatsSettings;
pub use receipts::ReceiptSettings;
pub use remotes::{
    DirectoryRemote, HttpCredentials, HttpRemote, HttpVersion, OnClash, RemoteSettings, S3Credentials, S3Remote,
    SftpCredentials, SftpRemote, WebdavRemote,
};
pub use secret::Secret;
pub use services::{ChunkerSettings, FinaliserSettings, GatewaySettings, HealthSettings, StoreSettings};
pub use telemetry::{LogFormat, TelemetrySettings};
pub use work::{RetentionSettings, RetrySettings, WorkSettings};

use bounds::wrong;

/// All settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How to reach NATS.
    pub nats: NatsSettings,
    /// How to reach MongoDB.
    pub mongodb: MongodbSettings,
    /// Which files may be read, and how they are split.
    pub files: FilesSettings,
    /// Leases, sweeps and the grace period.
    pub work: WorkSettings,
    /// When a failed attempt is retried.
    pub retry: RetrySettings,
    /// How long content is kept once nothing more happens to its file.
    pub retention: RetentionSettings,
    /// The tokens of callers.
    pub auth: AuthSettings,
    /// The key that signs receipts.
    pub receipts: ReceiptSettings,
    /// The gateway alone.
    pub gateway: GatewaySettings,
    /// The chunker alone.
    pub chunker: ChunkerSettings,
    /// The store alone.
    pub store: StoreSettings,
    /// The finaliser alone.
    pub finaliser: FinaliserSettings,
    /// Where a worker answers health checks.
    pub health: HealthSettings,
    /// What is logged.
    pub telemetry: TelemetrySettings,
    /// Where files go, by name.
    pub remotes: BTreeMap<String, RemoteSettings>,
    /// The remote for files whose requests name none.
    pub default_remote: Option<String>,
}

impl Settings {
    /// Checks that every value is within its bounds, whichever service uses it.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.nats.check()?;
        self.mongodb.check()?;
        self.files.check()?;
        self.work.check()?;
        self.retry.check()?;
        self.retention.check()?;
        self.auth.check()?;
        self.gateway.check()?;
        self.chunker.check()?;
        self.store.check()?;
        self.finaliser.check()?;
        for (name, remote) in &self.remotes {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                let why = format!("expected names of letters a-z and A-Z, digits, - and _, found {name:?}");
                return Err(wrong("remotes", why));
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
}
