//! A folder on this machine or on a mounted share.

mod folder;
mod staging_file;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use settings::DirectoryRemote as Settings;
use tokio_util::sync::CancellationToken;

use super::staging_name::{StagingName, check_not_staging};
use super::{Comparison, Evidence, Object, Remote, RemoteError, Source};
use folder::Folder;
use staging_file::{Existing, StagingFile};

/// A folder. A file is written to its folder for staging files, under a temporary name, and renamed when it is
/// complete.
#[derive(Debug)]
pub(super) struct DirectoryRemote {
    settings: Settings,
}

impl DirectoryRemote {
    /// Checks that the folder exists; makes nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |why: String| RemoteError::Refused(format!("folder {:?}: {why}", settings.path));
        match std::fs::metadata(&settings.path) {
            Ok(found) if found.is_dir() => Ok(Self { settings: settings.clone() }),
            Ok(_) => Err(wrong("expected a folder, found something else".into())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    async fn write(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        check_not_staging(&object.path, &self.settings.staging_folder)?;
        let (settings, path, name) = (self.settings.clone(), object.path.clone(), StagingName::of(object));
        let existing = Existing::of(object);
        let body = source.open().await;
        let staging_file = blocking(move || {
            let root = Folder::open(&settings)?;
            // This check only saves work. The rename decides.
            if existing != Existing::Replaced
                && let Some(folder) = root.within(path.folders())?
                && folder.has(path.name())?
            {
                return Err(RemoteError::Conflict(folder.conflict(path.name())));
            }
            StagingFile::write(root, path.folders(), name, body)
        })
        .await?;
        fail::fail_point!("aside-before-rename", |_| std::process::abort());
        let ours = (object.still_ours)();
        let path = object.path.clone();
        blocking(move || if ours { staging_file.publish(&path, existing) } else { Err(RemoteError::Stopped) }).await?;
        fail::fail_point!("aside-after-rename", |_| std::process::abort());
        Ok(evidence(object.size))
    }

    async fn compare_file(&self, object: &Object) -> Result<Comparison, RemoteError> {
        check_not_staging(&object.path, &self.settings.staging_folder)?;
        let (settings, path, name) = (self.settings.clone(), object.path.clone(), StagingName::of(object));
        let (size, sha256) = (object.size, object.sha256);
        // Dropping this future ends the hashing of a large file.
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        blocking(move || {
            let root = Folder::open(&settings)?;
            let Some(folder) = root.within(path.folders())? else { return Ok(Comparison::Absent) };
            let found = match folder.read(path.name(), size, &stop)? {
                folder::Found::Nothing => return Ok(Comparison::Absent),
                folder::Found::Other(what) => return Ok(Comparison::Different(what.into())),
                folder::Found::Hashed(file, found) if found == sha256 => file,
                folder::Found::Hashed(_, found) => {
                    return Ok(Comparison::Different(format!("{size} bytes with the SHA-256 {found}").into()));
                }
            };
            folder.make_durable(&found)?;
            root.remove_older(name);
            Ok(Comparison::Equal(evidence(0)))
        })
        .await
    }
}

impl Remote for DirectoryRemote {
    fn address(&self, path: &ObjectPath) -> String {
        self.settings.path.join(path.to_string()).display().to_string()
    }

    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>> {
        Box::pin(self.compare_file(object))
    }

    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(object, source))
    }

    fn staging_files(&self) -> BoxFuture<'_, Result<Vec<StagingName>, RemoteError>> {
        let settings = self.settings.clone();
        Box::pin(blocking(move || Folder::open(&settings)?.staging_files()))
    }

    fn remove_staging_file(&self, name: StagingName) -> BoxFuture<'_, Result<(), RemoteError>> {
        let settings = self.settings.clone();
        Box::pin(blocking(move || Folder::open(&settings)?.remove_staging_file(name)))
    }
}

const fn evidence(sent: u64) -> Evidence {
    Evidence::new(RemoteProof::Fsync, sent)
}

/// Runs file I/O on a thread that may block. If nobody waits for its result any more, the result is dropped there.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(RemoteError::Stopped),
        },
    }
}
