//! The driver's client: what may be wrong with the connection string, and what the driver's errors mean.

use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ConnectionString};
use settings::SettingsError;

use crate::{LedgerError, LedgerOptions, connection};

/// The driver's client for a ledger.
pub(crate) async fn open(options: &LedgerOptions) -> Result<Client, LedgerError> {
    let parsed = ConnectionString::parse(&options.uri).map_err(|error| refused(why_unparsed(&options.uri, &error)))?;
    let failed = |error: Error| match *error.kind {
        ErrorKind::InvalidArgument { message, .. } | ErrorKind::InvalidTlsConfig { message, .. } => refused(message),
        _ => LedgerError::mongo("reading the MongoDB connection string", error),
    };
    let mut client = ClientOptions::parse(parsed).await.map_err(failed)?;
    connection::complete(&mut client, options);
    Client::with_options(client).map_err(failed)
}

fn refused(why: String) -> LedgerError {
    LedgerError::Settings(SettingsError::Value { key: "mongodb.uri".into(), why })
}

/// What is wrong with a connection string, without its user and password: if they end at the wrong character, the
/// driver takes the rest of them for a host, a port or an option, and repeats it.
fn why_unparsed(uri: &str, error: &Error) -> String {
    let told = message(error);
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let (login, rest) = rest.rsplit_once('@').unwrap_or_default();
    let repeated = |part: &str| !part.is_empty() && told.to_lowercase().contains(&part.to_lowercase());
    if !login.split([':', '/', '?', '@', ',', '&', '=', '#']).any(repeated) {
        return told;
    }
    match ConnectionString::parse(format!("{scheme}://{rest}")) {
        Err(error) => message(&error),
        Ok(_) => UNENCODED.to_owned(),
    }
}

/// In place of an error that would repeat a part of the user or the password.
const UNENCODED: &str = "expected the user and the password percent-encoded (@ as %40, : as %3A, / as %2F, ? as %3F, \
                         % as %25), found characters that end them";

fn message(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        kind => kind.to_string(),
    }
}

/// What the driver says, for one line: without labels, sources and the description of every server.
pub(crate) fn told(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => DENIED.to_owned(),
        ErrorKind::ServerSelection { message, .. } if message.contains("Authentication failed") => DENIED.to_owned(),
        ErrorKind::ServerSelection { message, .. } => no_server(message),
        kind => kind.to_string(),
    }
}

const DENIED: &str = "authentication failed: MongoDB refuses the user or the password of mongodb.uri";

/// The servers and what failed at each, from `...Servers: [ { Address: A, Type: Unknown, Error: Kind: E, labels: ...`.
fn no_server(message: &str) -> String {
    let server = |text: &str| {
        let (address, rest) = text.split_once(", ")?;
        let why = match rest.split_once("Error: Kind: ") {
            Some((_, error)) => error.split(", labels: ").next()?,
            None => rest.strip_prefix("Type: ")?.split([',', ' ']).next()?,
        };
        Some(format!("{address}: {why}"))
    };
    let servers: Vec<_> = message.split("{ Address: ").skip(1).filter_map(server).collect();
    if servers.is_empty() {
        return message.to_owned();
    }
    format!("no server can be used ({})", servers.join("; "))
}
