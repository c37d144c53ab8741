//! mongod on loopback, as a replica set of one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::handle;
use crate::home::{free_port, is_free};
use crate::locate::Server;
use crate::replica_set::{self, Founder, Login};
use crate::secret::{KEY_FILE, USER};
use crate::start::{Running, Start};

/// The smallest cache mongod takes: 0.25 GiB.
pub const MIN_CACHE_MIB: u32 = 256;

/// A new one is up in 0.5 s; after a power cut it first reads its journal.
const START_LIMIT: Duration = Duration::from_secs(120);
/// A server left behind is up already: it answers soon or is stuck.
const ADOPT_LIMIT: Duration = Duration::from_secs(10);
/// mongod steps down and writes a checkpoint of its cache.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Another process may take a free port before mongod does. If that happens five times in a row, something else is
/// wrong.
const PORTS_TO_TRY: usize = 5;
/// mongod's exit status when it cannot listen (`EXIT_NET_ERROR`).
const CANNOT_LISTEN: i32 = 48;
/// Nobody replicates from the oplog, so it need not keep much. But every chunk goes through it, so it must hold some
/// seconds of the fastest writing for mongod to trim it at ease. By default mongod takes 5 % of the disk, up to 50 GB.
const OPLOG_MIB: u32 = 990;

/// How to run mongod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoOptions {
    /// The folder with everything of this server; made if need be.
    pub data_dir: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
    /// WiredTiger's cache in MiB, at least [`MIN_CACHE_MIB`]; less is raised to that. By default mongod would take half
    /// of the memory.
    pub cache_mib: u32,
    /// Insist on this port. Without it, the server takes the port of the last start on this data directory if that is
    /// free, or else any.
    pub port: Option<u16>,
    /// Whether clients must log in, with a password that is made at the first start. Without it, the server serves
    /// every process on this machine: enough for tests.
    pub login: bool,
    /// Kill the server when this process dies, even by SIGKILL. For tests.
    pub die_with_parent: bool,
}

impl MongoOptions {
    /// The log in the data directory, any port, no login, and a server that outlives a killed launcher.
    pub fn new(data_dir: impl Into<PathBuf>, cache_mib: u32) -> Self {
        let data_dir = data_dir.into();
        let log = data_dir.join("mongod.log");
        Self { log, data_dir, cache_mib, port: None, login: false, die_with_parent: false }
    }
}

/// A running mongod. Dropping it kills the server.
#[derive(Debug)]
pub struct Mongo {
    running: Running,
    options: MongoOptions,
    login: Option<Login>,
}

handle!(Mongo, MongoOptions, STOP_LIMIT);

impl Mongo {
    /// Returns when it is a writable primary.
    pub(crate) fn start_blocking(options: MongoOptions) -> Result<Self, Error> {
        let start = Start::open(Server::Mongo, &options.data_dir, Some(&options.log), options.die_with_parent)?;
        let record = start.home.record()?;
        let login = options.login.then(|| Login::kept(&start.home)).transpose()?;
        let settings = settings(&start, &options);
        let mut founder = Founder::new(login.clone())?;
        let ready = |port, pid| founder.look(port, pid);
        let running = match start.adopt(record.as_ref(), &settings, options.port, ADOPT_LIMIT, ready)? {
            Some(running) => running,
            None => {
                let kept = record.and_then(|record| record.port);
                launch_somewhere(options.port, kept, |port| launch(&start, &options, &settings, &login, port))?
            }
        };
        Ok(Self { running, options, login })
    }

    /// Where clients connect: to this server only, whatever its replica set says. With the user and the password if
    /// they must log in.
    pub fn uri(&self) -> String {
        let login =
            self.login.as_ref().map_or_else(String::new, |login| format!("{USER}:{}@", login.password.expose()));
        format!("mongodb://{login}127.0.0.1:{}/?directConnection=true", self.running.port)
    }
}

/// Starts it at the port that was asked for, at that of the last start, or at any.
fn launch_somewhere(
    wanted: Option<u16>,
    kept: Option<u16>,
    launch: impl Fn(u16) -> Result<Running, Error>,
) -> Result<Running, Error> {
    if let Some(port) = wanted {
        return match is_free(port) {
            true => launch(port),
            false => Err(Error::PortTaken { server: Server::Mongo, port }),
        };
    }
    let mut next = kept.filter(|port| is_free(*port));
    let mut tries = 0;
    loop {
        let port = match next.take() {
            Some(port) => port,
            None => free_port().map_err(Error::io("could not find a free port on 127.0.0.1"))?,
        };
        tries += 1;
        match launch(port) {
            Err(Error::Ended { exit, .. })
                if tries < PORTS_TO_TRY && exit.status.and_then(|status| status.code()) == Some(CANNOT_LISTEN) =>
            {
                tracing::info!(port, "another process took the port before mongod; trying another");
            }
            other => return other,
        }
    }
}

fn launch(
    start: &Start,
    options: &MongoOptions,
    settings: &str,
    login: &Option<Login>,
    port: u16,
) -> Result<Running, Error> {
    let db = start.home.dir.join("db");
    fs::create_dir_all(&db).map_err(Error::io(format!("could not write {}", db.display())))?;
    let mut command = Command::new(&start.located.path);
    command.arg("--dbpath").arg(&db).args(arguments(options)).args(["--port", &port.to_string()]);
    if options.login {
        // With a key file, mongod asks everybody to log in. Nobody may be the first to make a user without that.
        let key_file = start.home.dir.join(KEY_FILE);
        command.arg("--keyFile").arg(key_file).args(["--setParameter", "enableLocalhostAuthBypass=0"]);
    }
    let mut founder = Founder::new(login.clone())?;
    let ready = |pid| Ok(founder.look(port, pid)?.map(|()| port));
    start.launch(command, settings, Some(port), START_LIMIT, ready)
}

/// All arguments but the port and the data directory.
fn arguments(options: &MongoOptions) -> Vec<String> {
    let cache_gib = f64::from(options.cache_mib.max(MIN_CACHE_MIB)) / 1024.0;
    [
        "--bind_ip",
        "127.0.0.1",
        // No socket in /tmp: it would outlive a kill, and its name could clash.
        "--nounixsocket",
        "--replSet",
        replica_set::NAME,
        // On loopback it saves nothing, and the decompression of zlib in old releases shows memory to anybody who
        // connects (CVE-2025-14847).
        "--networkMessageCompressors",
        "disabled",
        "--oplogSize",
        &OPLOG_MIB.to_string(),
        "--wiredTigerCacheSizeGB",
        &cache_gib.to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn settings(start: &Start, options: &MongoOptions) -> String {
    let (binary, data_dir) = (start.located.path.display(), start.home.dir.display());
    format!("{binary}\n{data_dir}\n{}\nlogin: {}", arguments(options).join(" "), options.login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_given_in_gib_and_never_below_what_mongod_takes() {
        let cache = |mib| arguments(&MongoOptions::new("/data", mib)).pop().unwrap();
        assert_eq!(cache(1), "0.25");
        assert_eq!(cache(256), "0.25");
        assert_eq!(cache(1536), "1.5");
    }
}
