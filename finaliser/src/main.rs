//! The finaliser as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use contract::Role;
use settings::ServiceArgs;

/// A range of chunks is one allocation of megabytes, made and freed hundreds of times a second. The system's allocator
/// gives such memory back each time, and the kernel clears every page of it anew: a quarter of all the work
/// (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Proves stored files whole and streams them to their remote
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// Files at once; wins over finaliser.concurrency of the settings
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrency: Option<u16>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let concurrency = args.concurrency.map(usize::from);
    runtime::main(Role::Finaliser, args.service, move |service| finaliser::run(service, concurrency)).await
}
