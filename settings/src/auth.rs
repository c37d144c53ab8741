use std::path::PathBuf;

use serde::Deserialize;

use crate::bounds::{within, wrong};
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// `[auth]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// The secret that signs tokens, at least 32 bytes.
    pub jwt_secret: Option<Secret>,
    /// A file that holds the secret.
    pub jwt_secret_file: Option<PathBuf>,
    /// How many seconds a token is valid (1 to 86,400).
    pub token_seconds: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self { jwt_secret: None, jwt_secret_file: None, token_seconds: 30 * 60 }
    }
}

impl AuthSettings {
    /// The secret that signs tokens, from the setting or its file.
    pub fn jwt_secret(&self) -> Result<Secret, SettingsError> {
        let secret = secret_of("auth.jwt_secret_file", self.jwt_secret.as_ref(), self.jwt_secret_file.as_ref())?;
        let secret = secret.ok_or(SettingsError::Missing {
            key: "auth.jwt_secret",
            why: "tokens are signed with it; set it, or auth.jwt_secret_file, to at least 32 random bytes \
                  (openssl rand -hex 32)",
        })?;
        match secret.expose().len() {
            len @ 0..32 => Err(wrong("auth.jwt_secret", format!("expected at least 32 bytes, found {len}"))),
            _ => Ok(secret),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        within("auth.token_seconds", self.token_seconds, 1..=86_400)
    }
}
