//! Settings: defaults, a file and the environment, and which values are refused.

mod bounds;
mod loading;
mod remotes;
mod secrets;

use std::collections::HashMap;
use std::io::Write;

use settings::{Settings, SettingsError};
use tempfile::NamedTempFile;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn environment(variables: &[(&str, &str)]) -> HashMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load_with(Some(file(text).path()), Some(environment(variables)))
}

fn load_file(text: &str) -> Result<Settings, SettingsError> {
    load(text, &[])
}

fn load_environment(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load_with(None, Some(environment(variables)))
}

/// The error for settings that must be refused.
#[track_caller]
fn refused(loaded: Result<Settings, SettingsError>) -> String {
    loaded.map(|settings| panic!("accepted: {settings:?}")).unwrap_err().to_string()
}
