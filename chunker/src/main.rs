//! The chunker as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use contract::Role;
use settings::ServiceArgs;

/// Reads files from shared storage, splits and hashes them and sends the chunks to the store
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::main(Role::Chunker, Args::parse().service, chunker::run).await
}
