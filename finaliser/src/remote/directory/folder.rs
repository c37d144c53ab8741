use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use contract::{Digest, Hasher, ObjectName};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use settings::DirectoryRemote as Settings;
use tokio_util::sync::CancellationToken;

use super::RemoteError;
use crate::remote::staging_name::explain_refusal;

/// Bytes of a file that one read takes for the hash.
const READ_BYTES: usize = 1024 * 1024;

/// What `statfs` says about a file system of FUSE.
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// A folder, held open for one operation: names in it are resolved relative to the open folder, whatever is mounted or
/// renamed meanwhile.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) fd: OwnedFd,
    /// The name of the folder for staging files, in the folder of the remote.
    pub(super) staging: ObjectName,
}

/// What a name in the folder refers to.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Something other than a file of the expected length, in words.
    Other(String),
    /// A file of the expected length, and its SHA-256.
    Hashed(File, Digest),
}

impl Folder {
    /// Opens the folder. A missing folder may come back: its share may not be mounted.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = &settings.path;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| fault(path, "open the folder", error))?;
        Ok(Self { path: path.clone(), fd, staging: settings.staging_folder.clone() })
    }

    /// The folder at the end of `names`; `None` if one of them is missing. Symbolic links are never followed.
    pub(super) fn within(&self, names: &[ObjectName]) -> Result<Option<Self>, RemoteError> {
        let mut folder = self.reopened()?;
        for name in names {
            folder = match folder.inner(name)? {
                Some(inner) => inner,
                None => return Ok(None),
            };
        }
        Ok(Some(folder))
    }

    /// Refuses if a file could not be renamed from the staging folder to the folder at the end of `names`, because
    /// another file system is mounted there. Folders that are missing will be made on the file system of those before
    /// them.
    pub(super) fn check_file_system(&self, names: &[ObjectName], staging: &OwnedFd) -> Result<(), RemoteError> {
        let mut folder = self.reopened()?;
        for name in names {
            match folder.inner(name)? {
                Some(inner) => folder = inner,
                None => break,
            }
        }
        let device =
            |fd| rustix::fs::fstat(fd).map(|found| found.st_dev).map_err(|error| self.fault("", "look at", error));
        if device(&folder.fd)? == device(staging)? { Ok(()) } else { Err(folder.other_file_system()) }
    }

    /// As [`Folder::within`], but durably makes the missing folders.
    pub(super) fn make_within(&self, names: &[ObjectName]) -> Result<Self, RemoteError> {
        let mut folder = self.reopened()?;
        for name in names {
            folder = match folder.inner(name)? {
                Some(inner) => inner,
                None => folder.make(name)?,
            };
        }
        Ok(folder)
    }

    fn make(&self, name: &ObjectName) -> Result<Self, RemoteError> {
        let missing = || self.fault(name.as_str(), "make the folder", Errno::NOENT);
        match rustix::fs::mkdirat(&self.fd, name.as_str(), Mode::from_raw_mode(0o777)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.fault(name.as_str(), "make the folder", error)),
        }
        self.inner(name)?.ok_or_else(missing)
    }

    fn reopened(&self) -> Result<Self, RemoteError> {
        let fd = self.fd.try_clone().map_err(|error| fault(&self.path, "open the folder", error))?;
        Ok(Self { path: self.path.clone(), fd, staging: self.staging.clone() })
    }

    fn inner(&self, name: &ObjectName) -> Result<Option<Self>, RemoteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path.join(name.as_str());
        match rustix::fs::openat(&self.fd, name.as_str(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { path, fd, staging: self.staging.clone() })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                Err(RemoteError::Refused(format!("{path:?}: expected a folder, found something else")))
            }
            Err(error) => Err(self.fault(name.as_str(), "open the folder", error)),
        }
    }

    /// The folder for staging files, which is made if `create`.
    pub(super) fn staging_folder(&self, create: bool) -> Result<OwnedFd, RemoteError> {
        let name = self.staging.as_str();
        if create {
            match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(explain_refusal(self.fault(name, "make the folder", error), &self.staging));
                }
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => Err(RemoteError::Refused(format!(
                "{:?}: expected a folder, found something else",
                self.path.join(name)
            ))),
            opened => opened.map_err(|error| self.fault(name, "open the folder", error)),
        }
    }

    /// Whether there is a folder for staging files.
    pub(super) fn has_staging_folder(&self) -> bool {
        rustix::fs::statat(&self.fd, self.staging.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether anything has that name.
    pub(super) fn has(&self, name: &ObjectName) -> Result<bool, RemoteError> {
        match rustix::fs::statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.fault(name.as_str(), "look at", error)),
        }
    }

    /// Hashes the file of that name if it has `size` bytes.
    pub(super) fn read(&self, name: &ObjectName, size: u64, stop: &CancellationToken) -> Result<Found, RemoteError> {
        let name = name.as_str();
        // The file type is checked before opening: opening a device or a pipe has effects.
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(self.fault(name, "look at", error)),
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => {}
                kind => return Ok(Found::Other(format!("not a file: {kind:?}"))),
            },
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(self.fault(name, "open", error)),
        };
        let found = file.metadata().map_err(|error| self.fault(name, "look at", error))?;
        if !found.is_file() || found.len() != size {
            return Ok(Found::Other(format!("{} bytes", found.len())));
        }
        let hash = self.hash(name, &mut file, stop)?;
        Ok(Found::Hashed(file, hash))
    }

    fn hash(&self, name: &str, file: &mut File, stop: &CancellationToken) -> Result<Digest, RemoteError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if stop.is_cancelled() {
                return Err(RemoteError::Stopped);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(name, "read", error)),
            }
        }
    }

    /// Makes a file's content and name survive a power cut.
    pub(super) fn make_durable(&self, file: &File) -> Result<(), RemoteError> {
        file.sync_all().map_err(|error| fault(&self.path, "sync a file in", error))?;
        self.sync()
    }

    /// Makes the folder's names survive a power cut.
    pub(super) fn sync(&self) -> Result<(), RemoteError> {
        self.sync_folder(&self.fd)
    }

    /// As [`Folder::sync`], for a folder in it.
    pub(super) fn sync_folder(&self, fd: &OwnedFd) -> Result<(), RemoteError> {
        match rustix::fs::fsync(fd) {
            // The file system cannot sync folders, so nothing more can be done.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(fault(&self.path, "sync", error)),
        }
    }

    /// The error for a folder on another file system than that of the staging folder.
    pub(super) fn other_file_system(&self) -> RemoteError {
        RemoteError::Refused(format!(
            "{:?} is on another file system than {:?}, the folder for staging files, so that no file can be renamed \
             there: expected a remote of its own for it",
            self.path,
            self.staging.as_str()
        ))
    }

    /// Whether the folder is on a file system of FUSE, such as `rclone mount`.
    pub(super) fn is_fuse(&self) -> bool {
        rustix::fs::fstatfs(&self.fd).is_ok_and(|found| found.f_type == FUSE)
    }

    /// A conflict in words.
    pub(super) fn conflict(&self, name: &ObjectName) -> String {
        format!("{:?}: something has that name already", self.path.join(name.as_str()))
    }

    /// The error for a failure in `doing` something with `name`.
    pub(super) fn fault(&self, name: &str, doing: &str, error: impl Into<io::Error>) -> RemoteError {
        fault(&self.path.join(name), doing, error)
    }
}

fn fault(path: &Path, doing: &str, error: impl Into<io::Error>) -> RemoteError {
    let error = error.into();
    let detail = format!("cannot {doing} {path:?}: {error}");
    match Errno::from_io_error(&error) {
        // These last until somebody changes a setting or a permission. All others (full, quota, stale handle, not
        // mounted, I/O error) may pass.
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NAMETOOLONG | Errno::INVAL | Errno::FBIG) => {
            RemoteError::Refused(detail)
        }
        _ => RemoteError::Later { detail, after: None },
    }
}
