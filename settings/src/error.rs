use std::path::PathBuf;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, a key is unknown or a value has the wrong type.
    #[error("the settings cannot be read: {0}")]
    Read(String),
    /// A value is not one of those allowed.
    #[error("the setting {key} is wrong: {why}")]
    Value {
        /// The setting.
        key: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A secret that is needed is missing.
    #[error("the setting {key} is missing: {why}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// What it is for and how to give it.
        why: &'static str,
    },
    /// A file with a secret cannot be read.
    #[error("the file {path} that {key} names cannot be read: {source}")]
    SecretFile {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<config::ConfigError> for SettingsError {
    /// Keeps the message without what may be a secret: the lines of the file that it quotes (`19 | jwt_secret = ...`),
    /// and a value of the wrong type.
    fn from(error: config::ConfigError) -> Self {
        let shown = error.to_string();
        let quoted = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
        let shown = shown.lines().filter(|line| !quoted(line)).map(str::trim).collect::<Vec<_>>().join(": ");
        Self::Read(without_value(&shown))
    }
}

/// `invalid type: string "the value", expected a map for key ...` without the value.
fn without_value(shown: &str) -> String {
    let kept = || {
        let begin =
            ["invalid type: ", "invalid value: "].iter().find_map(|words| Some(shown.find(words)? + words.len()))?;
        // The kind of the value ends where the value begins. The value itself may hold the words that follow it.
        let value = begin + shown[begin..].find(['"', '`', '\''])?;
        let rest = shown.rfind(", expected ")?;
        (value < rest).then(|| format!("{}{}", shown[..value].trim_end(), &shown[rest..]))
    };
    kept().unwrap_or_else(|| shown.to_owned())
}
