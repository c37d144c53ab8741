//! The servers that a command connects to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bus::Nats;
use contract::{Names, SigningKey};
use ledger::{Ledger, LedgerOptions};
use settings::Settings;

use crate::data_dir::{DataDir, receipt_key_of};

/// How long to wait for a connection to NATS. Somebody is waiting for the command.
const NATS_WITHIN: Duration = Duration::from_secs(10);

/// Which servers to connect to.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionArgs {
    /// The settings of the services; WAYBILL__SECTION__KEY in the environment overrides the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of a running `waybill up`; its servers are used, whatever the settings say
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl ConnectionArgs {
    /// The settings, with the servers of the data directory if one is named.
    pub fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::load(self.config.as_deref())?;
        if let Some(directory) = &self.data_dir {
            DataDir::read_endpoints(directory)?.put_into(&mut settings);
        }
        Ok(settings)
    }

    /// The key that signs receipts: that of the settings, else that of the data directory if one is named.
    pub fn signing_key(&self) -> Result<Option<SigningKey>> {
        let mut receipts = Settings::load(self.config.as_deref())?.receipts;
        if !receipts.is_configured() {
            receipts.signing_key_file = self.data_dir.as_deref().map(receipt_key_of);
        }
        Ok(receipts.signing_key()?)
    }

    /// Connects to MongoDB alone; MongoDB shows `command` in its log.
    pub async fn ledger(&self, command: &str) -> Result<Ledger> {
        connect_ledger(&self.settings()?, command).await
    }
}

/// Connects to the MongoDB of the settings; MongoDB shows `command` in its log.
pub async fn connect_ledger(settings: &Settings, command: &str) -> Result<Ledger> {
    let options = LedgerOptions::from_settings(settings, command)?;
    Ledger::connect(&options).await.context("MongoDB cannot be used")
}

/// Connects to the NATS of the settings; NATS shows `command` as the name of the connection.
pub async fn connect_nats(settings: &Settings, command: &str) -> Result<Nats> {
    let names = Names::new(&settings.nats.prefix).context("the setting nats.prefix is wrong")?;
    Nats::reach(&settings.nats, &names, command, NATS_WITHIN).await.context("NATS cannot be used")
}
