//! A server that accepts files by SFTP.

mod folder;
mod host_key;
mod line;
mod login;
mod packet;
mod session;
mod staging;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::{Digest, ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use settings::{SftpCredentials, SftpRemote as Settings};

use super::staging_name::{StagingName, check_not_staging};
use super::wire::{encode_path, encoded};
use super::{Comparison, Evidence, Object, Precondition, Remote, RemoteError, Source};
use folder::Folder;
use host_key::HostKeys;

/// The shortest time between two lists of staging files. Each list needs a login, and the next try of a file removes
/// its own staging files anyway.
const LIST_PAUSE: Duration = Duration::from_secs(600);

/// A folder at a server. A file is written to its folder for staging files, under a temporary name, and renamed when it
/// is complete. Every comparison and every delivery logs in again.
pub(super) struct SftpRemote {
    settings: Settings,
    known: HostKeys,
    /// When the staging files were last listed.
    listed_at: Mutex<Option<Instant>>,
}

impl fmt::Debug for SftpRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpRemote").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl SftpRemote {
    /// Reads the server's keys and the credentials; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |why: String| RemoteError::Refused(format!("host_key: {why}"));
        let known = HostKeys::read(settings.host_keys()).map_err(wrong)?;
        let credentials = settings.credentials().map_err(|error| RemoteError::Refused(error.to_string()))?;
        if matches!(credentials, SftpCredentials::PrivateKey(..)) {
            login::private_key(&credentials)?;
        }
        Ok(Self { settings: settings.clone(), known, listed_at: Mutex::new(None) })
    }

    async fn folder(&self) -> Result<Folder, RemoteError> {
        Folder::open(&self.settings, &self.known).await
    }

    async fn write(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        check_not_staging(&object.path, &self.settings.staging_folder)?;
        let mut folder = self.folder().await?;
        let proof = staging::deliver(&mut folder, object, source.open().await).await?;
        Ok(Evidence::new(proof, object.size))
    }

    async fn compare_file(&self, object: &Object) -> Result<Comparison, RemoteError> {
        check_not_staging(&object.path, &self.settings.staging_folder)?;
        let mut folder = self.folder().await?;
        if !folder.has(object.path.folders()).await? {
            return Ok(Comparison::Absent);
        }
        let path = folder.path(&object.path);
        let Some(found) = folder.found(&path).await? else { return Ok(Comparison::Absent) };
        if let Some(what) = found.not_a_file() {
            return Ok(Comparison::Different(format!("not a file: {what}").into()));
        }
        match found.size {
            None => return Ok(Comparison::Unknown(format!("{path:?}: the server does not say how long it is"))),
            Some(size) if size != object.size => return Ok(Comparison::Different(format!("{size} bytes").into())),
            Some(_) => {}
        }
        match folder.read_back(&path, object.size).await? {
            Some(found) if found == object.sha256 => {
                folder.remove_older(StagingName::of(object)).await;
                Ok(Comparison::Equal(Evidence::new(RemoteProof::ReadBack, 0)))
            }
            Some(found) => Ok(Comparison::Different(format!("{} bytes with the SHA-256 {found}", object.size).into())),
            None => Ok(Comparison::Different("a file that changed while it was read".to_owned().into())),
        }
    }

    async fn list(&self) -> Result<Vec<StagingName>, RemoteError> {
        {
            let mut listed_at = self.listed_at.lock().unwrap_or_else(PoisonError::into_inner);
            if listed_at.is_some_and(|at| at.elapsed() < LIST_PAUSE) {
                return Ok(Vec::new());
            }
            *listed_at = Some(Instant::now());
        }
        self.folder().await?.staging_files().await
    }

    async fn remove(&self, name: StagingName) -> Result<(), RemoteError> {
        let mut folder = self.folder().await?;
        let path = folder.staging_path(name);
        folder.remove(&path).await
    }
}

impl Remote for SftpRemote {
    fn address(&self, path: &ObjectPath) -> String {
        let Settings { host, port, path: folder, .. } = &self.settings;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let folder = folder.trim_end_matches('/');
        // `~` is the folder in which a login begins.
        let from = if folder.is_empty() || folder.starts_with('/') { "" } else { "/~/" };
        format!("sftp://{host}:{port}{from}{}/{}", encode_path(folder), encoded(path))
    }

    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>> {
        Box::pin(self.compare_file(object))
    }

    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(object, source))
    }

    fn staging_files(&self) -> BoxFuture<'_, Result<Vec<StagingName>, RemoteError>> {
        Box::pin(self.list())
    }

    fn remove_staging_file(&self, name: StagingName) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(self.remove(name))
    }
}
