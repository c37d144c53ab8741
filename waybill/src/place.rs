//! Which servers a command speaks to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bus::Nats;
use contract::{Names, SigningKey};
use ledger::Ledger;
use settings::{Secret, Settings};

use crate::local::{DataDir, receipt_key_of};

/// How long NATS has to be there. A command is run by somebody who waits for it.
const NATS_WITHIN: Duration = Duration::from_secs(10);

/// Where the servers are.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The settings of the services; WAYBILL__SECTION__KEY in the environment wins over the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of a `waybill up` that runs; its servers are used, whatever the settings say
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    /// The settings, with the servers of the data directory if one is named.
    pub fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::load(self.config.as_deref())?;
        if let Some(directory) = &self.data_dir {
            let noted = DataDir::noted(directory)?;
            settings.mongodb.uri = Secret::new(noted.mongodb);
            settings.nats.url = noted.nats;
        }
        Ok(settings)
    }

    /// The key that receipts are signed with: that of the settings, else that of the data directory if one is named.
    pub fn signing_key(&self) -> Result<Option<SigningKey>> {
        let mut receipts = Settings::load(self.config.as_deref())?.receipts;
        if !receipts.is_configured() {
            receipts.signing_key_file = self.data_dir.as_deref().map(receipt_key_of);
        }
        Ok(receipts.signing_key()?)
    }

    /// MongoDB alone; `command` is what it shows in its log.
    pub async fn ledger(&self, command: &str) -> Result<Ledger> {
        ledger(&self.settings()?, command).await
    }
}

/// MongoDB, as the settings say; `command` is what it shows in its log.
pub async fn ledger(settings: &Settings, command: &str) -> Result<Ledger> {
    let options = ledger::LedgerOptions::from_settings(settings, command)?;
    Ledger::connect(&options).await.context("MongoDB cannot be used")
}

/// NATS, as the settings say; `command` is what it shows of the connection.
pub async fn nats(settings: &Settings, command: &str) -> Result<Nats> {
    let names = Names::new(&settings.nats.prefix).context("the setting nats.prefix is wrong")?;
    Nats::reach(&settings.nats, &names, command, NATS_WITHIN).await.context("NATS cannot be used")
}
