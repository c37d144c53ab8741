use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use contract::{ObjectName, ObjectPath};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::{Object, RemoteError};
use crate::remote::Precondition;
use crate::remote::body::Body;
use crate::remote::staging_name::StagingName;

/// How many bytes are written between two syncs. This bounds the work of the last sync of a large file.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;

impl Folder {
    /// The staging files, whoever wrote them.
    pub(super) fn staging_files(&self) -> Result<Vec<StagingName>, RemoteError> {
        if !self.has_staging_folder() {
            return Ok(Vec::new());
        }
        let list = |error| self.fault(self.staging.as_str(), "list", error);
        let names = Dir::read_from(self.staging_folder(false)?).map_err(list)?.flatten();
        Ok(names.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect())
    }

    /// Removes the staging files of older claims of the same file and of earlier tries of the same claim. Best effort:
    /// the next try does the same.
    pub(super) fn remove_older(&self, next: StagingName) {
        for found in self.staging_files().unwrap_or_default() {
            if found.is_older_than(next) {
                let _left_for_the_next = self.remove_staging_file(found);
            }
        }
    }

    /// Removes a staging file. Harmless if it is gone.
    pub(super) fn remove_staging_file(&self, name: StagingName) -> Result<(), RemoteError> {
        let name = name.to_string();
        match rustix::fs::unlinkat(self.staging_folder(false)?, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fault(&name, "remove the staging file", error)),
        }
    }
}

/// What happens to a file that has the path already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is a conflict.
    Kept,
    /// It is a conflict if the file system can rename without replacing. If not, it is replaced.
    KeptIfPossible,
    /// It is replaced.
    Replaced,
}

impl Existing {
    pub(super) const fn of(object: &Object) -> Self {
        match (&object.precondition, object.may_replace) {
            (Precondition::Replace(_), _) => Self::Replaced,
            (Precondition::NameIsFree, true) => Self::KeptIfPossible,
            (Precondition::NameIsFree, false) => Self::Kept,
        }
    }
}

/// A complete staging file. It is removed when dropped, unless it was published.
#[derive(Debug)]
pub(super) struct StagingFile {
    folder: Folder,
    staging: OwnedFd,
    name: String,
    published: bool,
}

