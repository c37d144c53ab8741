//! `waybill user`: who may call the gateway.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ledger::{Ledger, NewUser};
use runtime::settings::{Secret, Settings};

use crate::local::DataDir;

/// The longest name and password in bytes.
const LONGEST: usize = 256;

/// Which MongoDB has the users.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The settings that say where MongoDB is; WAYBILL__MONGODB__URI in the environment wins over the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of a `waybill up` that runs; its MongoDB is used
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
}

/// Adds a user.
pub async fn add(name: &str, place: &Place) -> Result<()> {
    ensure!(
        (1..=LONGEST).contains(&name.len()) && !name.chars().any(char::is_control),
        "expected a name of 1 to {LONGEST} bytes without control characters"
    );
    let ledger = connect(place).await?;
    let password = ask_password()?;
    ensure!((8..=LONGEST).contains(&password.len()), "expected a password of 8 to {LONGEST} bytes");
    if !ledger.add_user(&NewUser { username: name, password: &password }).await? {
        bail!("there is a user {name:?} already; nothing was changed");
    }
    eprintln!("added the user {name}");
    Ok(())
}

/// Reads the users of a dump.
pub async fn import(file: &Path, place: &Place) -> Result<()> {
    let imported = connect(place).await?.import_users(file).await?;
    eprintln!("users added: {}, replaced: {}", imported.added, imported.replaced);
    Ok(())
}

async fn connect(place: &Place) -> Result<Ledger> {
    let mut settings = Settings::load(place.config.as_deref())?;
    if let Some(directory) = &place.data_dir {
        settings.mongodb.uri = Secret::new(DataDir::noted(directory)?.mongodb);
    }
    let options = runtime::service::ledger_options(&settings, "waybill-user")?;
    Ledger::connect(&options).await.context("MongoDB cannot be used")
}

fn ask_password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ").context("the password cannot be read")?;
        let second = rpassword::prompt_password("Again: ").context("the password cannot be read")?;
        ensure!(first == second, "the two passwords differ");
        return Ok(first);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the password cannot be read from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
