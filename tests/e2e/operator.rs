//! What an operator does: look for files and dead letters, requeue failed files, examine everything.

mod dead;
mod doctor;
mod files;
mod many;
mod schedule;

use std::process::Command;

use harness::{Said, System, binary};

/// Runs `waybill` on a system to its end, with further variables in its environment.
async fn waybill_with(system: &System, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(binary("waybill"));
    command.args(arguments).arg("--config").arg(&system.config).envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || Said::by(command, "")).await.unwrap()
}

/// Runs `waybill` on a system to its end.
pub(crate) async fn waybill(system: &System, arguments: &[&str]) -> Said {
    waybill_with(system, arguments, &[]).await
}

/// Stops all services, so that nobody repairs what a test breaks.
fn stop_services(system: &mut System) {
    for (name, process) in &mut system.processes {
        assert_eq!(process.stop().code(), Some(0), "{name}: {}", process.log());
    }
    system.processes.clear();
}
