//! The settings of all services: one file, a section each. Read as defaults, then the file, then the environment
//! (`WAYBILL__SECTION__KEY`). A key that nobody knows is an error, so that a misspelt one is noticed.

mod arguments;
mod check;
mod remotes;
mod secret;
mod sections;
pub mod telemetry;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use arguments::ServiceArgs;
pub use remotes::{
    DirectoryRemote, HttpCredentials, HttpRemote, HttpVersion, OnClash, RemoteSettings, S3Credentials, S3Remote,
    SftpCredentials, SftpRemote, WebdavRemote,
};
pub use secret::Secret;
pub use sections::{
    AuthSettings, BlockCompressor, ChunkerSettings, FilesSettings, FinaliserSettings, GatewaySettings, HealthSettings,
    LogFormat, MongodbSettings, NatsSettings, ReceiptSettings, RetentionSettings, RetrySettings, StoreSettings,
    TelemetrySettings, WorkSettings,
};

/// Variables that are text whatever they look like. The others are parsed: `007` would become 7, and that is no longer the password.
const TEXT: [&str; 8] = [
    "WAYBILL__NATS__PREFIX",
    "WAYBILL__NATS__USERNAME",
    "WAYBILL__NATS__PASSWORD",
    "WAYBILL__MONGODB__URI",
    "WAYBILL__MONGODB__DATABASE",
    "WAYBILL__AUTH__JWT_SECRET",
    "WAYBILL__RECEIPTS__SIGNING_KEY",
    "WAYBILL__DEFAULT_REMOTE",
];

/// The same of remotes, whatever their names: the last part of the variable.
const REMOTE_TEXT: [&str; 12] = [
    "NAME",
    "USERNAME",
    "PASSWORD",
    "TOKEN",
    "HTTP_VERSION",
    "REGION",
    "ACCESS_KEY",
    "SECRET_KEY",
    "SESSION_TOKEN",
    "HOST",
    "HOST_KEY",
    "PATH",
];

/// All settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How to reach NATS.
    pub nats: NatsSettings,
    /// How to reach MongoDB.
    pub mongodb: MongodbSettings,
    /// What may be read, and how it is cut.
    pub files: FilesSettings,
    /// Leases, sweeps and the end.
    pub work: WorkSettings,
    /// When a failed attempt is made again.
    pub retry: RetrySettings,
    /// How long content stays once nothing more happens to its file.
    pub retention: RetentionSettings,
    /// Who may call.
    pub auth: AuthSettings,
    /// What vouches for deliveries.
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

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not readable, or a key or value is wrong.
    #[error("the settings cannot be read: {0}")]
    Read(String),
    /// A value is out of its bounds.
    #[error("the setting {key} is wrong: {why}")]
    Value {
        /// Which.
        key: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A secret that is needed is not there.
    #[error("the setting {key} is missing: {why}")]
    Missing {
        /// Which.
        key: &'static str,
        /// What it is for and how to give it.
        why: &'static str,
    },
    /// A file with a secret cannot be read.
    #[error("the file {path} that {key} names cannot be read: {source}")]
    SecretFile {
        /// Which setting names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Settings {
    /// Reads the file, if one is named, and the environment over it.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::load_with(file, None)
    }

    /// [`Settings::load`] with another environment, for tests.
    pub fn load_with(
        file: Option<&Path>,
        environment: Option<std::collections::HashMap<String, String>>,
    ) -> Result<Self, SettingsError> {
        let text = environment.clone().unwrap_or_else(|| std::env::vars_os().filter_map(unicode).collect());
        let text = text.into_iter().filter(|(name, _)| is_text(&name.to_ascii_uppercase())).collect();
        let variables = |environment| {
            config::Environment::with_prefix("WAYBILL").prefix_separator("__").separator("__").source(environment)
        };
        let parsed = variables(environment).try_parsing(true).list_separator(":").with_list_parse_key("files.roots");
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let settings: Self = builder.add_source(parsed).add_source(variables(Some(text))).build()?.try_deserialize()?;
        settings.check()?;
        Ok(settings)
    }
}

impl From<config::ConfigError> for SettingsError {
    /// Keeps the message without the lines of the file that it quotes (`19 | jwt_secret = ...`): they may hold a secret.
    fn from(error: config::ConfigError) -> Self {
        let shown = error.to_string();
        let quoted = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
        Self::Read(shown.lines().filter(|line| !quoted(line)).map(str::trim).collect::<Vec<_>>().join(": "))
    }
}

fn is_text(variable: &str) -> bool {
    let of_remote = |rest: &str| rest.rsplit_once("__").is_some_and(|(_, key)| REMOTE_TEXT.contains(&key));
    TEXT.contains(&variable) || variable.strip_prefix("WAYBILL__REMOTES__").is_some_and(of_remote)
}

/// A variable that is Unicode; another one is refused when the settings are built, if it is ours.
fn unicode((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// A secret given in clear or by the file that holds it; the file's trailing line end does not count.
fn secret_of(
    key: &'static str,
    clear: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, SettingsError> {
    match (clear, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| SettingsError::SecretFile { key, path: path.clone(), source })?;
            Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
        }
        (None, None) => Ok(None),
    }
}
