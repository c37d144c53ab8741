//! What a delivery costs the finaliser, by kind of remote, beside a bare client that reads the same bytes from MongoDB and sends
//! them to the same server.
//!
//! `cargo bench -p tests --bench remotes` prints the table that `docs/remotes.md` keeps. Read the ratios of one run, not figures of
//! two. A benchmark never fails a build.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints its result, and rounds it")]

mod bare;
#[path = "../pipeline/figures.rs"]
mod figures;
mod kills;
mod sign;

use std::process::Command;
use std::time::Instant;

use clap::Parser;
use harness::{Options, Sink, System};
use serde_json::json;
use servers::{Mongo, MongoOptions, Nats, NatsOptions, Nginx, NginxOptions, Seaweed, Sshd, SshdOptions};

use bare::{Bare, Way};
use figures::{Pair, Usage, Watch, median, row};

#[derive(Debug, Parser)]
struct Args {
    /// Size of the file in MiB
    #[arg(long, default_value_t = 512)]
    size_mib: u64,
    /// Interleaved pairs of Waybill and the bare client, per kind
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only the kinds whose names begin so
    #[arg(long, default_value = "")]
    only: String,
    /// How often the finaliser is killed in an upload of 1 GiB to S3
    #[arg(long, default_value_t = 10)]
    kills: u8,
    #[command(flatten)]
    bare: Bare,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A remote of the system, and how a bare client reaches the same server.
struct Peer {
    name: &'static str,
    server: &'static str,
    section: String,
    way: Way,
    /// What a bare client is told for a new name.
    to: Box<dyn Fn(&str) -> String>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    if args.bare.run().await {
        println!("{}", figures::own_cpu_seconds());
        return;
    }
    harness::without_failpoints();
    let folder = tempfile::Builder::new().prefix("waybill-bench-").tempdir().expect("a fresh folder");
    let nats = Nats::start(NatsOptions::new(folder.path().join("nats"), 2 << 20)).await.expect("nats-server starts");
    let mongo = Mongo::start(MongoOptions::new(folder.path().join("mongod"), 1024)).await.expect("mongod starts");
    let seaweed = servers::shared_seaweed().await.expect("SeaweedFS starts");
    for part in ["there", "nginx-root", "sftp"] {
        std::fs::create_dir(folder.path().join(part)).expect("a folder can be made");
    }
    let nginx = NginxOptions::new(folder.path().join("nginx"), folder.path().join("nginx-root"));
    let nginx = Nginx::start(nginx).await.expect("nginx starts");
    let sshd = Sshd::start(SshdOptions::new(folder.path().join("sshd"))).await.expect("sshd starts");
    let sink = Sink::start().await;
    let peers: Vec<_> = peers(folder.path(), &sink, seaweed, &nginx, &sshd)
        .into_iter()
        .filter(|peer| peer.name.starts_with(&args.only))
        .collect();
    let sections = peers.iter().map(|peer| format!("[remotes.{}]\n{}\n", peer.name, peer.section));
    let options = Options {
        toml: sections.collect(),
        nats_url: Some(nats.url()),
        mongodb_uri: Some(mongo.uri()),
        ..Options::default()
    };
    let mut system = System::start(options).await;
    println!("A file of {} MiB of random bytes, {} interleaved pairs, medians:\n", args.size_mib, args.pairs);
    println!("| kind | server | MiB/s: Waybill | bare | ratio | CPU s/GiB: finaliser | bare | ratio | RssAnon MiB |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for peer in &peers {
        measure(&args, &mut system, peer).await;
    }
    drop(system);
    kills::run(args.kills, &nats, &mongo, seaweed).await;
    nats.stop().await.expect("nats-server stops");
    mongo.stop().await.expect("mongod stops");
}

fn peers(folder: &std::path::Path, sink: &Sink, seaweed: &'static Seaweed, nginx: &Nginx, sshd: &Sshd) -> Vec<Peer> {
    let url = |name, server, kind: &str, url: String, more: &str, way| Peer {
        name,
        server,
        section: format!("kind = {kind:?}\nurl = {url:?}\n{more}"),
        way,
        to: Box::new(move |name| format!("{url}{name}")),
    };
    let keys = format!("access_key = {:?}\nsecret_key = {:?}\n", Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY);
    let bucket = format!("{}{}/bench/", seaweed.s3_url(), Seaweed::BUCKET);
    let there = folder.join("there");
    let sftp = folder.join("sftp");
    let login = format!("{} {} {}", sshd.port(), sshd.user(), sshd.private_key().display());
    vec![
        Peer {
            name: "directory",
            server: "this machine",
            section: format!("kind = \"directory\"\npath = {there:?}\n"),
            way: Way::File,
            to: Box::new(move |name| there.join(name).display().to_string()),
        },
        url("http", "a sink that hashes", "http", sink.url(), "", Way::Put),
        url("s3", "SeaweedFS", "s3", bucket, &keys, Way::S3),
        url("webdav", "nginx", "webdav", nginx.url(), "", Way::Put),
        url(
            "webdav-seaweed",
            "SeaweedFS",
            "webdav",
            format!("{}buckets/waybill/dav/", seaweed.webdav_url()),
            "",
            Way::Put,
        ),
        Peer {
            name: "sftp",
            server: "OpenSSH",
            section: testing::sftp_section(sshd, ([127, 0, 0, 1], sshd.port()).into(), sshd.private_key(), &sftp),
            way: Way::Ssh,
            to: Box::new(move |name| format!("{login} {}", sftp.join(name).display())),
        },
    ]
}

/// Prints the row of one kind.
async fn measure(args: &Args, system: &mut System, peer: &Peer) {
    let size = args.size_mib << 20;
    let gib = size as f64 / f64::from(1 << 30);
    let (mut speed, mut cost) = (Vec::new(), Vec::new());
    let pid = system.process("finaliser-0").pid();
    let watch = Watch::start(vec![("finaliser".to_owned(), pid)]);
    for number in 0..args.pairs {
        let name = format!("{}-{number}", peer.name);
        let (file, content) = system.store(&name, size).await;
        let bare = async || {
            let to = (peer.to)(&format!("bare-{name}"));
            let mongodb = (system.mongodb_uri(), system.database_name());
            let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
            command.args(Bare::arguments(peer.way, mongodb, (&file, size), &to));
            let begun = Instant::now();
            let output =
                tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("it runs");
            let seconds = begun.elapsed().as_secs_f64();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let cpu: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints its CPU seconds");
            (seconds, cpu)
        };
        let ours = async || {
            let before = watch.cpu();
            let begun = Instant::now();
            let body = json!({ "remote": peer.name });
            system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
            system.api.until_state(&file, "delivered").await;
            let seconds = begun.elapsed().as_secs_f64();
            let mut used = Usage::default();
            used.add(&before, &watch.cpu());
            (seconds, used.0["finaliser"])
        };
        // Turn about, so that neither always comes second.
        let ((our_seconds, our_cpu), (bare_seconds, bare_cpu));
        if number % 2 == 0 {
            (our_seconds, our_cpu) = ours().await;
            (bare_seconds, bare_cpu) = bare().await;
        } else {
            (bare_seconds, bare_cpu) = bare().await;
            (our_seconds, our_cpu) = ours().await;
        }
        let rate = |seconds| figures::mib_per_second(size, seconds);
        speed.push(Pair { ours: rate(our_seconds), theirs: rate(bare_seconds) });
        cost.push((our_cpu / gib, bare_cpu / gib));
        std::fs::remove_file(system.source().join(&name)).expect("the source can be removed");
    }
    let (ours, bare): (Vec<_>, Vec<_>) = cost.iter().copied().unzip();
    let ratios: Vec<_> = cost.iter().map(|(ours, bare)| ours / bare).collect();
    let peak = watch.peaks().get("finaliser").copied().unwrap_or_default() / 1024;
    let cpu = format!("{:.2} | {:.2} | {:.2}", median(&ours), median(&bare), median(&ratios));
    println!("| {} | {} | {} | {cpu} | {peak} |", peer.name, peer.server, row(&speed));
}
