//! `waybill receipt`: checks receipts, without servers and settings, and prints the key that verifies them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use contract::{Check, Digest, Hasher, PublicKey, ReceiptVerdict, check_data, check_receipt, one_line, read_json};
use serde_json::Value;

use crate::connection::ConnectionArgs;

/// The maximum size of a file with a receipt, and of one with a key, in bytes. The services write far smaller ones.
const RECEIPT_MAX: u64 = 1024 * 1024;
const KEY_MAX: u64 = 64 * 1024;

/// Bytes read from a file at once.
const PIECE: usize = 1024 * 1024;

/// Maximum characters of the text of a check, in a line.
const SAID: usize = 1000;

/// In the tables below, in place of a member of the receipt: the word `delivered`.
const DELIVERED: &str = "delivered";

/// What an answer of GET /files/{id} says that its receipt says too: where it stands in each, as JSON pointers.
const IN_ANSWER: [(&str, &str); 14] = [
    ("/file_id", "/file_id"),
    ("/state", DELIVERED),
    ("/phase", DELIVERED),
    ("/name", "/source/name"),
    ("/file_path", "/source/path"),
    ("/generation", "/source/generation"),
    ("/sha256", "/sha256"),
    ("/size", "/size"),
    ("/bytes/stored", "/size"),
    ("/bytes/delivered", "/size"),
    ("/chunks/total", "/chunks"),
    ("/chunks/stored", "/chunks"),
    ("/remote", "/remote/name"),
    ("/attempts", "/attempts"),
];

/// The same for an event.
const IN_EVENT: [(&str, &str); 4] =
    [("/file_id", "/file_id"), ("/event", DELIVERED), ("/state", DELIVERED), ("/name", "/source/name")];

/// Exit status: nothing is wrong, but no key that was named vouches for the receipt.
const OPEN: u8 = 3;

/// Exit status: the receipt could not be checked.
const UNREADABLE: u8 = 2;

/// The arguments of `waybill receipt verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The receipt, alone or inside an answer of GET /files/{id} or an event; - reads standard input
    file: PathBuf,
    /// The delivered file: its size and SHA-256 are compared
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A public key that you trust, in base64, or a file that holds it (PEM); may be repeated
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
}

/// What was found in a document.
struct Found {
    receipt: Value,
    /// Whether what the answer or event says beside the receipt agrees with it; `None` if it is the receipt alone.
    around: Option<Check>,
}

/// Checks a receipt and prints a line for each check.
pub fn verify(args: &VerifyArgs) -> ExitCode {
    let verified = read(args).and_then(|(Found { receipt, around }, keys)| {
        let mut checks = checks(&receipt, &keys, args.data.as_deref())?;
        checks.extend(around);
        print(&checks).context("standard output cannot be written to")?;
        Ok(worst(&checks))
    });
    match verified {
        Ok(ReceiptVerdict::Holds) => ExitCode::SUCCESS,
        Ok(ReceiptVerdict::Fails) => ExitCode::FAILURE,
        Ok(ReceiptVerdict::Open) => ExitCode::from(OPEN),
        Err(error) => {
            eprintln!("waybill: {}", one_line(&format!("{error:#}"), SAID));
            ExitCode::from(UNREADABLE)
        }
    }
}

/// Prints the public key of the services' settings or of a data directory, as PEM.
#[allow(clippy::print_stdout, reason = "this is the result of the command")]
pub fn key(connection: &ConnectionArgs) -> Result<()> {
    let key = connection.signing_key()?.context(
        "receipts are not signed: set receipts.signing_key or receipts.signing_key_file, or name the --data-dir of a \
         `waybill up`",
    )?;
    print!("{}", key.public().to_pem());
    Ok(())
}

/// All checks of a receipt, and of the delivered file if it is given.
pub(crate) fn checks(receipt: &Value, keys: &[PublicKey], data: Option<&Path>) -> Result<Vec<Check>> {
    let mut checks = check_receipt(receipt, keys);
    if let Some(data) = data {
        let (size, sha256) = size_and_hash(data)?;
        checks.extend(check_data(receipt, size, sha256));
    }
    Ok(checks)
}

/// The worst of all verdicts.
pub(crate) fn worst(checks: &[Check]) -> ReceiptVerdict {
    let any = |verdict| checks.iter().any(|check| check.verdict == verdict);
    match (any(ReceiptVerdict::Fails), any(ReceiptVerdict::Open)) {
        (true, _) => ReceiptVerdict::Fails,
        (false, true) => ReceiptVerdict::Open,
        (false, false) => ReceiptVerdict::Holds,
    }
}

/// The size and hash of a file.
pub(crate) fn size_and_hash(path: &Path) -> Result<(u64, Digest)> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let (mut size, mut hasher, mut piece) = (0, Hasher::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).with_context(unreadable)? {
            0 => return Ok((size, hasher.finish())),
            read => {
                size += read as u64;
                hasher.update(&piece[..read]);
            }
        }
    }
}

