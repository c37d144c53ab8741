//! How fast the pipeline is, beside its peers on the same mongod in the same run.
//!
//! `cargo bench -p tests` prints the table that `docs/performance.md` keeps. Machines differ and are shared: read the
//! ratios of one run, not figures of two. A benchmark never fails a build.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints its result, and rounds it")]

mod figures;
mod peers;
mod rclone;
mod small;

use std::path::Path;
use std::time::Instant;

use clap::Parser;
use contract::EventKind;
use futures_util::StreamExt;
use harness::{Content, Options, Sink, System};
use serde_json::json;
use servers::{Mongo, MongoOptions, Nats, NatsOptions, Seaweed, Sshd, SshdOptions};

use figures::{Pair, Usage, Watch, mib_per_second};
use rclone::Rclone;
use small::{Peer, Row};

#[derive(Debug, Parser)]
struct Args {
    /// Size of the large file in MiB; 0: none
    #[arg(long, default_value_t = 512)]
    size_mib: u64,
    /// Interleaved pairs of Waybill and its peer
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Small files of 10 KiB, request to delivered; 0: none
    #[arg(long, default_value_t = 2000)]
    files: usize,
    /// Only the rows of small files whose remote begins so
    #[arg(long, default_value = "")]
    only: String,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    harness::without_failpoints();
    let folder = tempfile::Builder::new().prefix("waybill-bench-").tempdir().expect("a fresh folder");
    let nats = Nats::start(NatsOptions::new(folder.path().join("nats"), 2 << 20)).await.expect("nats-server starts");
    let mongo = Mongo::start(MongoOptions::new(folder.path().join("mongod"), 1024)).await.expect("mongod starts");
    let sink = Sink::start().await;
    let seaweed = servers::shared_seaweed().await.expect("SeaweedFS starts");
    let sshd = match Sshd::is_here() {
        Ok(()) => Some(Sshd::start(SshdOptions::new(folder.path().join("sshd"))).await.expect("sshd starts")),
        Err(_) => None,
    };
    let options = Options {
        toml: remotes(folder.path(), &sink, seaweed, sshd.as_ref()),
        nats_url: Some(nats.url()),
        mongodb_uri: Some(mongo.uri()),
        ..Options::default()
    };
    let system = System::start(options).await;
    let mut watched: Vec<_> = system.processes.iter().map(|(name, process)| (name.clone(), process.pid())).collect();
    watched.extend([("nats-server".to_owned(), nats.pid()), ("mongod".to_owned(), mongo.pid())]);
    let watch = Watch::start(watched);

    if args.size_mib > 0 {
        large(&args, &system, &watch).await;
    }
    small_files(&args, &system, &watch, &rows(folder.path(), seaweed, sshd.as_ref())).await;
    println!("\nPeak anonymous memory (RssAnon), MiB, over the whole run:\n");
    println!("| process | peak |\n|---|---|");
    for (name, kib) in watch.peaks() {
        println!("| {name} | {} |", kib / 1024);
    }
    drop(system);
    nats.stop().await.expect("nats-server stops");
    mongo.stop().await.expect("mongod stops");
}

/// One large file, in pairs with the peers.
async fn large(args: &Args, system: &System, watch: &Watch) {
    let size = args.size_mib << 20;
    let (mut ingest, mut delivery) = (Vec::new(), Vec::new());
    let (mut ingest_cpu, mut delivery_cpu) = (Usage::default(), Usage::default());
    let mut plain = Vec::new();
    for number in 0..args.pairs {
        let name = format!("large-{number}");
        let content = system.write(&name, size);
        let peers = peers::Peers::new(&system.database().await);
        // Turn about, so that neither always comes second.
        let (ours, theirs, uploaded);
        if number % 2 == 0 {
            ours = waybill_ingest(system, watch, &name, &mut ingest_cpu).await;
            (theirs, uploaded) = peers.upload(&system.source().join(&name)).await;
        } else {
            (theirs, uploaded) = peers.upload(&system.source().join(&name)).await;
            ours = waybill_ingest(system, watch, &name, &mut ingest_cpu).await;
        }
        let (file, seconds) = ours;
        ingest.push(Pair { ours: mib_per_second(size, seconds), theirs: mib_per_second(size, theirs) });
        let (ours, theirs);
        if number % 2 == 0 {
            ours = waybill_delivery(system, watch, &file, content, &mut delivery_cpu).await;
            theirs = peers.download(&uploaded, size).await;
        } else {
            theirs = peers.download(&uploaded, size).await;
            ours = waybill_delivery(system, watch, &file, content, &mut delivery_cpu).await;
        }
        delivery.push(Pair { ours: mib_per_second(size, ours), theirs: mib_per_second(size, theirs) });
        plain.push(mib_per_second(size, peers.insert_many(&system.source().join(&name)).await));
        peers.clear().await;
        std::fs::remove_file(system.source().join(&name)).expect("the source can be removed");
        eprintln!(
            "pair {} of {}: ingest {:?}, delivery {:?}",
            number + 1,
            args.pairs,
            ingest[number],
            delivery[number]
        );
    }
    println!("A file of {} MiB of random bytes, {} interleaved pairs, medians, MiB/s:\n", args.size_mib, args.pairs);
    println!("| what | Waybill | peer | ratio |\n|---|---|---|---|");
    println!("| ingest (prepare to stored) : GridFS upload | {} |", figures::row(&ingest));
    println!("| delivery (finalise to delivered) : GridFS download | {} |", figures::row(&delivery));
    println!("| (the limit: `insert_many` of the same 1 MiB documents) | | {:.0} | |", figures::median(&plain));
    let gib = (args.pairs as u64 * size) as f64 / f64::from(1 << 30);
    println!("\nCPU seconds per GiB:\n\n| process | ingest | delivery |\n|---|---|---|");
    for (name, ingest) in &ingest_cpu.0 {
        let delivery = delivery_cpu.0.get(name).copied().unwrap_or_default();
        println!("| {name} | {:.2} | {:.2} |", ingest / gib, delivery / gib);
    }
}

