use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::SettingsError;

/// A setting that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A secret that is given as a setting, or else in a file; a byte order mark at the beginning of the file and a line
/// end at its end do not count.
pub(crate) fn secret_of(
    key: &'static str,
    clear: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, SettingsError> {
    match (clear, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| SettingsError::SecretFile { key, path: path.clone(), source })?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
        }
        (None, None) => Ok(None),
    }
}
