//! What an operator does: looks for files and dead letters, takes failed files up again, and has everything examined.

mod dead;
mod doctor;
mod files;
mod schedule;

use std::process::{Command, Stdio};

use harness::{DEADLINE, System, binary};
use serde_json::Value;

/// What a command said.
pub(crate) struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    /// Its lines of JSON.
    fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Panics unless it ended with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Runs `waybill` on a system to its end, with further variables in its environment.
async fn waybill_with(system: &System, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(binary("waybill"));
    command.args(arguments).arg("--config").arg(&system.config).envs(environment.iter().copied());
    command.stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(DEADLINE, running).await.expect("the command ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs `waybill` on a system to its end.
pub(crate) async fn waybill(system: &System, arguments: &[&str]) -> Said {
    waybill_with(system, arguments, &[]).await
}

/// Stops all services, so that nobody mends what a test breaks.
fn stop_services(system: &mut System) {
    for (name, process) in &mut system.processes {
        assert_eq!(process.stop().code(), Some(0), "{name}: {}", process.log());
    }
    system.processes.clear();
}
