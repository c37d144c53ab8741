//! Looks at the files that callers name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::Source;
use source::{Place, Roots, SourceError};
use tokio::sync::Semaphore;

use contract::ProblemKind;

use crate::problem::Problem;

/// Looks at files at once: each holds a thread, and a share that hangs would take one after the other.
const LOOKS: usize = 64;

/// How long a look may take, with the wait for its turn, before the share counts as out of reach.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The allowed roots.
#[derive(Debug)]
pub(crate) struct Storage {
    roots: Arc<Roots>,
    looks: Arc<Semaphore>,
}

/// A file that may be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) source: Source,
    /// The last component of its path.
    pub(super) name: String,
}

impl Storage {
    /// Opens the configured roots.
    ///
    /// # Errors
    ///
    /// There is none, or one is no folder that can be opened.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, String> {
        if paths.is_empty() {
            return Err("files.roots: expected a folder at least, beneath which files may be read, found none".into());
        }
        let roots = Roots::open(paths).map_err(|error| format!("files.roots: {error}"))?;
        Ok(Self { roots: Arc::new(roots), looks: Arc::new(Semaphore::new(LOOKS)) })
    }

    /// Looks whether there is a regular file at `path` that may be read.
    pub(super) async fn look(&self, path: &str) -> Result<Found, Problem> {
        let place = self.roots.place(path)?;
        let (roots, looks) = (self.roots.clone(), self.looks.clone());
        let looking = async move {
            // Nobody closes the semaphore, so there is always a permit.
            let permit = looks.acquire_owned().await.ok();
            let looking = tokio::task::spawn_blocking(move || {
                // Kept until the look is over, however long a share that hangs makes it.
                let _permit = permit;
                look(&roots, place)
            });
            looking.await
        };
        match tokio::time::timeout(LOOK_TIMEOUT, looking).await {
            Ok(Ok(found)) => Ok(found?),
            Ok(Err(ended)) => {
                Err(Problem::new(ProblemKind::Unavailable, "the file could not be looked at").because(ended))
            }
            Err(_) => Err(Problem::new(ProblemKind::Unavailable, "the storage of the file does not answer")
                .because(format!("no answer from the storage within {LOOK_TIMEOUT:?}"))),
        }
    }
}

fn look(roots: &Roots, place: Place) -> Result<Found, SourceError> {
    let (_file, seen) = roots.open_file(&place)?;
    let name = Path::new(&place.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = Source { root: place.root, path: place.path, size: seen.size, mtime_ns: seen.mtime_ns };
    Ok(Found { source, name })
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::Malformed(_) => ProblemKind::BadPath,
            SourceError::Outside { .. } => ProblemKind::OutsideRoots,
            SourceError::Missing { .. } => ProblemKind::NoSuchFile,
            SourceError::NotRegular { .. } => ProblemKind::NotARegularFile,
            SourceError::Unreadable { .. } => ProblemKind::UnreadableFile,
            SourceError::UnknownRoot { .. } | SourceError::Failing { .. } => {
                return Self::new(ProblemKind::Unavailable, "the storage of the file does not answer as it should")
                    .because(error);
            }
        };
        Self::new(kind, error.to_string())
    }
}
