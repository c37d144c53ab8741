use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use crate::{Settings, SettingsError};

/// Variables that stay text whatever they look like. All others are parsed: a password `007` would become the number 7.
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

/// The same for remotes of any name: the last part of the variable's name.
const REMOTE_TEXT: [&str; 13] = [
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
    "STAGING_FOLDER",
];

impl Settings {
    /// Reads the file, if one is given, then the environment, which overrides it.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::load_with(file, None)
    }

    /// [`Settings::load`] with another environment, for tests.
    pub fn load_with(file: Option<&Path>, environment: Option<HashMap<String, String>>) -> Result<Self, SettingsError> {
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

fn is_text(variable: &str) -> bool {
    let of_remote = |rest: &str| rest.rsplit_once("__").is_some_and(|(_, key)| REMOTE_TEXT.contains(&key));
    TEXT.contains(&variable) || variable.strip_prefix("WAYBILL__REMOTES__").is_some_and(of_remote)
}

/// A variable as Unicode. If one of ours is not Unicode, building the settings fails.
fn unicode((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
