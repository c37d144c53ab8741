use std::path::PathBuf;

use contract::SigningKey;
use serde::Deserialize;

use crate::bounds::wrong;
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// `[receipts]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptSettings {
    /// The private key (Ed25519) that signs receipts. Unset or empty: they are not signed.
    pub signing_key: Option<Secret>,
    /// A file that holds the key.
    pub signing_key_file: Option<PathBuf>,
}

impl ReceiptSettings {
    /// Whether `signing_key` or `signing_key_file` is set.
    pub fn is_configured(&self) -> bool {
        self.clear().is_some() || self.signing_key_file.is_some()
    }

    /// The key, from the setting or its file; `None` if receipts are not signed.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, SettingsError> {
        let Some(text) = secret_of("receipts.signing_key_file", self.clear(), self.signing_key_file.as_ref())? else {
            return Ok(None);
        };
        let key = if self.clear().is_some() { "receipts.signing_key" } else { "receipts.signing_key_file" };
        text.expose().parse::<SigningKey>().map(Some).map_err(|error| wrong(key, error))
    }

    /// An empty key counts as unset: a compose file passes on a variable that nobody has set.
    fn clear(&self) -> Option<&Secret> {
        self.signing_key.as_ref().filter(|key| !key.expose().is_empty())
    }
}
