//! The store as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use contract::Role;
use settings::ServiceArgs;

/// Checks chunks and persists them in MongoDB
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::main(Role::Store, Args::parse().service, store::run).await
}