/// From the prepare request to the event `stored`.
async fn waybill_ingest(system: &System, watch: &Watch, name: &str, cpu: &mut Usage) -> (String, f64) {
    let mut events = system.nats().await.subscribe(system.names.events()).await.expect("events can be watched");
    let before = watch.cpu();
    let begun = Instant::now();
    let file = system.api.prepare(name).await.expect(201).file_id();
    await_event(&mut events, EventKind::Stored).await;
    let seconds = begun.elapsed().as_secs_f64();
    cpu.add(&before, &watch.cpu());
    (file, seconds)
}

/// From the finalise request to the event `delivered`.
async fn waybill_delivery(system: &System, watch: &Watch, file: &str, content: Content, cpu: &mut Usage) -> f64 {
    let mut events = system.nats().await.subscribe(system.names.events()).await.expect("events can be watched");
    let before = watch.cpu();
    let begun = Instant::now();
    let body = json!({ "remote": "http" });
    system.api.finalise(file, &content.sha256.to_string(), &body).await.expect(202);
    await_event(&mut events, EventKind::Delivered).await;
    let seconds = begun.elapsed().as_secs_f64();
    cpu.add(&before, &watch.cpu());
    seconds
}

async fn await_event(events: &mut async_nats::Subscriber, kind: EventKind) {
    let end = format!(".{kind}");
    while let Some(event) = events.next().await {
        if event.subject.ends_with(&end) {
            return;
        }
        assert!(!event.subject.ends_with(".failed"), "the file failed: {}", String::from_utf8_lossy(&event.payload));
    }
}

/// The remotes of the system, as TOML.
fn remotes(folder: &Path, sink: &Sink, seaweed: &Seaweed, sshd: Option<&Sshd>) -> String {
    let bucket = format!("{}{}/bench/", seaweed.s3_url(), Seaweed::BUCKET);
    let (key, secret) = (Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY);
    let mut toml = format!(
        "[remotes.http]\nkind = \"http\"\nurl = {:?}\n\
         [remotes.s3]\nkind = \"s3\"\nurl = {bucket:?}\naccess_key = {key:?}\nsecret_key = {secret:?}\n",
        sink.url()
    );
    if let Some(sshd) = sshd {
        let path = folder.join("sftp");
        std::fs::create_dir(&path).expect("a folder can be made");
        let address = ([127, 0, 0, 1], sshd.port()).into();
        toml += "[remotes.sftp]\n";
        toml += &testing::sftp_section(sshd, address, sshd.private_key(), &path);
    }
    toml
}

/// The rows of small files: those whose peer can be had here.
fn rows(folder: &Path, seaweed: &Seaweed, sshd: Option<&Sshd>) -> Vec<Row> {
    let mut rows = vec![
        Row { remote: "http", clients: 8, peer: Peer::GridFs },
        Row { remote: "http", clients: 32, peer: Peer::GridFs },
        Row { remote: "folder", clients: 8, peer: Peer::GridFs },
    ];
    if small::is_installed("rclone") {
        rows.push(Row { remote: "s3", clients: 8, peer: Peer::Rclone(Rclone::s3(seaweed)) });
        let sftp = |sshd| Peer::Rclone(Rclone::sftp(sshd, &folder.join("sftp")));
        rows.extend(sshd.map(|sshd| Row { remote: "sftp", clients: 8, peer: sftp(sshd) }));
    } else {
        eprintln!("rclone is not installed: no rows for s3 and sftp");
    }
    rows
}

/// Many small files, in pairs with the peers.
async fn small_files(args: &Args, system: &System, watch: &Watch, rows: &[Row]) {
    if args.files == 0 {
        return;
    }
    small::head(args.files, args.pairs);
    for row in rows.iter().filter(|row| row.remote.starts_with(&args.only)) {
        small::measure(system, watch, row, args.files, args.pairs).await;
    }
}
