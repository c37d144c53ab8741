//! Remotes that others wrote, on loopback: for tests and for the demonstration.

pub(crate) mod nginx;
pub(crate) mod seaweed;
pub(crate) mod sshd;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::home::free_port;
use crate::locate::Server;
use crate::ready::Progress;
use crate::start::{Running, Start};

/// Ports are chosen before a server takes them, and others may be faster.
const TRIES: u32 = 5;

/// Finds a peer and locks its data directory. What an earlier start left there is ended: a peer is never adopted.
fn open(server: Server, data_dir: &Path, die_with_parent: bool) -> Result<Start, Error> {
    let start = Start::open(server, data_dir, None, die_with_parent)?;
    if let Some(old) = start.home.record()?.and_then(|record| record.process) {
        start.home.end(&old)?;
    }
    Ok(start)
}

/// Runs the command made for `N` free ports until it serves at the first of them.
fn launch<const N: usize>(
    start: &Start,
    limit: Duration,
    command: impl Fn(&[u16; N]) -> io::Result<Command>,
    ready: impl Fn(&[u16; N], u32) -> Progress<()>,
) -> Result<(Running, [u16; N]), Error> {
    let failed = || Error::io(format!("could not make ready {}", start.home.dir.display()));
    let mut tries = 1;
    loop {
        let mut ports = [0; N];
        for port in &mut ports {
            *port = free_port().map_err(failed())?;
        }
        let command = command(&ports).map_err(failed())?;
        let ready = |pid| Ok(ready(&ports, pid).map(|()| ports[0]));
        match start.launch(command, "", None, limit, ready) {
            Err(Error::Ended { .. }) if tries < TRIES => tries += 1,
            running => return Ok((running?, ports)),
        }
    }
}
