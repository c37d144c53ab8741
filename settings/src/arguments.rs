//! The arguments that all services share.

use std::path::PathBuf;

/// `--config` and `--probe`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// The settings; see deploy/waybill.toml. WAYBILL__SECTION__KEY in the environment wins over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Ask the service that runs with the same settings on this machine whether it is ready, and exit with 0 if it is
    #[arg(long)]
    pub probe: bool,
}
