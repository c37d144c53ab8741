use std::path::PathBuf;

use contract::Names;
use serde::Deserialize;

use crate::bounds::wrong;
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// `[nats]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsSettings {
    /// The URLs of the servers: `nats://host:port`, several separated by commas; `tls://` for TLS. Without user and
    /// password. Empty: not configured.
    pub url: String,
    /// The prefix of all subjects, streams and services.
    pub prefix: String,
    /// The user, with `password` or `password_file`.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password, read again at every connect.
    pub password_file: Option<PathBuf>,
    /// A credentials file (JWT and seed) as `nsc` writes it, read again at every connect.
    pub credentials_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's.
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
    /// The URLs of the servers; the default port on this machine if nothing is configured.
    pub fn url(&self) -> &str {
        if self.url.is_empty() { "nats://127.0.0.1:4222" } else { &self.url }
    }

    /// The password, from the setting or its file.
    pub fn password(&self) -> Result<Option<Secret>, SettingsError> {
        secret_of("nats.password_file", self.password.as_ref(), self.password_file.as_ref())
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        Names::new(&self.prefix).map_err(|error| wrong("nats.prefix", error))?;
        // Not repeated in the error: it would be a secret.
        if self.url.contains('@') {
            let why = "expected no user and password in it; give them as nats.username and nats.password (or \
                       nats.password_file), as they are, without percent-encoding";
            return Err(wrong("nats.url", why));
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        match self.username {
            Some(_) if !has_password => {
                Err(wrong("nats.username", "expected nats.password or nats.password_file with it, found neither"))
            }
            None if has_password => Err(wrong("nats.password", "expected nats.username with it, found none")),
            _ => Ok(()),
        }
    }
}
