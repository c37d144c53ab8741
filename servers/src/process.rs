//! A running server process: signals, its end, and what must be cleaned up then.

use std::fmt::{self, Display};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::sync::watch;

use crate::error::Error;
use crate::guardian::Guardian;
use crate::home::{Home, KILL_LIMIT};
use crate::identity::{self, Identity};
use crate::locate::Server;

/// How often an adopted server is checked: the kernel notifies only the parent of a process of its end.
const ADOPTED_POLL: Duration = Duration::from_millis(50);

/// A stop takes effect within microseconds, unless a thread waits for the disk.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// `None` for an adopted server: only the parent of a process learns this.
    pub status: Option<ExitStatus>,
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("exit status unknown, as it was adopted"),
        }
    }
}

/// A server process, started or adopted. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) server: Server,
    pid: Pid,
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<Exit>>,
}

/// What the handle and the thread that awaits the end share.
#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug)]
struct Held {
    exit: Option<Exit>,
    /// For an adopted process: signals are sent only after checking again which process has the pid.
    adopted: Option<Identity>,
    /// The data directory is ours until the process has ended, or is left.
    home: Option<Arc<Home>>,
    guardian: Option<Guardian>,
    left: bool,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing between two writes to it can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, mut held: MutexGuard<'_, Held>, exit: Exit, tell: &watch::Sender<Option<Exit>>) {
        held.exit = Some(exit);
        held.guardian = None;
        held.home = None;
        drop(held);
        self.changed.notify_all();
        tell.send_replace(Some(exit));
    }
}

impl Process {
    /// Starts the command with its output going to `log`, in a process group of its own: a Ctrl-C in the terminal is
    /// for the launcher, which stops the services first and the servers last.
    pub(crate) fn spawn(
        home: &Arc<Home>,
        mut command: Command,
        log: std::fs::File,
        die_with_parent: bool,
    ) -> Result<Self, Error> {
        let server = home.server;
        let failed = || Error::io(format!("could not start {server}"));
        let stderr = log.try_clone().map_err(failed())?;
        let mut child = command
            .current_dir(&home.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        let pid = Pid::from_child(&child);
        let guarded = guard(pid, die_with_parent);
        if guarded.is_err() {
            // Nobody else knows of the child yet. Neither fails for a child that was not waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
        let held = Held {
            exit: None,
            adopted: None,
            home: Some(Arc::clone(home)),
            guardian: guarded.map_err(failed())?,
            left: false,
        };
        Self::watch(server, pid, held, move |shared, tell| {
            reap(&shared, pid, &mut child, &tell);
        })
        .inspect_err(|_| {
            // No thread, so the child was not reaped and its pid is its own.
            let _ = identity::send(pid, Signal::KILL);
        })
    }

    /// Takes over a process an earlier launcher started.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own watches: no runtime")]
    pub(crate) fn adopt(home: &Arc<Home>, identity: &Identity, die_with_parent: bool) -> Result<Self, Error> {
        let server = home.server;
        let failed = || Error::io(format!("could not adopt {server} (process {})", identity.pid));
        let pid = identity.pid().ok_or_else(|| failed()(rustix::io::Errno::SRCH.into()))?;
        let held = Held {
            exit: None,
            adopted: Some(identity.clone()),
            home: Some(Arc::clone(home)),
            guardian: guard(pid, die_with_parent).map_err(failed())?,
            left: false,
        };
        let identity = identity.clone();
        Self::watch(server, pid, held, move |shared, tell| {
            while identity.runs() {
                if shared.held().left {
                    return;
                }
                thread::sleep(ADOPTED_POLL);
            }
            shared.ended(shared.held(), Exit { status: None }, &tell);
        })
    }

    fn watch(
        server: Server,
        pid: Pid,
        held: Held,
        wait: impl FnOnce(Arc<Shared>, watch::Sender<Option<Exit>>) + Send + 'static,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared { held: Mutex::new(held), changed: Condvar::new() });
        let (tell, exit) = watch::channel(None);
        let for_thread = Arc::clone(&shared);
        // A thread, not a task: the handle may be used from several runtimes, one after the other.
        thread::Builder::new()
            .name(format!("{server}-exit"))
            .spawn(move || wait(for_thread, tell))
            .map_err(Error::io(format!("could not start the thread that awaits {server}")))?;
        Ok(Self { server, pid, shared, exit })
    }

    pub(crate) fn pid(&self) -> u32 {
        // A pid is positive, so this loses nothing.
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Who the process is; `None` once it has ended.
    pub(crate) fn identity(&self) -> Option<Identity> {
        // Under the lock: a child is reaped, and its pid becomes free, only under the lock.
        let held = self.shared.held();
        match held.exit {
            None => Identity::of(self.pid),
            Some(_) => None,
        }
    }

    /// Sends a signal unless the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let held = self.shared.held();
        let sent = match (&held.exit, &held.adopted) {
            (Some(_), _) => Ok(false),
            (None, Some(identity)) => identity.signal(signal),
            // Our child, and not reaped, since reaping takes the lock: the pid cannot mean another process.
            (None, None) => identity::send(self.pid, signal),
        };
        sent.map(drop).map_err(Error::io(format!(
            "could not send {signal:?} to {} (process {})",
            self.server,
            self.pid()
        )))
    }

    /// SIGSTOP, and waits until it has stopped.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        if identity::wait_stopped(self.pid, PAUSE_LIMIT) {
            return Ok(());
        }
        Err(Error::NotPaused { server: self.server, pid: self.pid(), seconds: PAUSE_LIMIT.as_secs() })
    }

