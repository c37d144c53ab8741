//! mongod on loopback, as a replica set of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::home::{Home, Record, free_port, is_free};
use crate::locate::{Located, Server, locate};
use crate::log;
use crate::process::Process;
use crate::replica_set::{self, Founder};
use crate::{handle, on_thread};

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
    process: Process,
    options: MongoOptions,
    port: u16,
    adopted: bool,
}

handle!(Mongo, MongoOptions, STOP_LIMIT);

impl Mongo {
    /// Finds a mongod and starts it, or adopts the one an earlier launcher left on this data directory if it has the
    /// same settings. Returns when it is a writable primary.
    ///
    /// # Errors
    ///
    /// No server is to be found, the directory is in use, or the server does not start: the error has the end of its
    /// log.
    pub async fn start(options: MongoOptions) -> Result<Self, Error> {
        on_thread("mongod-start", move || Self::start_blocking(options)).await?
    }

    /// [`start`](Self::start), for where there is no runtime.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_blocking(options: MongoOptions) -> Result<Self, Error> {
        let located = locate(Server::Mongo)?;
        let home = Arc::new(Home::open(Server::Mongo, &options.data_dir)?);
        let record = home.record()?;
        let settings = settings(&home.dir, &located, &options);
        if let Some(record) = &record
            && let Some((process, port)) = adopt(&home, record, &settings, &options)?
        {
            tracing::info!(pid = process.pid(), port, "adopted a running mongod");
            return Ok(Self { process, options, port, adopted: true });
        }

        let kept = record.and_then(|record| record.port);
        let (process, port) = launch_somewhere(&home, &located, &options, &settings, kept)?;
        tracing::info!(pid = process.pid(), port, version = located.version, "started mongod");
        Ok(Self { process, options, port, adopted: false })
    }

    /// Where clients connect: to this server only, whatever its replica set says.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }
}

fn adopt(
    home: &Arc<Home>,
    record: &Record,
    settings: &str,
    options: &MongoOptions,
) -> Result<Option<(Process, u16)>, Error> {
    let Some(old) = record.process.as_ref().filter(|old| old.runs()) else {
        return Ok(None);
    };
    if let Some(port) = record.port
        && record.settings == settings
        && options.port.is_none_or(|wanted| wanted == port)
    {
        let process = Process::adopt(home, old, options.die_with_parent)?;
        let mut founder = Founder::new(port, process.pid());
        match process.wait_ready((&options.log, 0), ADOPT_LIMIT, || founder.look()) {
            Ok(()) => return Ok(Some((process, port))),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the mongod left by an earlier start is of no use; ending it"
                );
                process.leave();
            }
        }
    }
    home.end(old)?;
    Ok(None)
}

/// Starts it at the port asked for, or at the kept one, or at any.
fn launch_somewhere(
    home: &Arc<Home>,
    located: &Located,
    options: &MongoOptions,
    settings: &str,
    kept: Option<u16>,
) -> Result<(Process, u16), Error> {
    let start = |port| launch(home, located, options, settings, port).map(|process| (process, port));
    if let Some(port) = options.port {
        return if is_free(port) { start(port) } else { Err(Error::PortTaken { server: Server::Mongo, port }) };
    }
    let mut next = kept.filter(|port| is_free(*port));
    let mut tries = 0;
    loop {
        let port = match next.take() {
            Some(port) => port,
            None => free_port().map_err(Error::io("could not find a free port on 127.0.0.1"))?,
        };
        tries += 1;
        match start(port) {
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
    home: &Arc<Home>,
    located: &Located,
    options: &MongoOptions,
    settings: &str,
    port: u16,
) -> Result<Process, Error> {
    let failed = |what: &Path| Error::io(format!("could not write {}", what.display()));
    let db = home.dir.join("db");
    fs::create_dir_all(&db).map_err(failed(&db))?;
    let (log, from) = log::open(&options.log).map_err(failed(&options.log))?;
    let mut command = Command::new(&located.path);
    command.arg("--dbpath").arg(&db).args(arguments(options)).args(["--port", &port.to_string()]);
    let process = Process::spawn(home, command, log, options.die_with_parent)?;
    let mut record = Record { process: process.identity(), port: Some(port), settings: settings.to_owned() };
    // At once, for a launcher that is killed before the server is ready.
    home.keep(&record)?;
    let mut founder = Founder::new(port, process.pid());
    process.wait_ready((&options.log, from), START_LIMIT, || founder.look())?;
    record.process = process.identity();
    home.keep(&record)?;
    Ok(process)
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

fn settings(data_dir: &Path, located: &Located, options: &MongoOptions) -> String {
    format!("{}\n{}\n{}", located.path.display(), data_dir.display(), arguments(options).join(" "))
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
