//! A server's data directory: who has locked it, and which process serves it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::identity::Identity;
use crate::locate::Server;

/// How long an old server may take to end by SIGTERM before it is killed; both keep a journal, so nothing is lost.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to end by SIGKILL: it can hang in the disk's driver.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(10);

/// The mode of a data directory: it holds the data of the server and its secrets.
const OWNER_ONLY: u32 = 0o700;

/// The file with the record of the last start.
const RECORD: &str = "server.json";

/// The content of `server.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) process: Option<Identity>,
    /// `None` while the first start is under way.
    pub(crate) port: Option<u16>,
    /// Everything but the port that the server was started with. Another start that wants the same may adopt it.
    pub(crate) settings: String,
}

/// A data directory, locked for this process.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) server: Server,
    pub(crate) dir: PathBuf,
    /// Held as long as the file is open.
    _lock: File,
}

impl Home {
    /// Makes the directory if need be, for its owner alone, and locks it. The lock goes with the process, however that
    /// ends.
    pub(crate) fn open(server: Server, dir: &Path) -> Result<Self, Error> {
        let failed = || Error::io(format!("could not open the data directory {}", dir.display()));
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(dir).map_err(failed())?;
        // An earlier release made it for everybody to read.
        if fs::metadata(dir).map_err(failed())?.permissions().mode() & 0o777 != OWNER_ONLY {
            fs::set_permissions(dir, fs::Permissions::from_mode(OWNER_ONLY)).map_err(failed())?;
        }
        let dir = dir.canonicalize().map_err(failed())?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("launcher.lock"))
            .map_err(failed())?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { server, dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { data_dir: dir }),
            Err(TryLockError::Error(error)) => Err(failed()(error)),
        }
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    /// Writes a file in the directory, whole or not at all, for its owner alone.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(name);
        let failed = || Error::io(format!("could not write {}", path.display()));
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed())?;
        file.write_all(content).map_err(failed())?;
        file.as_file().sync_all().map_err(failed())?;
        file.persist(&path).map_err(|error| failed()(error.error))?;
        Ok(())
    }

    /// The record of the last start, if there was one. An unreadable record counts as none: it is needed to adopt a
    /// server, not for correctness.
    pub(crate) fn record(&self) -> Result<Option<Record>, Error> {
        let path = self.record_path();
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => Ok(Some(record)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error,
                        "the record of the last start is not readable; starting without it");
                    Ok(None)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("could not read {}", path.display()))(error)),
        }
    }

    /// Writes the record.
    pub(crate) fn keep(&self, record: &Record) -> Result<(), Error> {
        let failed = Error::io(format!("could not write {}", self.record_path().display()));
        let bytes = serde_json::to_vec_pretty(record).map_err(|e| failed(e.into()))?;
        self.write(RECORD, &bytes)
    }

    /// Ends the server an earlier launcher left: SIGTERM, then SIGKILL. Never signals any other process.
    pub(crate) fn end(&self, old: &Identity) -> Result<(), Error> {
        let failed =
            || Error::io(format!("could not end the {} left by an earlier start (process {})", self.server, old.pid));
        // A stopped process would not see SIGTERM.
        old.signal(Signal::CONT).map_err(failed())?;
        old.signal(Signal::TERM).map_err(failed())?;
        if old.wait_gone(END_LIMIT) {
            return Ok(());
        }
        old.signal(Signal::KILL).map_err(failed())?;
        if old.wait_gone(KILL_LIMIT) {
            return Ok(());
        }
        Err(Error::Immortal { server: self.server, pid: old.pid.unsigned_abs(), seconds: KILL_LIMIT.as_secs() })
    }
}

/// Whether a server could listen on this port of 127.0.0.1 right now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port of 127.0.0.1 nobody listens on right now. Another may take it before it is used: retry on a clash.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_launcher() {
        let folder = tempfile::tempdir().unwrap();
        let first = Home::open(Server::Nats, folder.path()).unwrap();
        let second = Home::open(Server::Nats, folder.path());
        assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
        drop(first);
        Home::open(Server::Nats, folder.path()).unwrap();
    }

    #[test]
    fn a_broken_record_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Server::Nats, folder.path()).unwrap();
        assert_eq!(home.record().unwrap(), None);
        let record = Record { process: None, port: Some(4222), settings: "s".into() };
        home.keep(&record).unwrap();
        assert_eq!(home.record().unwrap(), Some(record));
        fs::write(home.record_path(), "{").unwrap();
        assert_eq!(home.record().unwrap(), None);
    }
}
