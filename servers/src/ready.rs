//! Waiting for a server that starts.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::log;
use crate::process::Process;

/// How often a server that starts is looked at: starts are counted in hundreds of milliseconds.
const START_POLL: Duration = Duration::from_millis(5);

/// What a look at a starting server found.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    Ready(T),
    /// What is still missing.
    NotYet(String),
}

impl<T> Progress<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::Ready(value) => Progress::Ready(change(value)),
            Self::NotYet(why) => Progress::NotYet(why),
        }
    }
}

impl Process {
    /// Calls `check` until it is ready, the process has ended, or the time is over. Blocking.
    #[expect(clippy::disallowed_methods, reason = "blocking, as documented")]
    pub(crate) fn wait_ready<T>(
        &self,
        (log, from): (&Path, u64),
        limit: Duration,
        mut check: impl FnMut() -> Result<Progress<T>, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let waiting_for = match check()? {
                Progress::Ready(value) => return Ok(value),
                Progress::NotYet(why) => why,
            };
            if let Some(exit) = self.try_wait() {
                return Err(Error::Ended {
                    server: self.server,
                    exit,
                    log: log.to_owned(),
                    tail: log::tail(log, from),
                });
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady {
                    server: self.server,
                    seconds: limit.as_secs(),
                    waiting_for,
                    log: log.to_owned(),
                    tail: log::tail(log, from),
                });
            }
            thread::sleep(START_POLL);
        }
    }
}
