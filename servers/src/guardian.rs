//! A small shell that ends a server when we die, however we die.
//!
//! `PR_SET_PDEATHSIG` would be the kernel's way, but it needs unsafe code or `setpriv`, and it fires when the *thread*
//! that spawned the server ends, which under a test runner is at the end of one test. A pipe has neither fault: its
//! writing end is ours alone (close-on-exec), the kernel closes it when our process ends, even by SIGKILL, and the
//! shell then reads the end of the file.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends a process, or removes a folder, when the process that holds this value has died. Dropping the value cancels this.
#[derive(Debug)]
pub(crate) struct Guardian {
    shell: Child,
}

impl Guardian {
    /// Kills `pid` when we have died.
    pub(crate) fn of_process(pid: rustix::process::Pid) -> io::Result<Self> {
        let pid = pid.as_raw_nonzero().to_string();
        Self::spawn(r#"read -r _; kill -s KILL "$1""#, pid.as_ref())
    }

    /// Removes `folder` when we have died. It tries for some seconds, as what its servers' guardians have just killed
    /// may still be writing there.
    pub(crate) fn of_folder(folder: &Path) -> io::Result<Self> {
        let script = r#"read -r _; for _ in 1 2 3 4 5; do sleep 1; rm -rf -- "$1" && exit; done"#;
        Self::spawn(script, folder.as_os_str())
    }

    fn spawn(script: &str, argument: &OsStr) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", script, "waybill-guardian"])
            .arg(argument)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: the shell has to outlive a Ctrl-C that ends us.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // In this order: `wait` closes the pipe, and a shell still alive would take that for our death.
        // Neither fails for a child that was not waited for.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
