use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a file at a remote: one plain path segment, taken as it is and never decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectName(String);

/// A text that cannot name a file at a remote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectNameError {
    /// Empty.
    #[error("expected a name of at least one character, found an empty one")]
    Empty,
    /// `.` or `..`, which name folders.
    #[error("expected a plain name, found {0:?}, which names a folder")]
    Dots(String),
    /// Holds `/` or NUL.
    #[error("expected a plain name, found {0:?}, which holds '/' or NUL")]
    Separator(String),
    /// Longer than file systems allow.
    #[error("expected a name of at most {max} bytes, found {0} bytes", max = ObjectName::MAX_BYTES)]
    TooLong(usize),
}

impl ObjectName {
    /// The longest name in bytes: NAME_MAX of Linux file systems.
    pub const MAX_BYTES: usize = 255;

    /// Takes `name` if it is one plain segment.
    pub fn new(name: impl Into<String>) -> Result<Self, ObjectNameError> {
        let name = name.into();
        match name.as_str() {
            "" => Err(ObjectNameError::Empty),
            "." | ".." => Err(ObjectNameError::Dots(name)),
            _ if name.contains(['/', '\0']) => Err(ObjectNameError::Separator(name.chars().take(80).collect())),
            _ if name.len() > Self::MAX_BYTES => Err(ObjectNameError::TooLong(name.len())),
            _ => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = ObjectNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_taken_as_they_are() {
        for name in ["a", "..hidden", "a%2fb", "with space", "\"quoted\"", "new\nline", "größe.bin", "..."] {
            assert_eq!(ObjectName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", "/", "a/b", "../a", "a\0b", &long] {
            assert!(ObjectName::new(name).is_err(), "{name:?} was accepted");
        }
    }
}