fn read(args: &VerifyArgs) -> Result<(Found, Vec<PublicKey>)> {
    let keys = args.keys.iter().map(|key| public_key(key)).collect::<Result<_>>()?;
    let (name, bytes) = match args.file.as_os_str().to_str() {
        Some("-") => ("standard input".to_owned(), bounded(std::io::stdin().lock(), RECEIPT_MAX)),
        _ => (
            args.file.display().to_string(),
            File::open(&args.file).map_err(Into::into).and_then(|file| bounded(file, RECEIPT_MAX)),
        ),
    };
    let bytes = bytes.with_context(|| format!("{name} cannot be read"))?;
    let document = read_json(&bytes).with_context(|| format!("{name} holds no receipt"))?;
    let found = receipt_in(document).with_context(|| format!("{name} holds no receipt that can be checked"))?;
    Ok((found, keys))
}

fn bounded(from: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= most, "expected at most {most} bytes, found more");
    Ok(bytes)
}

/// The key in an argument: the key itself, or the file that holds it.
fn public_key(named: &str) -> Result<PublicKey> {
    let why_not = match named.parse() {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let bytes = File::open(named).map_err(Into::into).and_then(|file| bounded(file, KEY_MAX));
    let bytes =
        bytes.with_context(|| format!("{named:?} is not a public key ({why_not}), nor a file that can be read"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow!("expected a public key in {named:?}, found something that is not text"))?;
    text.parse().with_context(|| format!("{named:?} holds no public key"))
}

/// The receipt in an answer of GET /files/{id}, in an event, or alone.
fn receipt_in(mut document: Value) -> Result<Found> {
    let Some(members) = document.as_object() else { bail!("expected a JSON object, found something else") };
    let event = members.get("event").cloned();
    let (what, place, repeated) = match &event {
        Some(_) => ("event", "/detail/receipt", &IN_EVENT[..]),
        None if members.contains_key("receipt") => ("answer", "/receipt", &IN_ANSWER[..]),
        None => return Ok(Found { receipt: document, around: None }),
    };
    let receipt = document.pointer_mut(place).map(Value::take).unwrap_or_default();
    match (event, receipt.is_null()) {
        (Some(event), true) => bail!("expected the event delivered, found {event}"),
        (None, true) => {
            let state = document.get("state").and_then(Value::as_str).unwrap_or("in no state");
            bail!("expected a file that is delivered, found one that is {state}")
        }
        (_, false) => {}
    }
    ensure!(!holds_receipt(&document), "expected one receipt, found several: which of them counts cannot be told");
    Ok(Found { around: Some(compare(what, &document, &receipt, repeated)), receipt })
}

/// Whether anything in it looks like a receipt, or is called one. Metadata may have any name, but only texts.
fn holds_receipt(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| {
            let is_one = matches!(name.as_str(), "receipt" | "signature") && (value.is_object() || value.is_array());
            is_one || holds_receipt(value)
        }),
        Value::Array(values) => values.iter().any(holds_receipt),
        _ => false,
    }
}

/// Compares what an answer or an event says beside its receipt with the receipt: people read it there, and nobody
/// signs it. A member that is missing says nothing.
fn compare(what: &'static str, around: &Value, receipt: &Value, repeated: &[(&str, &str)]) -> Check {
    let delivered = Value::from("delivered");
    let of_receipt = |place: &str| if place == DELIVERED { Some(&delivered) } else { receipt.pointer(place) };
    let differing: Vec<_> = repeated
        .iter()
        .filter_map(|(member, place)| {
            let (found, expected) = (around.pointer(member)?, of_receipt(place).unwrap_or(&Value::Null));
            (found != expected).then(|| format!("{} {expected}, found {found}", &member[1..]))
        })
        .collect();
    let (verdict, said) = match differing.is_empty() {
        true => (ReceiptVerdict::Holds, "repeats what the receipt says; the rest of it is not signed".to_owned()),
        false => (ReceiptVerdict::Fails, format!("expected, as in the receipt, {}", differing.join("; "))),
    };
    Check { what, verdict, said }
}

fn print(checks: &[Check]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for Check { what, verdict, said } in checks {
        let verdict = match verdict {
            ReceiptVerdict::Holds => "holds",
            ReceiptVerdict::Fails => "FAILS",
            ReceiptVerdict::Open => "open",
        };
        writeln!(out, "{verdict:5}  {what:9}  {}", one_line(said, SAID))?;
    }
    writeln!(
        out,
        "{}",
        match worst(checks) {
            ReceiptVerdict::Holds => "verified: all of the above holds",
            ReceiptVerdict::Fails => "NOT verified: something is not as it must be",
            ReceiptVerdict::Open => "not verified: nothing is wrong, but no key that you named vouches for it (--key)",
        }
    )
}