impl StagingFile {
    /// Writes the whole body, for the folder at the end of `target`, and makes it durable. Blocks until the body has
    /// ended.
    pub(super) fn write(
        folder: Folder,
        target: &[ObjectName],
        name: StagingName,
        mut body: Body,
    ) -> Result<Self, RemoteError> {
        let staging = folder.staging_folder(true)?;
        folder.check_file_system(target, &staging)?;
        folder.remove_older(name);
        let name = name.to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&staging, name.as_str(), flags, Mode::from_raw_mode(0o666));
        let mut file = File::from(opened.map_err(|error| folder.fault(&name, "create the staging file", error))?);
        // From here on the file is removed when this is dropped.
        let written = Self { folder, staging, name, published: false };
        let fault = |error| written.folder.fault(&written.name, "write the staging file", error);
        let mut unsynced = 0;
        while let Some(piece) = body.blocking_next() {
            let piece = piece.map_err(|_| RemoteError::Stopped)?;
            file.write_all(&piece).map_err(fault)?;
            unsynced += piece.len() as u64;
            if unsynced >= SYNC_BYTES {
                file.sync_data().map_err(fault)?;
                unsynced = 0;
            }
        }
        fail::fail_point!("aside-before-sync", |_| std::process::abort());
        file.sync_all().map_err(fault)?;
        Ok(written)
    }

    /// Renames the file to its path, makes the folders of that path as needed, and makes the name durable. Anything
    /// that has the path already is a conflict, unless it is replaced.
    pub(super) fn publish(mut self, path: &ObjectPath, existing: Existing) -> Result<(), RemoteError> {
        let folder = self.folder.make_within(path.folders())?;
        let name = path.name();
        let rename = |how| rustix::fs::renameat_with(&self.staging, self.name.as_str(), &folder.fd, name.as_str(), how);
        let renamed = match existing {
            Existing::Replaced => rename(RenameFlags::empty()),
            Existing::Kept | Existing::KeptIfPossible => rename(RenameFlags::NOREPLACE),
        };
        let renamed = match (renamed, existing) {
            // Not every file system can rename without replacing (NFS, FUSE).
            (Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP), Existing::KeptIfPossible) => {
                rename(RenameFlags::empty())
            }
            (renamed, _) => renamed,
        };
        match renamed {
            Ok(()) => self.published = true,
            Err(Errno::EXIST) if existing != Existing::Replaced => {
                return Err(RemoteError::Conflict(folder.conflict(name)));
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if existing == Existing::Kept => {
                self.link(&folder, name)?;
            }
            // The devices are the same, and still no file can be renamed: a folder of the same file system is mounted
            // there, or it has another quota.
            Err(Errno::XDEV) => return Err(folder.other_file_system()),
            // A folder has the path, and no file replaces a folder.
            Err(error @ Errno::ISDIR) => {
                return Err(RemoteError::Refused(format!("{}, and it is a folder: {error}", folder.conflict(name))));
            }
            Err(error) => return Err(folder.fault(name.as_str(), "rename to", error)),
        }
        folder.sync()?;
        self.folder.sync_folder(&self.staging)
    }

    /// A rename without replacing, in two steps: making a second link never replaces anything, and the first link is
    /// removed when this is dropped.
    fn link(&self, folder: &Folder, target: &ObjectName) -> Result<(), RemoteError> {
        let name = target.as_str();
        match rustix::fs::linkat(&self.staging, self.name.as_str(), &folder.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(RemoteError::Conflict(folder.conflict(target))),
            Err(error @ (Errno::PERM | Errno::NOSYS | Errno::NOTSUP)) => Err(cannot_keep(name, error)),
            // `rclone mount` has no links and calls that an I/O error.
            Err(error @ Errno::IO) if folder.is_fuse() => Err(cannot_keep(name, error)),
            Err(error) => Err(folder.fault(name, "link to", error)),
        }
    }
}

/// The error for a file system that cannot make sure that nothing is replaced.
fn cannot_keep(name: &str, error: Errno) -> RemoteError {
    RemoteError::Refused(format!(
        "cannot deliver {name:?}: the file system can neither rename without replacing nor make a second link ({error}): \
         expected on_clash = \"replace\", or a remote that speaks to the server itself"
    ))
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: garbage collection removes what is left.
            let _ = rustix::fs::unlinkat(&self.staging, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use settings::DirectoryRemote;
    use tokio::sync::mpsc;

    use super::*;

    fn written(root: &std::path::Path, content: &'static [u8]) -> StagingFile {
        let (to, pieces) = mpsc::channel(1);
        to.try_send(content.into()).unwrap();
        drop(to);
        let name = format!("{}.1.0", contract::FileId::generate()).parse().unwrap();
        let folder = Folder::open(&DirectoryRemote::new(root)).unwrap();
        StagingFile::write(folder, &[], name, Body::new(content.len() as u64, pieces)).unwrap()
    }

    /// Tests the fallback for file systems that cannot rename without replacing. Those of our test machines can.
    #[test]
    fn a_second_link_does_not_replace() {
        let root = tempfile::tempdir().unwrap();
        let name = ObjectName::new("x").unwrap();
        let folder = Folder::open(&DirectoryRemote::new(root.path())).unwrap();
        written(root.path(), b"first").link(&folder, &name).unwrap();
        let second = written(root.path(), b"second").link(&folder, &name);
        assert!(matches!(second, Err(RemoteError::Conflict(_))), "{second:?}");
        assert_eq!(fs::read(root.path().join("x")).unwrap(), b"first");
        assert_eq!(fs::read_dir(root.path().join(".waybill")).unwrap().count(), 0);
    }
}
