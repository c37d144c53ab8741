//! mongod on loopback, as a replica set of one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::handle;
use crate::home::{free_port, is_free};
use crate::locate::Server;
use crate::replica_set::{self, Founder};
use crate::start::{Running, Start};

/// The smallest cache mongod takes: 0.25 GiB.
pub const MIN_CACHE_MIB: u32 = 256;

/// A new one is up in 0.5 s; after a power cut it first reads its journal.
const START_LIMIT: Duration = Duration::from_secs(120);
/// A server left behind is up already: it answers soon or is stuck.
const ADOPT_LIMIT: Duration = Duration::from_secs(10);
/// mongod steps down and writes a checkpoint of what its cache holds.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// A port found free may be taken before mongod takes it. Five times in a row, something else is wrong.
const PORTS_TO_TRY: usize = 5;
/// mongod's exit status when it cannot listen (`EXIT_NET_ERROR`).
const CANNOT_LISTEN: i32 = 48;
/// What nobody replicates need not be kept; but every chunk goes through it, so it must hold some seconds of the
/// fastest writing for the server to trim it at ease. Without it mongod takes 5 % of the disk, up to 50 GB.
const OPLOG_MIB: u32 = 990;

/// How to run mongod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoOptions {
    /// Where everything of this server is kept; made if need be.
    pub data_dir: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
    /// WiredTiger's cache in MiB, at least [`MIN_CACHE_MIB`]; less is raised to that. mongod itself would take half of
    /// the memory.
    pub cache_mib: u32,
    /// Insist on this port. Else it is the one of the last start on this data directory, if it is free, or any.
    pub port: Option<u16>,
    /// Kill the server when this process dies, even by SIGKILL. For tests.
    pub die_with_parent: bool,
}

impl MongoOptions {
    /// The log in the data directory, any port, and a server that outlives a killed launcher.
    pub fn new(data_dir: impl Into<PathBuf>, cache_mib: u32) -> Self {
        let data_dir = data_dir.into();
        Self { log: data_dir.join("mongod.log"), data_dir, cache_mib, port: None, die_with_parent: false }
    }
}

/// A running mongod. Dropping it kills the server.
#[derive(Debug)]
pub struct Mongo {
    running: Running,
    options: MongoOptions,
}

handle!(Mongo, MongoOptions, STOP_LIMIT);

impl Mongo {
    /// Returns when it is a writable primary.
    pub(crate) fn start_blocking(options: MongoOptions) -> Result<Self, Error> {
        let start = Start::open(Server::Mongo, &options.data_dir, Some(&options.log), options.die_with_parent)?;
        let record = start.home.record()?;
        let settings = settings(&start, &options);
        let mut founder = Founder::new()?;
        let ready = |port, pid| founder.look(port, pid);
        let running = match start.adopt(record.as_ref(), &settings, options.port, ADOPT_LIMIT, ready)? {
            Some(running) => running,
            None => launch_somewhere(&start, &options, &settings, record.and_then(|record| record.port))?,
        };
        Ok(Self { running, options })
    }

    /// Where clients connect: to this server only, whatever its replica set says.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.running.port)
    }
}

/// Starts it at the port asked for, or at the kept one, or at any.
fn launch_somewhere(
    start: &Start,
    options: &MongoOptions,
    settings: &str,
    kept: Option<u16>,
) -> Result<Running, Error> {
    if let Some(port) = options.port {
        return match is_free(port) {
            true => launch(start, options, settings, port),
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
        match launch(start, options, settings, port) {
            Err(Error::Ended { exit, .. })
                if tries < PORTS_TO_TRY && exit.status.and_then(|status| status.code()) == Some(CANNOT_LISTEN) =>
            {
                tracing::info!(port, "another process took the port before mongod; trying another");
            }
            other => return other,
        }
    }
}

fn launch(start: &Start, options: &MongoOptions, settings: &str, port: u16) -> Result<Running, Error> {
    let db = start.home.dir.join("db");
    fs::create_dir_all(&db).map_err(Error::io(format!("could not write {}", db.display())))?;
    let mut command = Command::new(&start.located.path);
    command.arg("--dbpath").arg(&db).args(arguments(options)).args(["--port", &port.to_string()]);
    let mut founder = Founder::new()?;
    let ready = |pid| Ok(founder.look(port, pid)?.map(|()| port));
    start.launch(command, settings, Some(port), START_LIMIT, ready)
}

/// All but the port and the data directory.
fn arguments(options: &MongoOptions) -> Vec<String> {
    let cache_gib = f64::from(options.cache_mib.max(MIN_CACHE_MIB)) / 1024.0;
    [
        "--bind_ip",
        "127.0.0.1",
        // No socket in /tmp, which would outlive a kill and have a name of its own to clash.
        "--nounixsocket",
        "--replSet",
        replica_set::NAME,
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
    format!("{binary}\n{data_dir}\n{}", arguments(options).join(" "))
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
