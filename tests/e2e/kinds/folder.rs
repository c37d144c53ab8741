//! `directory`: a folder on a file system of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::{Digest, Hasher};
use harness::run::SmallDisk;
use tempfile::TempDir;

use super::place::{Place, Trouble};

/// A folder that can be full and that can be closed.
pub(crate) struct Folder {
    disk: SmallDisk,
    folder: TempDir,
}

impl Folder {
    /// `None`, said aloud, where no file system can be mounted; an error where tests must not be left out.
    pub(crate) fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap();
        match SmallDisk::mount(folder.path(), mib) {
            Ok(disk) => Some(Self { disk, folder }),
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("NOT TESTED on this machine: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn fill(&self, on: bool) {
        match on {
            true => self.disk.fill().unwrap(),
            false => self.disk.clear(),
        }
    }
}

/// Size and hash of a file; `None` if there is none.
pub(crate) fn hashed(path: &Path) -> Option<(u64, Digest)> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut hasher = HashingWriter(Hasher::new());
    let size = std::io::copy(&mut file, &mut hasher).unwrap();
    Some((size, hasher.0.finish()))
}

struct HashingWriter(Hasher);

impl std::io::Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many files lie in `.waybill/` of a folder.
pub(crate) fn asides(folder: &Path) -> usize {
    std::fs::read_dir(folder.join(".waybill")).map_or(0, Iterator::count)
}

impl Place for Folder {
    fn server(&self) -> Option<SocketAddr> {
        None
    }

    fn section(&self, _address: Option<SocketAddr>) -> String {
        format!("kind = \"directory\"\npath = {:?}\n", self.path())
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        hashed(&self.path().join(name))
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn asides(&self) -> usize {
        asides(&self.path())
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match trouble {
            Trouble::Full => self.fill(on),
            Trouble::Closed => self.disk.read_only(on),
            Trouble::Expired => return Err("a folder asks for no credentials"),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