    pub(crate) fn try_wait(&self) -> Option<Exit> {
        self.shared.held().exit
    }

    pub(crate) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit { status: None }),
            // As long as a handle exists that was not left, the thread never ends without sending.
            Err(_) => Exit { status: None },
        }
    }

    /// SIGTERM, and SIGKILL if it has not ended within `limit`.
    pub(crate) async fn stop(self, limit: Duration) -> Result<Exit, Error> {
        // A paused server would not see SIGTERM.
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(limit, self.exited()).await {
            Ok(exit) => Ok(exit),
            Err(_) => {
                tracing::warn!(server = %self.server, pid = self.pid(), ?limit,
                    "the server did not end by SIGTERM in time; killing it");
                self.kill().await
            }
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) async fn kill(&self) -> Result<Exit, Error> {
        self.signal(Signal::KILL)?;
        tokio::time::timeout(KILL_LIMIT, self.exited()).await.map_err(|_| self.immortal())
    }

    /// Lets the process live on without us.
    pub(crate) fn leave(self) {
        let mut held = self.shared.held();
        held.left = true;
        held.guardian = None;
        held.home = None;
    }

    fn immortal(&self) -> Error {
        Error::Immortal { server: self.server, pid: self.pid(), seconds: KILL_LIMIT.as_secs() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shared.held().left {
            return;
        }
        let killed = self.signal(Signal::KILL).and_then(|()| {
            // Until it has ended, it writes to the directory that the caller may be about to remove.
            let (held, waited) = self
                .shared
                .changed
                .wait_timeout_while(self.shared.held(), KILL_LIMIT, |held| held.exit.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            drop(held);
            if waited.timed_out() {
                return Err(self.immortal());
            }
            Ok(())
        });
        if let Err(error) = killed {
            tracing::error!(error = &error as &dyn std::error::Error, "a server was left running");
        }
    }
}

fn guard(pid: Pid, die_with_parent: bool) -> std::io::Result<Option<Guardian>> {
    die_with_parent.then(|| Guardian::of_process(pid)).transpose()
}

/// Awaits the end of a child in two steps, so that nobody signals its pid after it was given to another process: first
/// without reaping it, then, under the lock that every signal takes, with.
fn reap(shared: &Shared, pid: Pid, child: &mut Child, tell: &watch::Sender<Option<Exit>>) {
    let ends = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), ends) {}
    let mut held = shared.held();
    // Cancelled while the dead child still keeps its pid.
    held.guardian = None;
    let status = child.wait().ok();
    shared.ended(held, Exit { status }, tell);
}
