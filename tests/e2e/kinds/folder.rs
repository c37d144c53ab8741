//! `directory`: a folder on a file system of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::Digest;
use harness::run::SmallDisk;
use tempfile::TempDir;
use testing::hashed;

use super::place::{Place, Trouble};

/// A folder that can be full or read only, if it has a disk of its own.
pub(crate) struct Folder {
    // Dropped before the folder that it is mounted at.
    disk: Option<SmallDisk>,
    folder: TempDir,
}

impl Folder {
    pub(crate) fn without_disk() -> Self {
        Self { disk: None, folder: tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap() }
    }

    /// `None`, with a message, where no file system can be mounted; panics in CI, which skips no test.
    pub(crate) fn mount(mib: u32) -> Option<Self> {
        let place = Self::without_disk();
        match SmallDisk::mount(place.path(), mib) {
            Ok(disk) => Some(Self { disk: Some(disk), ..place }),
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("NOT TESTED on this machine: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills the disk until at most `free` bytes are free.
    pub(crate) fn fill_but(&self, free: u64) -> Result<(), &'static str> {
        let disk = self.disk.as_ref().ok_or("it has no disk of its own")?;
        disk.fill_but(free).unwrap();
        Ok(())
    }

    /// The staged files.
    pub(crate) fn aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join(".waybill")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Place for Folder {
    fn server(&self) -> Option<SocketAddr> {
        None
    }

    fn section(&self, _address: Option<SocketAddr>) -> String {
        format!("kind = \"directory\"\npath = {:?}\n", self.path())
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        std::fs::File::open(self.path().join(name)).ok().map(hashed)
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn asides(&self) -> usize {
        self.aside().len()
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        let disk = self.disk.as_ref().ok_or("it has no disk of its own")?;
        match (trouble, on) {
            (Trouble::Full, true) => disk.fill().unwrap(),
            (Trouble::Full, false) => disk.clear(),
            (Trouble::Closed, _) => disk.read_only(on),
            (Trouble::Expired, _) => return Err("a folder asks for no credentials"),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
