//! `waybill user`: the users who may call the gateway.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ledger::NewUser;

use crate::connection::ConnectionArgs;

/// The maximum length of a name and of a password, in bytes.
const LONGEST: usize = 256;

/// Adds a user.
pub async fn add(name: &str, connection: &ConnectionArgs) -> Result<()> {
    ensure!(
        (1..=LONGEST).contains(&name.len()) && !name.chars().any(contract::is_hidden),
        "expected a name of 1 to {LONGEST} bytes without control and hidden characters"
    );
    let password = ask_password()?;
    ensure!((8..=LONGEST).contains(&password.len()), "expected a password of 8 to {LONGEST} bytes");
    let ledger = connection.ledger("waybill-user").await?;
    let added = ledger.add_user(&NewUser { username: name, password: &password }).await;
    ledger.close().await;
    if !added? {
        bail!("the user {name:?} exists already; nothing was changed");
    }
    eprintln!("added the user {name}");
    Ok(())
}

/// Imports the users of a dump. Fails if any of them was left out.
pub async fn import(file: &Path, connection: &ConnectionArgs) -> Result<()> {
    let ledger = connection.ledger("waybill-user").await?;
    let imported = ledger.import_users(file).await;
    ledger.close().await;
    let imported = imported?;
    eprintln!("users added: {}, replaced: {}", imported.added, imported.replaced);
    for refused in &imported.refused {
        eprintln!("{refused}");
    }
    ensure!(imported.refused.is_empty(), "not imported: {}; add them with `waybill user add`", imported.refused.len());
    Ok(())
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
