use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ObjectName, ObjectNameError};

/// Where a file is at a remote: its folders, if any, and its name, each one plain segment. Written with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectPath {
    folders: Vec<ObjectName>,
    name: ObjectName,
}

/// A text that cannot be the path of a file at a remote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectPathError {
    /// One of its segments cannot be a name.
    #[error(transparent)]
    Segment(#[from] ObjectNameError),
    /// Longer than a key in S3 may be.
    #[error("expected a path of at most {max} bytes, found {0} bytes", max = ObjectPath::MAX_BYTES)]
    TooLong(usize),
}

impl ObjectPath {
    /// The longest path in bytes: the limit for keys in S3.
    pub const MAX_BYTES: usize = 1024;

    /// The path of `name` in `folders`, from the outermost on.
    pub fn new(folders: Vec<ObjectName>, name: ObjectName) -> Result<Self, ObjectPathError> {
        let path = Self { folders, name };
        match path.segments().map(|segment| segment.as_str().len() + 1).sum::<usize>() - 1 {
            len if len > Self::MAX_BYTES => Err(ObjectPathError::TooLong(len)),
            _ => Ok(path),
        }
    }

    /// The folders, from the outermost on.
    pub fn folders(&self) -> &[ObjectName] {
        &self.folders
    }

    /// The name in the innermost folder.
    pub const fn name(&self) -> &ObjectName {
        &self.name
    }

    /// The folders and the name.
    pub fn segments(&self) -> impl Iterator<Item = &ObjectName> {
        self.folders.iter().chain([&self.name])
    }
}

impl From<ObjectName> for ObjectPath {
    fn from(name: ObjectName) -> Self {
        Self { folders: Vec::new(), name }
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.folders.iter().try_for_each(|folder| write!(f, "{folder}/"))?;
        fmt::Display::fmt(&self.name, f)
    }
}

impl From<ObjectPath> for String {
    fn from(path: ObjectPath) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for ObjectPath {
    type Error = ObjectPathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut segments = text.split('/').map(ObjectName::new).collect::<Result<Vec<_>, _>>()?;
        // A split gives at least one part, and an empty part was refused.
        let name = segments.pop().ok_or(ObjectNameError::Empty)?;
        Self::new(segments, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_written() {
        for text in ["a", "a/b", "2026/11/25/größe.bin", "..hidden/.../a b"] {
            let path = ObjectPath::try_from(text.to_owned()).unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!(path.segments().count(), text.split('/').count());
        }
        let plain = ObjectPath::from(ObjectName::new("a").unwrap());
        assert_eq!((plain.folders(), plain.name().as_str()), (&[][..], "a"));
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        let long = ["x".repeat(200).as_str(); 6].join("/");
        for text in ["", "/", "/a", "a/", "a//b", "a/../b", "..", "a/.", "a\0b/c", &long] {
            assert!(ObjectPath::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }
}
