use contract::{ObjectName, ObjectPath};
use settings::SftpRemote as Settings;

use super::host_key::HostKeys;
use super::packet::{Attributes, READ, Request};
use super::session::{Fault, Session};
use super::{Digest, RemoteError};
use crate::remote::aside_name::{ASIDE, AsideName};

/// Permissions of a folder before the server's own mask, and of the one that holds what is being written.
const FOLDER_MODE: u32 = 0o777;
const ASIDE_MODE: u32 = 0o700;

/// Names looked at in `.waybill/` at most: a server could go on without end.
const NAMES: usize = 10_000;

/// The folder that is configured, and a session with its server.
pub(super) struct Folder {
    pub(super) session: Session,
    root: String,
}

impl Folder {
    pub(super) async fn open(settings: &Settings, known: &HostKeys) -> Result<Self, RemoteError> {
        let session = Session::begin(settings, known).await?;
        Ok(Self { session, root: settings.path.trim_end_matches('/').to_owned() })
    }

    /// The path of a file in it, at the server.
    pub(super) fn path(&self, object: &ObjectPath) -> String {
        format!("{}/{object}", self.root)
    }

    /// The path of what is written aside, at the server.
    pub(super) fn aside(&self, name: AsideName) -> String {
        format!("{}/{}", self.root, name.path())
    }

    /// What is at a path; a link is not followed.
    pub(super) async fn found(&mut self, path: &str) -> Result<Option<Attributes>, RemoteError> {
        self.session.attributes(Request::lstat(path)).await.map_err(|fault| fault.of("look at", path))
    }

    /// Whether all of these folders are there, each in the one before. What is known to be something else is refused, a link too.
    pub(super) async fn has(&mut self, folders: &[ObjectName]) -> Result<bool, RemoteError> {
        self.check_root().await?;
        let mut path = self.root.clone();
        for name in folders {
            path = format!("{path}/{}", name.as_str());
            if !self.is_folder(&path).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// [`Folder::has`], and makes those that are missing.
    pub(super) async fn make(&mut self, folders: &[ObjectName]) -> Result<(), RemoteError> {
        self.check_root().await?;
        let mut path = self.root.clone();
        for name in folders {
            path = format!("{path}/{}", name.as_str());
            self.make_one(&path, FOLDER_MODE).await?;
        }
        Ok(())
    }

    /// Makes `.waybill/` if need be.
    pub(super) async fn make_asides(&mut self) -> Result<(), RemoteError> {
        self.check_root().await?;
        self.make_one(&format!("{}/{ASIDE}", self.root), ASIDE_MODE).await
    }

    /// What lies aside, whoever wrote it.
    pub(super) async fn asides(&mut self) -> Result<Vec<AsideName>, RemoteError> {
        let path = format!("{}/{ASIDE}", self.root);
        if !self.is_folder(&path).await? {
            return Ok(Vec::new());
        }
        let list = |fault: Fault| fault.of("list", &path);
        let handle = self.session.open(Request::open_folder(&path)).await.map_err(list)?;
        let (mut asides, mut seen) = (Vec::new(), 0);
        while seen < NAMES
            && let Some(names) = self.session.names(&handle).await.map_err(list)?
        {
            seen += names.len().max(1);
            asides.extend(names.iter().filter_map(|name| std::str::from_utf8(name).ok()?.parse::<AsideName>().ok()));
        }
        self.session.done(Request::close(&handle)).await.map_err(list)?;
        Ok(asides)
    }

    /// Removes what older claims of the same file, and earlier tries of the same claim, left. Best effort: the next one tries again.
    pub(super) async fn remove_older(&mut self, next: AsideName) {
        for name in self.asides().await.unwrap_or_default() {
            if name.is_older_than(next) {
                let _left_for_the_next = self.remove(&self.aside(name)).await;
            }
        }
    }

    /// Removes a file. Harmless if it is gone.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), RemoteError> {
        match self.session.done(Request::remove(path)).await {
            Err(Fault::Status(status)) if status.is_absent() => Ok(()),
            done => done.map_err(|fault| fault.of("remove", path)),
        }
    }

    /// Hashes a file of `size` bytes and makes sure that it is durable, where the server can; `None` if it has another length by now.
    pub(super) async fn read_back(&mut self, path: &str, size: u64) -> Result<Option<Digest>, RemoteError> {
        let read = |fault: Fault| fault.of("read", path);
        let handle = self.session.open(Request::open(path, READ)).await.map_err(read)?;
        let hash = self.session.hash(&handle, size).await.map_err(read)?;
        if hash.is_some() && self.session.has().fsync {
            self.session.done(Request::fsync(&handle)).await.map_err(|fault| fault.of("sync", path))?;
        }
        self.session.done(Request::close(&handle)).await.map_err(read)?;
        Ok(hash)
    }

    /// A folder that is not there may come back: a disk of the server that is not mounted.
    async fn check_root(&mut self) -> Result<(), RemoteError> {
        let path = if self.root.is_empty() { "/".to_owned() } else { self.root.clone() };
        let found = self.session.attributes(Request::stat(&path)).await.map_err(|fault| fault.of("look at", &path))?;
        match found.map(Attributes::is_folder) {
            None => {
                Err(RemoteError::Later { detail: format!("{path:?}: expected a folder, found nothing"), after: None })
            }
            Some(Some(false)) => Err(something_else(&path)),
            Some(_) => Ok(()),
        }
    }

    async fn is_folder(&mut self, path: &str) -> Result<bool, RemoteError> {
        match self.found(path).await?.map(Attributes::is_folder) {
            None => Ok(false),
            Some(Some(false)) => Err(something_else(path)),
            Some(_) => Ok(true),
        }
    }

    async fn make_one(&mut self, path: &str, mode: u32) -> Result<(), RemoteError> {
        if self.is_folder(path).await? {
            return Ok(());
        }
        match self.session.done(Request::make_folder(path, mode)).await {
            Ok(()) => Ok(()),
            // Another delivery may have made it first; servers have no word for that.
            Err(fault @ Fault::Status(_)) if self.is_folder(path).await? => {
                tracing::trace!(path, ?fault, "the folder is there by now");
                Ok(())
            }
            Err(fault) => Err(fault.of("make the folder", path)),
        }
    }
}

fn something_else(path: &str) -> RemoteError {
    RemoteError::Refused(format!("{path:?}: expected a folder, found something else"))
}
