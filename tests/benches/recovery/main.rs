//! How long the pipeline takes to go on after something was lost, with the default settings.
//!
//! `cargo bench -p tests --bench recovery` prints the table that `docs/reliability.md` keeps. A benchmark never fails a build.
#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::time::{Duration, Instant};

use clap::Parser;
use contract::Role;
use harness::run::{Pair, Server};
use harness::{Behaviour, Options, Proxy, Sink, System, Variable, until};
use rustix::process::Signal;

const MIB: u64 = 1024 * 1024;

/// How long a server stays away: longer than its clients wait for an answer, and than a lease.
const AWAY: Duration = Duration::from_secs(20);

#[derive(Debug, Parser)]
struct Args {
    /// How often each is lost
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    harness::without_failpoints();
    println!("| lost | goes on after, median s | longest s |\n|---|---|---|");
    let mut spans = Vec::new();
    for _ in 0..args.rounds {
        spans.push(chunker_killed().await);
    }
    row("`kill -9` of a chunker, its file goes on at another", spans);
    let mut spans = Vec::new();
    for _ in 0..args.rounds {
        spans.push(finaliser_killed().await);
    }
    row("`kill -9` of a finaliser, its file goes on at another", spans);
    for (server, what) in [
        (Server::Nats, "nats-server for 20 s, from its return to a file half stored and a new one done"),
        (Server::Mongo, "mongod for 20 s, likewise"),
    ] {
        let mut spans = Vec::new();
        for _ in 0..args.rounds {
            spans.push(server_away(server).await);
        }
        row(what, spans);
    }
}

fn row(what: &str, mut spans: Vec<Duration>) {
    spans.sort();
    let seconds = |span: Option<&Duration>| span.map_or(f64::NAN, Duration::as_secs_f64);
    println!("| {what} | {:.1} | {:.1} |", seconds(spans.get(spans.len() / 2)), seconds(spans.last()));
}

/// With the settings' own times, which the harness shortens otherwise.
fn options(pair: &Pair, sink: &Sink) -> Options {
    Options {
        nats_url: Some(pair.nats_url()),
        mongodb_uri: Some(pair.mongodb_uri()),
        environment: [("WORK__SWEEP_MS", "3000"), ("RETRY__FIRST_MS", "2000"), ("RETRY__MAX_MS", "900000")]
            .map(|(key, value)| Variable::new("", &format!("WAYBILL__{key}"), value))
            .into(),
        ..Options::with_sink(&sink.url())
    }
}

/// A system whose chunkers send one MiB a second, with a file that is being chunked.
async fn chunking(pair: &Pair, sink: &Sink) -> (System, Proxy, String) {
    let (system, slow) = System::start_with_line(options(pair, sink), "chunker", Some(MIB)).await;
    let (file, _) = system.send("chunking", 48 * MIB, "folder").await;
    until("it is held", async || system.api.file(&file).await["holder"].as_str().map(str::to_owned)).await;
    (system, slow, file)
}

async fn chunker_killed() -> Duration {
    let (pair, sink) = (Pair::start().await.expect("servers start"), Sink::start().await);
    let (mut system, _slow, file) = chunking(&pair, &sink).await;
    let holder = system.api.file(&file).await["holder"].clone();
    system.start_service(Role::Chunker, 1);
    system.until_registered(5).await;
    system.process("chunker-0").signal(Signal::KILL);
    let killed = Instant::now();
    until("another has it", async || {
        let now = system.api.file(&file).await["holder"].clone();
        (now.is_string() && now != holder).then_some(())
    })
    .await;
    killed.elapsed()
}

async fn finaliser_killed() -> Duration {
    let (pair, sink) = (Pair::start().await.expect("servers start"), Sink::start().await);
    let mut options = options(&pair, &sink);
    options.workers = [(Role::Chunker, 1), (Role::Store, 1), (Role::Finaliser, 1)];
    let mut system = System::start(options).await;
    sink.plan("sent", &[Behaviour::StallAfter(MIB)]);
    system.send("sent", 4 * MIB, "sink").await;
    until("it is being sent", async || (sink.puts().len() == 1).then_some(())).await;
    system.start_service(Role::Finaliser, 1);
    system.until_registered(5).await;
    system.process("finaliser-0").signal(Signal::KILL);
    let killed = Instant::now();
    until("another sends it", async || (sink.puts().len() == 2).then_some(())).await;
    killed.elapsed()
}

async fn server_away(server: Server) -> Duration {
    let (mut pair, sink) = (Pair::start().await.expect("servers start"), Sink::start().await);
    let (system, slow, file) = chunking(&pair, &sink).await;
    system.write("new", MIB);
    pair.kill(server).await.expect("it is killed");
    tokio::time::sleep(AWAY).await;
    slow.pace(None);
    pair.start_again(server).await.expect("it starts again");
    let back = Instant::now();
    let new = system.api.until_prepared("new").await;
    system.api.until_state(&file, "delivered").await;
    system.api.until_state(&new, "stored").await;
    back.elapsed()
}
