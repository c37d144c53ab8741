use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use contract::{ObjectName, ObjectPath};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::RemoteError;
use super::folder::Folder;
use crate::remote::aside_name::{ASIDE, AsideName};
use crate::remote::body::Body;

/// Written bytes are synced this often, so that the last sync of a large file has a bounded amount to do.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;

impl Folder {
    /// What lies aside, whoever wrote it.
    pub(super) fn leftovers(&self) -> Result<Vec<AsideName>, RemoteError> {
        if !self.has_asides() {
            return Ok(Vec::new());
        }
        let list = |error| self.fault(ASIDE, "list", error);
        let names = Dir::read_from(self.asides(false)?).map_err(list)?.flatten();
        Ok(names.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect())
    }

    /// Removes what older claims of the same file left, and earlier tries of the same claim. Best effort: the next one tries again.
    pub(super) fn remove_older(&self, next: AsideName) {
        for found in self.leftovers().unwrap_or_default() {
            if found.is_older_than(next) {
                let _left_for_the_next = self.discard(found);
            }
        }
    }

    /// Removes what lies aside under this name.
    pub(super) fn discard(&self, name: AsideName) -> Result<(), RemoteError> {
        let name = name.to_string();
        match rustix::fs::unlinkat(self.asides(false)?, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fault(&name, "remove aside", error)),
        }
    }
}

/// A file written aside. It is removed when dropped, unless it was placed.
#[derive(Debug)]
pub(super) struct Aside {
    folder: Folder,
    asides: OwnedFd,
    name: String,
    placed: bool,
}

impl Aside {
    /// Writes the whole body and makes it durable. Blocks for as long as the body takes to come.
    pub(super) fn write(folder: Folder, name: AsideName, mut body: Body) -> Result<Self, RemoteError> {
        let asides = folder.asides(true)?;
        folder.remove_older(name);
        let name = name.to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&asides, name.as_str(), flags, Mode::from_raw_mode(0o666));
        let mut file = File::from(opened.map_err(|error| folder.fault(&name, "make aside", error))?);
        // From here on the file is ours to remove.
        let aside = Self { folder, asides, name, placed: false };
        let fault = |error| aside.folder.fault(&aside.name, "write aside", error);
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
        Ok(aside)
    }

    /// Gives the file its final name, in folders that are made as needed, and makes the name durable. What has that name
    /// already is a clash, unless it may be replaced.
    pub(super) fn place(mut self, object: &ObjectPath, replace: bool) -> Result<(), RemoteError> {
        let folder = self.folder.make_within(object.folders())?;
        let name = object.name();
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match rustix::fs::renameat_with(&self.asides, self.name.as_str(), &folder.fd, name.as_str(), flags) {
            Ok(()) => self.placed = true,
            Err(Errno::EXIST) if !replace => return Err(RemoteError::Clash(folder.clash(name))),
            // Not every file system can (NFS, FUSE).
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !replace => self.link(&folder, name)?,
            // A folder is in the place of the file, and no file replaces it.
            Err(error @ Errno::ISDIR) => {
                return Err(RemoteError::Refused(format!("{}, and it is a folder: {error}", folder.clash(name))));
            }
            Err(error) => return Err(folder.fault(name.as_str(), "rename to", error)),
        }
        folder.sync()?;
        self.folder.sync_folder(&self.asides)
    }

    /// As a rename that does not replace, in two steps: a second link never replaces. The first goes when this is dropped.
    fn link(&self, folder: &Folder, object: &ObjectName) -> Result<(), RemoteError> {
        let name = object.as_str();
        match rustix::fs::linkat(&self.asides, self.name.as_str(), &folder.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(RemoteError::Clash(folder.clash(object))),
            Err(error @ (Errno::PERM | Errno::NOSYS | Errno::NOTSUP)) => {
                let why = "the file system can neither rename without replacing nor make a second link";
                Err(RemoteError::Refused(format!("cannot deliver {name:?}: {why}: {error}")))
            }
            Err(error) => Err(folder.fault(name, "link to", error)),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.placed {
            // Best effort: the next claim removes it.
            let _ = rustix::fs::unlinkat(&self.asides, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;

    use super::*;

    fn written(root: &std::path::Path, content: &'static [u8]) -> Aside {
        let (to, pieces) = mpsc::channel(1);
        to.try_send(content.into()).unwrap();
        drop(to);
        let name = format!("{}.1.0", contract::FileId::generate()).parse().unwrap();
        Aside::write(Folder::open(root).unwrap(), name, Body::new(content.len() as u64, pieces)).unwrap()
    }

    /// What file systems get that cannot rename without replacing; those of the machines we test on can.
    #[test]
    fn a_second_link_does_not_replace() {
        let root = tempfile::tempdir().unwrap();
        let object = ObjectName::new("x").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        written(root.path(), b"first").link(&folder, &object).unwrap();
        let second = written(root.path(), b"second").link(&folder, &object);
        assert!(matches!(second, Err(RemoteError::Clash(_))), "{second:?}");
        assert_eq!(fs::read(root.path().join("x")).unwrap(), b"first");
        assert_eq!(fs::read_dir(root.path().join(".waybill")).unwrap().count(), 0);
    }
}
