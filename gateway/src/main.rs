//! The gateway as a process of its own: settings, telemetry, connect, run, shut down.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;
use contract::Role;
use settings::ServiceArgs;

/// Takes prepare and finalise requests over HTTP, records them in MongoDB and announces them on NATS.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// Threads that serve requests; without it, as many as the machine has cores
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        threads.worker_threads(workers.get());
    }
    let run = |service| async { gateway::run(service).await.map(drop) };
    Ok(threads.enable_all().build()?.block_on(runtime::main(Role::Gateway, args.service, run)))
}
