//! Which process a pid means: pids are reused, and the start time tells two processes with the same pid apart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, told apart from any other that has or had its pid on this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub(crate) start_time: u64,
    /// Its program, from `/proc/PID/exe`.
    pub(crate) exe: PathBuf,
}

impl Identity {
    /// Reads what `/proc` tells about a process. `None` if it has ended (a zombie has), if we may not read it, or
    /// where there is no `/proc`: then nothing is ever adopted or ended, which is the safe side.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let pid = pid.as_raw_nonzero().get();
        let start_time = running_since(pid)?;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(Self { pid, start_time, exe })
    }

    /// The pid, as `rustix` wants it. `None` for init, and for what means a group: this was read from a file.
    pub(crate) fn pid(&self) -> Option<Pid> {
        if self.pid > 1 { Pid::from_raw(self.pid) } else { None }
    }

    /// Whether this very process still runs.
    pub(crate) fn runs(&self) -> bool {
        let Some(now) = self.pid().and_then(Self::of) else {
            return false;
        };
        now.start_time == self.start_time && same_program(&now.exe, &self.exe)
    }

    /// Sends a signal, if this process still runs. Returns whether it did.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self.pid() {
            Some(pid) if self.runs() => send(pid, signal),
            _ => Ok(false),
        }
    }

    /// Waits until this process has ended. Blocking; polls, as one cannot wait for another's child.
    #[expect(clippy::disallowed_methods, reason = "blocking, as documented")]
    pub(crate) fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.runs() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Sends a signal. Returns whether there was such a process.
pub(crate) fn send(pid: Pid, signal: Signal) -> io::Result<bool> {
    match kill_process(pid, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until every thread of the process has stopped: SIGSTOP reaches a thread only when it is next looked at by the
/// kernel, so a busy process runs on for a moment. Returns whether it has within `limit`; blocking.
#[expect(clippy::disallowed_methods, reason = "blocking, as documented")]
pub(crate) fn wait_stopped(pid: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while !all_stopped(pid).unwrap_or(false) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn all_stopped(pid: Pid) -> io::Result<bool> {
    for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        if !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The kernel adds a suffix to the path of a binary that was replaced or removed while it runs.
fn same_program(now: &Path, then: &Path) -> bool {
    let bare = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        text.strip_suffix(" (deleted)").map_or(text.clone(), str::to_owned)
    };
    bare(now) == bare(then)
}

fn running_since(pid: i32) -> Option<u64> {
    start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in a line of `/proc/PID/stat`, unless the process is dead. The second field is the program's name in
/// parentheses and may hold anything, parentheses too: the fields are counted from the last one.
fn start_time(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    let state = fields.next()?; // field 3
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok() // field 22
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 5";

    #[test]
    fn start_time_is_found_behind_any_name() {
        assert_eq!(start_time(STAT), Some(4242));
    }

    #[test]
    fn a_zombie_does_not_run() {
        assert_eq!(start_time(&STAT.replace(") S", ") Z")), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Identity::of(rustix::process::getpid()).unwrap();
        assert!(me.runs());
        let before_me = Identity { start_time: me.start_time - 1, ..me.clone() };
        assert!(!before_me.runs());
        let other_program = Identity { exe: "/nowhere/mongod".into(), ..me };
        assert!(!other_program.runs());
    }

    #[test]
    fn a_replaced_binary_is_the_same_program() {
        assert!(same_program(Path::new("/x/mongod (deleted)"), Path::new("/x/mongod")));
        assert!(!same_program(Path::new("/x/mongod"), Path::new("/y/mongod")));
    }

    #[test]
    fn neither_init_nor_a_group_is_ever_signalled() {
        for pid in [1, 0, -1, -7] {
            let identity = Identity { pid, start_time: 0, exe: PathBuf::new() };
            assert_eq!(identity.pid(), None, "{pid}");
        }
    }
}
