use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::PATH_MAX;

/// Why a file may not or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not usable as a path.
    #[error("expected a path of 1 to {PATH_MAX} bytes without NUL, found {0}")]
    Malformed(String),
    /// Not beneath a root, or no longer so once `..` and symbolic links are followed.
    #[error("{path:?} leads outside the allowed roots")]
    Outside {
        /// The path.
        path: String,
    },
    /// Its root is not among those configured here.
    #[error("the root {root:?} is not configured for this service (files.roots)")]
    UnknownRoot {
        /// The root.
        root: String,
    },
    /// Nothing is there.
    #[error("there is no file {path:?}")]
    Missing {
        /// The path.
        path: String,
    },
    /// Not a regular file.
    #[error("expected {path:?} to be a regular file, found {found}")]
    NotRegular {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// The file system denies access.
    #[error("{path:?} may not be read by this service: permission denied")]
    Unreadable {
        /// The path.
        path: String,
    },
    /// The file system fails in another way.
    #[error("{path:?} cannot be read: {source}")]
    Failing {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl SourceError {
    /// What an error of the file system means for the file at `path`.
    pub(crate) fn from_io(path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        let Some(errno) = Errno::from_io_error(&source) else {
            // cap-std itself refuses a path that leads out, with an error that carries no errno.
            return match source.kind() {
                ErrorKind::PermissionDenied => Self::Outside { path },
                _ => Self::Failing { path, source },
            };
        };
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing { path },
            Errno::NAMETOOLONG => Self::Malformed("a name that is too long for the file system".into()),
            // LOOP: too many links, or a magic link of /proc.
            Errno::XDEV | Errno::LOOP => Self::Outside { path },
            Errno::ACCESS | Errno::PERM => Self::Unreadable { path },
            // Opening a socket gives this error.
            Errno::NXIO => Self::NotRegular { path, found: "a socket" },
            _ => Self::Failing { path, source },
        }
    }
}
