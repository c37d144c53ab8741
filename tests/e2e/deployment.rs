//! The shipped files agree with the code: sample settings, compose file, image, NATS' configuration, documents.
//!
//! No container engine is needed: the tests check what the files say.

mod compose;
mod documents;
mod image;
mod sample;
mod servers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use settings::{Settings, SettingsError};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    // The package is a folder of the repository's root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// The text of a file.
fn text(path: &str) -> String {
    let file = file(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()))
}

/// A file, parsed as TOML.
fn table(path: &str) -> toml::Table {
    text(path).parse().unwrap_or_else(|error| panic!("{path} is no TOML: {error}"))
}

/// The settings in `file` with an environment over them, and nothing of the environment that the test runs in.
fn load(file: Option<&Path>, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let environment: HashMap<_, _> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::load_with(file, Some(environment))
}
