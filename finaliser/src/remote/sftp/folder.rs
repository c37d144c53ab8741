use contract::{ObjectName, ObjectPath};
use settings::SftpRemote as Settings;

use super::host_key::HostKeys;
use super::packet::{Attributes, READ, Request, Status};
use super::session::{Fault, Session};
use super::{Digest, RemoteError};
use crate::remote::staging_name::{StagingName, explain_refusal};

/// Permissions of a folder, and of the folder for staging files, before the server applies its own mask.
const FOLDER_MODE: u32 = 0o777;
const STAGING_MODE: u32 = 0o700;

/// The most names that are read from the folder for staging files: a server could list names without end.
const NAMES: usize = 10_000;

/// The most names among which one is looked for.
const LISTED: usize = 100_000;

/// The configured folder, and a session with its server.
pub(super) struct Folder {
    pub(super) session: Session,
    root: String,
    /// The name of the folder for staging files.
    staging: ObjectName,
}

impl Folder {
    pub(super) async fn open(settings: &Settings, known: &HostKeys) -> Result<Self, RemoteError> {
        let session = Session::begin(settings, known).await?;
        let root = settings.path.trim_end_matches('/').to_owned();
        Ok(Self { session, root, staging: settings.staging_folder.clone() })
    }

    /// The path of an object at the server.
    pub(super) fn path(&self, path: &ObjectPath) -> String {
        format!("{}/{path}", self.root)
    }

    /// The path of a staging file at the server.
    pub(super) fn staging_path(&self, name: StagingName) -> String {
        format!("{}/{name}", self.staging_folder())
    }

    fn staging_folder(&self) -> String {
        format!("{}/{}", self.root, self.staging)
    }

    /// The attributes of whatever has a path. A symbolic link is not followed.
    pub(super) async fn found(&mut self, path: &str) -> Result<Option<Attributes>, RemoteError> {
        self.look(Request::lstat(path), path).await
    }

    async fn look(&mut self, request: Request, path: &str) -> Result<Option<Attributes>, RemoteError> {
        match self.session.attributes(request).await {
            Ok(found) => Ok(Some(found)),
            Err(Fault::Status(status)) if self.is_absent(path, &status).await => Ok(None),
            Err(fault) => Err(fault.of("look at", path)),
        }
    }

    /// Whether a status says that nothing has the path. Some servers answer with the general failure; then the list of
    /// its folder tells.
    async fn is_absent(&mut self, path: &str, status: &Status) -> bool {
        status.is_absent() || (status.is_general() && matches!(self.is_listed(path).await, Ok(false)))
    }

