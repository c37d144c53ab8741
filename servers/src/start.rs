//! How a server comes to run: adopted from an earlier launcher, or started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::home::{Home, Record};
use crate::locate::{Located, Server, locate};
use crate::log;
use crate::process::Process;
use crate::ready::Progress;

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// Whether an earlier launcher started it.
    pub(crate) adopted: bool,
}

/// A server that is about to run, with its data directory locked.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) home: Arc<Home>,
    pub(crate) located: Located,
    /// Where the server's output is appended.
    pub(crate) log: PathBuf,
    pub(crate) die_with_parent: bool,
}

impl Start {
    /// Finds the server and locks its data directory. Without a `log`, the output goes to a file in that directory.
    pub(crate) fn open(
        server: Server,
        data_dir: &Path,
        log: Option<&Path>,
        die_with_parent: bool,
    ) -> Result<Self, Error> {
        let located = locate(server)?;
        let home = Arc::new(Home::open(server, data_dir)?);
        let log = log.map_or_else(|| home.dir.join(format!("{server}.log")), ToOwned::to_owned);
        Ok(Self { home, located, log, die_with_parent })
    }

    /// Adopts the server that an earlier launcher left, if it has these settings, serves at the wanted port (any, without
    /// one) and is ready within `limit`. Else ends it. `ready` gets its port and its process id.
    pub(crate) fn adopt(
        &self,
        record: Option<&Record>,
        settings: &str,
        wanted: Option<u16>,
        limit: Duration,
        mut ready: impl FnMut(u16, u32) -> Result<Progress<()>, Error>,
    ) -> Result<Option<Running>, Error> {
        let server = self.home.server;
        let Some((record, old)) = record.and_then(|record| Some((record, record.process.as_ref()?))) else {
            return Ok(None);
        };
        if !old.runs() {
            return Ok(None);
        }
        if let Some(port) = record.port
            && record.settings == settings
            && wanted.is_none_or(|wanted| wanted == port)
        {
            let process = Process::adopt(&self.home, old, self.die_with_parent)?;
            match process.wait_ready((&self.log, 0), limit, || ready(port, process.pid())) {
                Ok(()) => {
                    tracing::info!(pid = process.pid(), port, "adopted a running {server}");
                    return Ok(Some(Running { process, port, adopted: true }));
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the {server} left by an earlier start is of no use; ending it"
                    );
                    process.leave();
                }
            }
        }
        self.home.end(old)?;
        Ok(None)
    }

    /// Runs `command` and waits until `ready`, which gets its process id, tells its port. `port` is recorded until then.
    pub(crate) fn launch(
        &self,
        command: Command,
        settings: &str,
        port: Option<u16>,
        limit: Duration,
        mut ready: impl FnMut(u32) -> Result<Progress<u16>, Error>,
    ) -> Result<Running, Error> {
        let (log, from) = log::open(&self.log).map_err(Error::io(format!("could not write {}", self.log.display())))?;
        let process = Process::spawn(&self.home, command, log, self.die_with_parent)?;
        let mut record = Record { process: process.identity(), port, settings: settings.to_owned() };
        // At once, for a launcher that is killed before the server is ready.
        self.home.keep(&record)?;
        let port = process.wait_ready((&self.log, from), limit, || ready(process.pid()))?;
        record.process = process.identity();
        record.port = Some(port);
        self.home.keep(&record)?;
        let server = self.home.server;
        tracing::info!(pid = process.pid(), port, version = self.located.version, "started {server}");
        Ok(Running { process, port, adopted: false })
    }
}
