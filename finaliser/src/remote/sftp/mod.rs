//! A server that is reached by SSH, and takes files by SFTP.

mod aside;
mod folder;
mod host_key;
mod line;
mod login;
mod packet;
mod session;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::{Digest, ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use settings::{SftpCredentials, SftpRemote as Settings};

use super::aside_name::{AsideName, plain_name};
use super::wire::{encode_path, encoded};
use super::{Evidence, Look, Onto, Parcel, Remote, RemoteError, Source};
use folder::Folder;
use host_key::HostKeys;

/// What lies aside is looked for this often: each look is a login, and what a file left goes with its next try anyway.
const LEFTOVERS_EVERY: Duration = Duration::from_secs(600);

/// A folder at a server. What is being written lies in `.waybill/` in it, where it has a name of its own; the whole is renamed.
/// Every question and every delivery logs in anew.
pub(super) struct SftpRemote {
    settings: Settings,
    known: HostKeys,
    /// When what lies aside was last looked for.
    looked_at: Mutex<Option<Instant>>,
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
        Ok(Self { settings: settings.clone(), known, looked_at: Mutex::new(None) })
    }

    async fn folder(&self) -> Result<Folder, RemoteError> {
        Folder::open(&self.settings, &self.known).await
    }

    async fn write(&self, parcel: &Parcel, source: Source) -> Result<Evidence, RemoteError> {
        plain_name(&parcel.object)?;
        let mut folder = self.folder().await?;
        let proof = aside::deliver(&mut folder, parcel, source.open().await).await?;
        Ok(Evidence::new(proof, parcel.size))
    }

    async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        plain_name(&parcel.object)?;
        let mut folder = self.folder().await?;
        if !folder.has(parcel.object.folders()).await? {
            return Ok(Look::Absent);
        }
        let path = folder.path(&parcel.object);
        let Some(found) = folder.found(&path).await? else { return Ok(Look::Absent) };
        if let Some(what) = found.not_a_file() {
            return Ok(Look::Other(format!("not a file: {what}").into()));
        }
        match found.size {
            None => return Ok(Look::Unknown(format!("{path:?}: the server does not say how long it is"))),
            Some(size) if size != parcel.size => return Ok(Look::Other(format!("{size} bytes").into())),
            Some(_) => {}
        }
        match folder.read_back(&path, parcel.size).await? {
            Some(found) if found == parcel.sha256 => {
                folder.remove_older(AsideName::of(parcel)).await;
                Ok(Look::Equal(Evidence::new(RemoteProof::ReadBack, 0)))
            }
            Some(found) => Ok(Look::Other(format!("{} bytes with the SHA-256 {found}", parcel.size).into())),
            None => Ok(Look::Other("a file that changed while it was read".to_owned().into())),
        }
    }

    async fn left(&self) -> Result<Vec<AsideName>, RemoteError> {
        {
            let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            if looked_at.is_some_and(|at| at.elapsed() < LEFTOVERS_EVERY) {
                return Ok(Vec::new());
            }
            *looked_at = Some(Instant::now());
        }
        self.folder().await?.asides().await
    }

    async fn remove(&self, leftover: AsideName) -> Result<(), RemoteError> {
        let mut folder = self.folder().await?;
        let path = folder.aside(leftover);
        folder.remove(&path).await
    }
}

impl Remote for SftpRemote {
    fn address(&self, object: &ObjectPath) -> String {
        let Settings { host, port, path, .. } = &self.settings;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let path = path.trim_end_matches('/');
        // `~` is where a login begins.
        let from = if path.is_empty() || path.starts_with('/') { "" } else { "/~/" };
        format!("sftp://{host}:{port}{from}{}/{}", encode_path(path), encoded(object))
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(parcel, source))
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<AsideName>, RemoteError>> {
        Box::pin(self.left())
    }

    fn discard(&self, leftover: AsideName) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(self.remove(leftover))
    }
}
