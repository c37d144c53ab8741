//! `waybill demo`: runs everything in a fresh directory, delivers one file, and checks what arrived.

mod destination;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contract::{ReceiptVerdict, one_line, plain_json};
use runtime::Lifecycle;
use serde_json::Value;
use settings::Settings;
use settings::telemetry;

pub use destination::DestinationKind;

use crate::client::Client;
use crate::progress::Progress;
use crate::scale::Scale;
use crate::{receipt, up};
use destination::Destination;

/// The size of the file that is made if none is named, in bytes.
const SIZE: u64 = 64 * 1024 * 1024;

/// Bytes compared at once.
const PIECE: usize = 1024 * 1024;

/// The time between two questions to the gateway about the progress.
const POLL: Duration = Duration::from_millis(50);

/// Maximum characters of an address, in a line.
const ADDRESS: usize = 1000;

/// The command.
pub async fn command(file: Option<PathBuf>, to: DestinationKind) -> Result<()> {
    let begun = Instant::now();
    let directory =
        tempfile::Builder::new().prefix("waybill-demo-").tempdir().context("no fresh directory can be created")?;
    let file = match file {
        Some(file) => file.canonicalize().with_context(|| format!("{} cannot be found", file.display()))?,
        None => make_file(directory.path())?,
    };
    let mut settings = Settings::load(None)?;
    // A server that must be fetched first takes its time, so that is said too.
    settings.telemetry.filter = "warn,servers::wheel=info".into();
    telemetry::start(&settings.telemetry)?;
    settings.files.roots = vec![file.parent().context("the file has no folder")?.to_owned()];
    let life = Lifecycle::new(settings.work.grace());
    life.stop_on_signals().context("cannot listen for signals")?;

    eprintln!("Starting NATS, MongoDB and the four services in {} ...", directory.path().display());
    let destination = Destination::start(to, directory.path()).await?;
    destination.configure(&mut settings);
    let options = up::Options {
        data_dir: directory.path().join("data"),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        config: None,
        scale: Scale::default(),
    };
    let Some(up) = up::start(settings, &options, life.clone()).await? else { bail!("stopped") };
    eprintln!("Ready after {:.1} s. Sending {} ...", begun.elapsed().as_secs_f64(), file.display());
    let ready = up.ready.clone();
    let running = tokio::spawn(up.run());
    let sent = tokio::select! {
        sent = send(&ready, &file) => sent,
        () = life.stopping() => Err(anyhow::anyhow!("stopped")),
    };
    let shown = match sent {
        Ok(shown) => show(&shown, &destination, &ready, &file, begun).await,
        Err(error) => Err(error),
    };
    eprintln!("Stopping the services and servers, and removing the folder ...");
    life.stop();
    let ended = running.await?;
    shown.and(ended).and(destination.stop().await)
}

/// Has the file prepared, finalised and delivered, and shows the progress. Returns the file as the gateway shows it.
async fn send(ready: &up::Ready, file: &Path) -> Result<Value> {
    let (Some(username), Some(password)) = (&ready.username, &ready.password) else {
        bail!("the database has users already: the demonstration needs a fresh one");
    };
    let client = Client::log_in(&ready.gateway, username, password).await?;
    let size = file.metadata()?.len();
    let id = client.prepare(file).await?;
    let path = file.to_owned();
    let (_, sha256) = tokio::task::spawn_blocking(move || receipt::size_and_hash(&path)).await??;
    client.finalise(id, sha256).await?;
    let mut progress = Progress::new(size);
    loop {
        let shown = client.file(id).await?;
        progress.show(&shown);
        match shown["state"].as_str().unwrap_or_default() {
            "delivered" => {
                progress.finish();
                return Ok(shown);
            }
            "failed" | "cancelled" => bail!("the file was not delivered: {}", shown["error"]),
            "stored" if !shown["error"].is_null() => bail!("the file was refused: {}", shown["error"]),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is the result of the command")]
async fn show(shown: &Value, destination: &Destination, ready: &up::Ready, file: &Path, begun: Instant) -> Result<()> {
    let seconds = begun.elapsed().as_secs_f64();
    let remote = &shown["receipt"]["remote"];
    println!("{}", plain_json(&serde_json::to_string_pretty(&shown["receipt"])?));
    verify(&shown["receipt"], ready, file)?;
    let object = remote["object"].as_str().context("the receipt names no object")?;
    let address = remote["address"].as_str().context("the receipt has no address")?;
    let shown_address = one_line(address, ADDRESS);
    let Some(arrived) = destination.arrived(object, address, ready.remote_dir.as_deref()).await? else {
        eprintln!("Delivered after {seconds:.1} s, to {shown_address}");
        return Ok(());
    };
    compare(file, &arrived)?;
    eprintln!("Delivered after {seconds:.1} s, and identical, byte by byte: {shown_address}");
    Ok(())
}

/// Checks the receipt as `waybill receipt verify` does, with the key of this run.
fn verify(receipt: &Value, ready: &up::Ready, file: &Path) -> Result<()> {
    let key = ready.receipt_key.context("receipts are not signed")?;
    let checks = receipt::checks(receipt, &[key], Some(file))?;
    let bad: Vec<_> = checks.iter().filter(|check| check.verdict != ReceiptVerdict::Holds).collect();
    ensure!(bad.is_empty(), "the receipt does not hold: {bad:?}");
    eprintln!("The receipt holds, as signed with the key {}, and for the file that was sent.", key.id());
    Ok(())
}

fn make_file(directory: &Path) -> Result<PathBuf> {
    let folder = directory.join("source");
    std::fs::create_dir(&folder)?;
    let path = folder.join("demo.bin");
    let made =
        File::open("/dev/urandom").and_then(|random| io::copy(&mut random.take(SIZE), &mut File::create(&path)?));
    made.with_context(|| format!("{} cannot be created", path.display()))?;
    Ok(path)
}

fn compare(sent: &Path, arrived: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| format!("{} cannot be read", path.display()));
    let (one, other) = (open(sent)?, open(arrived)?);
    let (size, found) = (one.metadata()?.len(), other.metadata()?.len());
    ensure!(size == found, "the delivered file differs: expected {size} bytes, found {found}");
    let (mut one, mut other) = (one.take(size), other.take(size));
    let (mut piece, mut piece_found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        let read = one.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        other.read_exact(&mut piece_found[..read])?;
        if piece[..read] != piece_found[..read] {
            let differs = piece[..read].iter().zip(&piece_found).position(|(one, other)| one != other);
            let within = differs.unwrap_or_default();
            bail!("the delivered file differs from the one sent at byte {}", at + within as u64);
        }
        at += read as u64;
    }
}
