use std::path::PathBuf;
use std::time::Duration;

use contract::NameTemplate;
use serde::Deserialize;

use super::{OnClash, bounded, idle_timeout, idle_timeout_ms, server_folder};
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

const MIB: u64 = 1024 * 1024;

/// `kind = "s3"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Remote {
    /// Where files go: `http` or `https`, ending in `/`. The bucket is in the host or is the first folder; what follows
    /// begins every key.
    pub url: String,
    /// Whether the bucket is in the host, and not the first folder of `url`. It matters only to the search for
    /// abandoned uploads, which asks the bucket itself.
    #[serde(default)]
    pub bucket_in_host: bool,
    /// The region that requests are signed for.
    #[serde(default = "region")]
    pub region: String,
    /// The id of the access key.
    pub access_key: Option<String>,
    /// A file that holds the id, read again for every request.
    pub access_key_file: Option<PathBuf>,
    /// The secret of the access key.
    pub secret_key: Option<Secret>,
    /// A file that holds the secret, read again for every request.
    pub secret_key_file: Option<PathBuf>,
    /// The token that comes with temporary credentials.
    pub session_token: Option<Secret>,
    /// A file that holds the token, read again for every request.
    pub session_token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the public authorities.
    pub ca_file: Option<PathBuf>,
    /// How long the server may be silent, in milliseconds (100 to 600,000): it takes nothing of what the kernel holds
    /// for it, and sends nothing. In twice this time it must move 256 bytes for each second. The whole transfer has no
    /// limit.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// Bytes of one part of an upload (8 MiB to 1 GiB); larger if a file would otherwise have more than 10,000 parts.
    #[serde(default = "part_size")]
    pub part_size: u64,
    /// The most bytes of parts in memory per file (8 MiB to 1 GiB); always enough for one part being sent and the next.
    #[serde(default = "in_flight_bytes")]
    pub in_flight_bytes: u64,
    /// Whether the server obeys `If-None-Match` and `If-Match`.
    #[serde(default = "yes")]
    pub conditional: bool,
    /// Whether the server accepts a SHA-256 for each part, besides the one in the signature.
    #[serde(default = "yes")]
    pub checksums: bool,
    /// What happens if the name is taken.
    #[serde(default)]
    pub on_clash: OnClash,
    /// How files are named at the remote.
    #[serde(default)]
    pub name: NameTemplate,
}

/// What requests to S3 are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The id of the access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

fn region() -> String {
    "us-east-1".to_owned()
}

const fn part_size() -> u64 {
    8 * MIB
}

const fn in_flight_bytes() -> u64 {
    32 * MIB
}

const fn yes() -> bool {
    true
}

impl S3Remote {
    /// A bucket, with all else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            bucket_in_host: false,
            region: region(),
            access_key: None,
            access_key_file: None,
            secret_key: None,
            secret_key_file: None,
            session_token: None,
            session_token_file: None,
            ca_file: None,
            idle_timeout_ms: idle_timeout_ms(),
            part_size: part_size(),
            in_flight_bytes: in_flight_bytes(),
            conditional: yes(),
            checksums: yes(),
            on_clash: OnClash::default(),
            name: NameTemplate::default(),
        }
    }

    /// How long the server may be silent.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// The current credentials: those in files may have been renewed.
    pub fn credentials(&self) -> Result<S3Credentials, SettingsError> {
        let access_key = self.access_key.clone().map(Secret::new);
        let access_key = secret_of("access_key_file", access_key.as_ref(), self.access_key_file.as_ref())?;
        let secret_key = secret_of("secret_key_file", self.secret_key.as_ref(), self.secret_key_file.as_ref())?;
        let missing = |key| SettingsError::Missing { key, why: "requests to S3 are signed with it" };
        Ok(S3Credentials {
            access_key: access_key.ok_or_else(|| missing("access_key"))?.expose().to_owned(),
            secret_key: secret_key.ok_or_else(|| missing("secret_key"))?,
            session_token: secret_of(
                "session_token_file",
                self.session_token.as_ref(),
                self.session_token_file.as_ref(),
            )?,
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        server_folder(&self.url)?;
        idle_timeout(self.idle_timeout_ms)?;
        bounded("part_size", self.part_size, 8 * MIB..=1024 * MIB)?;
        bounded("in_flight_bytes", self.in_flight_bytes, 8 * MIB..=1024 * MIB)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.region.is_empty() || !self.region.chars().all(plain) {
            return Err(format!("region: expected letters, digits and -, found {:?}", self.region));
        }
        Ok(())
    }
}
