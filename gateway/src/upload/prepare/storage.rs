//! Finds the files that callers name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::ProblemKind;
use ledger::Source;
use sources::{Roots, SourceError, SourcePath};
use tokio::sync::Semaphore;

use crate::refusal::Refusal;

/// How many files are inspected at once: each inspection holds a thread, and a share that hangs would take all threads.
pub(crate) const INSPECTIONS_MAX: usize = 64;

/// How long an inspection may take, with the wait for its turn, before the share counts as unreachable.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The allowed roots.
#[derive(Debug)]
pub(crate) struct Storage {
    roots: Arc<Roots>,
    inspections: Arc<Semaphore>,
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
    /// `paths` is empty, or one of them cannot be opened as a folder.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, String> {
        if paths.is_empty() {
            return Err("files.roots: expected at least one folder beneath which files may be read, found none".into());
        }
        // The error names the setting.
        let roots = Roots::open(paths).map_err(|error| error.to_string())?;
        Ok(Self { roots: Arc::new(roots), inspections: Arc::new(Semaphore::new(INSPECTIONS_MAX)) })
    }

    /// Finds the regular file at `path`, if this service may read it.
    pub(super) async fn find(&self, path: &str) -> Result<Found, Refusal> {
        let place = self.roots.locate(path)?;
        let (roots, inspections) = (self.roots.clone(), self.inspections.clone());
        let inspecting = async move {
            // Nobody closes the semaphore, so there is always a permit.
            let permit = inspections.acquire_owned().await.ok();
            let inspecting = tokio::task::spawn_blocking(move || {
                // The permit is kept until the inspection ends, even if a share that hangs delays it.
                let _permit = permit;
                inspect(&roots, place)
            });
            inspecting.await
        };
        match tokio::time::timeout(INSPECTION_TIMEOUT, inspecting).await {
            Ok(Ok(found)) => Ok(found?),
            Ok(Err(ended)) => {
                Err(Refusal::new(ProblemKind::Unavailable, "the file could not be inspected").because(ended))
            }
            Err(_) => Err(Refusal::new(ProblemKind::Unavailable, "the storage of the file does not answer")
                .because(format!("no answer from the storage within {INSPECTION_TIMEOUT:?}"))),
        }
    }
}

/// Blocking.
fn inspect(roots: &Roots, place: SourcePath) -> Result<Found, SourceError> {
    let (_file, fingerprint) = roots.open_file(&place)?;
    let name = Path::new(&place.path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (size, mtime_ns) = (fingerprint.size, fingerprint.mtime_ns);
    Ok(Found { source: Source { root: place.root, path: place.path, size, mtime_ns }, name })
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::Malformed(_) => ProblemKind::BadPath,
            SourceError::Outside { .. } => ProblemKind::OutsideRoots,
            SourceError::Missing { .. } => ProblemKind::NoSuchFile,
            SourceError::NotRegular { .. } => ProblemKind::NotARegularFile,
            SourceError::Unreadable { .. } => ProblemKind::UnreadableFile,
            SourceError::UnknownRoot { .. } | SourceError::Failing { .. } => {
                return Self::new(ProblemKind::Unavailable, "the storage of the file fails").because(error);
            }
        };
        Self::new(kind, error.to_string())
    }
}
