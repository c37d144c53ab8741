use std::path::PathBuf;

use contract::{NameTemplate, ObjectName};
use serde::Deserialize;

use super::{OnClash, staging_folder};

/// `kind = "directory"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRemote {
    /// The folder. It must exist.
    pub path: PathBuf,
    /// The name of the folder in it that holds what is being written.
    #[serde(default = "staging_folder")]
    pub staging_folder: ObjectName,
    /// What happens if the name is taken.
    #[serde(default)]
    pub on_clash: OnClash,
    /// How files are named at the remote; folders are made as needed.
    #[serde(default)]
    pub name: NameTemplate,
}

impl DirectoryRemote {
    /// A folder, with all else at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            staging_folder: staging_folder(),
            on_clash: OnClash::default(),
            name: NameTemplate::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !self.path.is_absolute() {
            return Err(format!("path: expected an absolute path, found {}", self.path.display()));
        }
        Ok(())
    }
}
