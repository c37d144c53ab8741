use std::path::PathBuf;
use std::time::Duration;

use contract::{NameTemplate, ObjectName};
use serde::Deserialize;

use super::{OnClash, idle_timeout, idle_timeout_ms, staging_folder};
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// `kind = "sftp"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftpRemote {
    /// The server's name or IP address.
    pub host: String,
    /// Its port.
    #[serde(default = "port")]
    pub port: u16,
    /// The server's public keys, one per line: as in a `.pub` file, or `SHA256:` and the fingerprint. No other key is
    /// accepted.
    pub host_key: String,
    /// The user who logs in.
    pub username: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password, read again for every login.
    pub password_file: Option<PathBuf>,
    /// A file with the private key to log in with, read again for every login. It wins over a password.
    pub private_key_file: Option<PathBuf>,
    /// A file with the passphrase of the private key, read again for every login.
    pub passphrase_file: Option<PathBuf>,
    /// The folder, absolute or relative to the login folder. It must exist.
    pub path: String,
    /// The name of the folder in it that holds what is being written.
    #[serde(default = "staging_folder")]
    pub staging_folder: ObjectName,
    /// How long the server may be silent, in milliseconds (100 to 600,000): it takes nothing of what the kernel holds
    /// for it, and sends nothing. In twice this time it must move 256 bytes for each second. The whole transfer has no
    /// limit.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// What happens if the name is taken.
    #[serde(default)]
    pub on_clash: OnClash,
    /// How files are named at the remote; folders are made as needed.
    #[serde(default)]
    pub name: NameTemplate,
}

/// How a login is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SftpCredentials {
    /// A password.
    Password(Secret),
    /// The text of a private key, and the passphrase that it is encrypted with.
    PrivateKey(Secret, Option<Secret>),
}

const fn port() -> u16 {
    22
}

impl SftpRemote {
    /// A server, with all else at its default.
    pub fn new(host: impl Into<String>, host_key: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: port(),
            host_key: host_key.into(),
            username: username.into(),
            password: None,
            password_file: None,
            private_key_file: None,
            passphrase_file: None,
            path: ".".to_owned(),
            staging_folder: staging_folder(),
            idle_timeout_ms: idle_timeout_ms(),
            on_clash: OnClash::default(),
            name: NameTemplate::default(),
        }
    }

    /// How long the server may be silent.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// The server's public keys, as `host_key` lists them.
    pub fn host_keys(&self) -> impl Iterator<Item = &str> {
        self.host_key.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// The current credentials: those in files may have been renewed.
    pub fn credentials(&self) -> Result<SftpCredentials, SettingsError> {
        if let Some(key) = secret_of("private_key_file", None, self.private_key_file.as_ref())? {
            let passphrase = secret_of("passphrase_file", None, self.passphrase_file.as_ref())?;
            return Ok(SftpCredentials::PrivateKey(key, passphrase));
        }
        let password = secret_of("password_file", self.password.as_ref(), self.password_file.as_ref())?;
        let missing = SettingsError::Missing { key: "password", why: "a login needs it, or a private_key_file" };
        password.map(SftpCredentials::Password).ok_or(missing)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        // Checked first, and not repeated in the error: it could be a password.
        if self.host.contains('@') {
            return Err("host: expected a name or an IP address without a user; the user is in username".into());
        }
        if !plain(&self.host) || self.host.contains(['/', '[', ']']) {
            return Err(format!("host: expected a name or an IP address, found {:?}", self.host));
        }
        if self.port == 0 {
            return Err("port: expected 1 to 65535, found 0".into());
        }
        if !plain(&self.username) {
            return Err(format!("username: expected a user's name, found {:?}", self.username));
        }
        if self.path.is_empty() || self.path.chars().any(char::is_control) {
            return Err(format!("path: expected a folder, or . for the login folder, found {:?}", self.path));
        }
        if self.host_keys().next().is_none() {
            return Err("host_key: expected the server's public key or its SHA256: fingerprint, found nothing".into());
        }
        let has_key = self.private_key_file.is_some();
        if !has_key && self.password.is_none() && self.password_file.is_none() {
            return Err("private_key_file: expected one, or a password, found none".into());
        }
        if self.passphrase_file.is_some() && !has_key {
            return Err("private_key_file: expected one, as there is a passphrase_file".into());
        }
        idle_timeout(self.idle_timeout_ms)
    }
}