    /// Whether the path is in the list of its folder, or may be in the rest of a very long one.
    async fn is_listed(&mut self, path: &str) -> Result<bool, Fault> {
        let (folder, name) = match path.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some(parts) => parts,
            None => (".", path),
        };
        let mut is_there = false;
        let seen = self.each_name(folder, LISTED, |found| is_there |= found == name.as_bytes()).await?;
        Ok(is_there || seen >= LISTED)
    }

    /// Reads the names in a folder, about `most` of them at most. Returns how many there were. The whole list takes no
    /// longer than one question.
    async fn each_name(&mut self, folder: &str, most: usize, take: impl FnMut(&[u8])) -> Result<usize, Fault> {
        let limit = self.session.question_limit();
        match tokio::time::timeout(limit, self.read_names(folder, most, take)).await {
            Ok(read) => read,
            Err(_) => Err(self.session.abandon()),
        }
    }

    async fn read_names(&mut self, folder: &str, most: usize, mut take: impl FnMut(&[u8])) -> Result<usize, Fault> {
        let handle = self.session.open(Request::open_folder(folder)).await?;
        let mut seen = 0;
        while seen < most
            && let Some(names) = self.session.names(&handle).await?
        {
            seen += names.len().max(1);
            names.iter().for_each(|name| take(name));
        }
        self.session.done(Request::close(&handle)).await?;
        Ok(seen)
    }

    /// Whether all of these folders exist, each in the previous one. Anything that is known not to be a folder is
    /// refused, and so is a link.
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

    /// As [`Folder::has`], but makes the missing folders.
    pub(super) async fn make(&mut self, folders: &[ObjectName]) -> Result<(), RemoteError> {
        self.check_root().await?;
        let mut path = self.root.clone();
        for name in folders {
            path = format!("{path}/{}", name.as_str());
            self.make_one(&path, FOLDER_MODE).await?;
        }
        Ok(())
    }

    /// Makes the folder for staging files, unless it exists.
    pub(super) async fn make_staging_folder(&mut self) -> Result<(), RemoteError> {
        self.check_root().await?;
        let made = self.make_one(&self.staging_folder(), STAGING_MODE).await;
        made.map_err(|error| explain_refusal(error, &self.staging))
    }

    /// The staging files, whoever wrote them.
    pub(super) async fn staging_files(&mut self) -> Result<Vec<StagingName>, RemoteError> {
        let path = self.staging_folder();
        if !self.is_folder(&path).await? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let staging_name = |name: &[u8]| -> Option<StagingName> { std::str::from_utf8(name).ok()?.parse().ok() };
        let listed = self.each_name(&path, NAMES, |name| found.extend(staging_name(name))).await;
        listed.map_err(|fault| fault.of("list", &path))?;
        Ok(found)
    }

    /// Removes the staging files of older claims of the same file and of earlier tries of the same claim. Best effort:
    /// the next try does the same.
    pub(super) async fn remove_older(&mut self, next: StagingName) {
        for name in self.staging_files().await.unwrap_or_default() {
            if name.is_older_than(next) {
                let _left_for_the_next = self.remove(&self.staging_path(name)).await;
            }
        }
    }

    /// Removes a file. Harmless if it is gone.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), RemoteError> {
        match self.session.done(Request::remove(path)).await {
            Err(Fault::Status(status)) if self.is_absent(path, &status).await => Ok(()),
            done => done.map_err(|fault| fault.of("remove", path)),
        }
    }

    /// Checks that a path opens as a file, at a server that does not say what has it: no folder does.
    pub(super) async fn check_opens(&mut self, path: &str) -> Result<(), RemoteError> {
        let open = |fault: Fault| fault.of("open the file", path);
        let handle = self.session.open(Request::open(path, READ)).await.map_err(open)?;
        self.session.done(Request::close(&handle)).await.map_err(open)
    }

    /// Hashes a file of `size` bytes and makes it durable if the server can do that; `None` if the file now has another
    /// length.
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

    /// Checks that the configured folder exists. A missing folder may come back: its disk may not be mounted.
    async fn check_root(&mut self) -> Result<(), RemoteError> {
        let path = if self.root.is_empty() { "/".to_owned() } else { self.root.clone() };
        let found = self.look(Request::stat(&path), &path).await?;
        match found.map(Attributes::is_folder) {
            None => {
                Err(RemoteError::Later { detail: format!("{path:?}: expected a folder, found nothing"), after: None })
            }
            Some(Some(false)) => Err(not_a_folder(&path)),
            Some(_) => Ok(()),
        }
    }

    async fn is_folder(&mut self, path: &str) -> Result<bool, RemoteError> {
        match self.found(path).await?.map(Attributes::is_folder) {
            None => Ok(false),
            Some(Some(false)) => Err(not_a_folder(path)),
            Some(_) => Ok(true),
        }
    }

    async fn make_one(&mut self, path: &str, mode: u32) -> Result<(), RemoteError> {
        if self.is_folder(path).await? {
            return Ok(());
        }
        match self.session.done(Request::make_folder(path, mode)).await {
            Ok(()) => Ok(()),
            // Another delivery may have made it first. Servers have no status for that.
            Err(fault @ Fault::Status(_)) if self.is_folder(path).await? => {
                tracing::trace!(path, ?fault, "the folder is there by now");
                Ok(())
            }
            Err(fault) => Err(fault.of("make the folder", path)),
        }
    }
}

fn not_a_folder(path: &str) -> RemoteError {
    RemoteError::Refused(format!("{path:?}: expected a folder, found something else"))
}
