//! A folder on this machine or on a mounted share.

mod aside;
mod folder;

use std::path::PathBuf;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use settings::DirectoryRemote as Settings;
use tokio_util::sync::CancellationToken;

use super::aside_name::{AsideName, plain_name};
use super::{Evidence, Look, Onto, Parcel, Remote, RemoteError, Source};
use aside::Aside;
use folder::Folder;

/// A folder. What is being written lies in `.waybill/` in it, where it has a name of its own; the whole is renamed.
#[derive(Debug)]
pub(super) struct DirectoryRemote {
    path: PathBuf,
}

impl DirectoryRemote {
    /// Checks that the folder is there; makes nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |why: String| RemoteError::Refused(format!("folder {:?}: {why}", settings.path));
        match std::fs::metadata(&settings.path) {
            Ok(found) if found.is_dir() => Ok(Self { path: settings.path.clone() }),
            Ok(_) => Err(wrong("expected a folder, found something else".into())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    async fn write(&self, parcel: &Parcel, source: Source) -> Result<Evidence, RemoteError> {
        plain_name(&parcel.object)?;
        let (path, object, name) = (self.path.clone(), parcel.object.clone(), AsideName::of(parcel));
        let replace = parcel.onto != Onto::Nothing;
        let body = source.open().await;
        let aside = blocking(move || {
            let root = Folder::open(&path)?;
            // Only to save the work: the rename asks again, and for good.
            if !replace
                && let Some(folder) = root.within(object.folders())?
                && folder.has(object.name())?
            {
                return Err(RemoteError::Clash(folder.clash(object.name())));
            }
            Aside::write(root, name, body)
        })
        .await?;
        fail::fail_point!("aside-before-rename", |_| std::process::abort());
        let ours = (parcel.still_ours)();
        let object = parcel.object.clone();
        blocking(move || if ours { aside.place(&object, replace) } else { Err(RemoteError::Stopped) }).await?;
        fail::fail_point!("aside-after-rename", |_| std::process::abort());
        Ok(evidence(parcel.size))
    }

    async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        plain_name(&parcel.object)?;
        let path = self.path.clone();
        let (object, name, size, sha256) = (parcel.object.clone(), AsideName::of(parcel), parcel.size, parcel.sha256);
        // Nobody waits for the hash of a large file once this future is dropped.
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        blocking(move || {
            let root = Folder::open(&path)?;
            let Some(folder) = root.within(object.folders())? else { return Ok(Look::Absent) };
            let found = match folder.read(object.name(), size, &stop)? {
                folder::Found::Nothing => return Ok(Look::Absent),
                folder::Found::Other(what) => return Ok(Look::Other(what.into())),
                folder::Found::Hashed(file, found) if found == sha256 => file,
                folder::Found::Hashed(_, found) => {
                    return Ok(Look::Other(format!("{size} bytes with the SHA-256 {found}").into()));
                }
            };
            folder.make_durable(&found)?;
            root.remove_older(name);
            Ok(Look::Equal(evidence(0)))
        })
        .await
    }
}

impl Remote for DirectoryRemote {
    fn address(&self, object: &ObjectPath) -> String {
        self.path.join(object.to_string()).display().to_string()
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(parcel, source))
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<AsideName>, RemoteError>> {
        let path = self.path.clone();
        Box::pin(blocking(move || Folder::open(&path)?.leftovers()))
    }

    fn discard(&self, leftover: AsideName) -> BoxFuture<'_, Result<(), RemoteError>> {
        let path = self.path.clone();
        Box::pin(blocking(move || Folder::open(&path)?.discard(leftover)))
    }
}

const fn evidence(sent: u64) -> Evidence {
    Evidence::new(RemoteProof::Fsync, sent)
}

/// Runs file I/O where it may block. A result that nobody waits for any more is dropped there.
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
