//! Many small files, beside a peer that moves the same files with as many at once.

use std::path::{Path, PathBuf};
use std::time::Instant;

use contract::EventKind;
use futures_util::{StreamExt, stream};
use harness::{Content, System};
use mongodb::bson::{Document, doc};
use serde_json::json;

use crate::await_event;
use crate::figures::{Pair, Usage, Watch, row};
use crate::peers::Peers;
use crate::rclone::Rclone;

/// Bytes of a small file.
pub(crate) const SIZE: u64 = 10 * 1024;

/// One row of the table.
pub(crate) struct Row {
    /// The remote of the system.
    pub(crate) remote: &'static str,
    /// Files that the clients of both sides have under way at once.
    pub(crate) clients: usize,
    /// Who moves the same files.
    pub(crate) peer: Peer,
}

/// Who moves the same files.
pub(crate) enum Peer {
    /// GridFS: upload and download of each file by the Rust driver.
    GridFs,
    /// rclone, from the folder of the sources to the same server.
    Rclone(Rclone),
}

/// Prints the row: files a second of both, and what a file costs.
pub(crate) async fn measure(system: &System, watch: &Watch, row_of: &Row, files: usize, pairs: usize) {
    let mut speed = Vec::new();
    let mut cpu = Usage::default();
    let mut commands = 0.0;
    for number in 0..pairs {
        let folder = format!("small-{}-{}-{number}", row_of.remote, row_of.clients);
        let sources = write_sources(system, &folder, files);
        let ours = async |cpu: &mut Usage, commands: &mut f64| {
            let (before, commands_before) = (watch.cpu(), commands_of(system).await);
            let seconds = waybill(system, row_of, &sources).await;
            cpu.add(&before, &watch.cpu());
            *commands += commands_of(system).await - commands_before;
            seconds
        };
        let theirs = async || match &row_of.peer {
            Peer::GridFs => gridfs(system, row_of.clients, &sources).await,
            Peer::Rclone(rclone) => rclone.copy(&system.source().join(&folder), &folder).await,
        };
        // Turn about, so that neither always comes second.
        let (our_seconds, their_seconds);
        if number % 2 == 0 {
            our_seconds = ours(&mut cpu, &mut commands).await;
            their_seconds = theirs().await;
        } else {
            their_seconds = theirs().await;
            our_seconds = ours(&mut cpu, &mut commands).await;
        }
        let rate = |seconds| files as f64 / seconds;
        speed.push(Pair { ours: rate(our_seconds), theirs: rate(their_seconds) });
        eprintln!("{folder}: {:?}", speed.last());
        std::fs::remove_dir_all(system.source().join(&folder)).expect("the sources can be removed");
    }
    let all = (files * pairs) as f64;
    let each: Vec<_> = cpu.0.iter().map(|(name, seconds)| format!("{name} {:.1}", seconds * 1000.0 / all)).collect();
    let total = cpu.0.values().sum::<f64>() * 1000.0 / all;
    let peer = match &row_of.peer {
        Peer::GridFs => "GridFS upload and download",
        Peer::Rclone(_) => "rclone copy",
    };
    println!(
        "| {}, {} clients : {peer} | {} | {total:.1} ({}) | {:.1} |",
        row_of.remote,
        row_of.clients,
        row(&speed),
        each.join(", "),
        commands / all
    );
}

/// A source beneath the root: its path there, the whole path, and what is in it.
struct Source {
    relative: String,
    path: PathBuf,
    content: Content,
}

fn write_sources(system: &System, folder: &str, files: usize) -> Vec<Source> {
    std::fs::create_dir(system.source().join(folder)).expect("a folder can be made");
    let write = |number| {
        let relative = format!("{folder}/{number}");
        Source { content: system.write(&relative, SIZE), path: system.source().join(&relative), relative }
    };
    (0..files).map(write).collect()
}

/// Seconds from the first request to the event of the last delivery.
async fn waybill(system: &System, row: &Row, sources: &[Source]) -> f64 {
    let mut events = system.nats().await.subscribe(system.names.events()).await.expect("events can be watched");
    let begun = Instant::now();
    let requests = stream::iter(sources)
        .map(|source| async move {
            let file = system.api.prepare(&source.relative).await.expect(201).file_id();
            let body = json!({ "remote": row.remote, "filename": source.relative.replace('/', "-") });
            system.api.finalise(&file, &source.content.sha256.to_string(), &body).await.expect(202);
        })
        .buffer_unordered(row.clients)
        .collect::<Vec<()>>();
    let deliveries = async {
        for _ in sources {
            await_event(&mut events, EventKind::Delivered).await;
        }
    };
    tokio::join!(requests, deliveries);
    begun.elapsed().as_secs_f64()
}

/// Seconds of the upload and the download of each file.
async fn gridfs(system: &System, clients: usize, sources: &[Source]) -> f64 {
    let peers = Peers::new(&system.database().await);
    let begun = Instant::now();
    stream::iter(sources)
        .map(|source| async {
            let (_, id) = peers.upload(&source.path).await;
            peers.download(&id, SIZE).await;
        })
        .buffer_unordered(clients)
        .collect::<Vec<()>>()
        .await;
    let seconds = begun.elapsed().as_secs_f64();
    peers.clear().await;
    seconds
}

/// Commands that mongod has executed so far, but for those that every idle member and this question make.
async fn commands_of(system: &System) -> f64 {
    let status = system.database().await.run_command(doc! { "serverStatus": 1 }).await.expect("mongod answers");
    let counters = status.get_document("opcounters").cloned().unwrap_or_default();
    let count = |name: &str| number(&counters, name);
    ["insert", "query", "update", "delete", "getmore", "command"].into_iter().map(count).sum()
}

fn number(document: &Document, name: &str) -> f64 {
    document.get_i64(name).map(|count| count as f64).or_else(|_| document.get_i32(name).map(f64::from)).unwrap_or(0.0)
}

/// The table's head.
pub(crate) fn head(files: usize, pairs: usize) {
    println!("\n{files} files of 10 KiB, request to delivered, {pairs} interleaved pairs, medians, files a second:\n");
    println!("| remote : peer | Waybill | peer | ratio | CPU ms a file, all processes | operations of mongod a file |");
    println!("|---|---|---|---|---|---|");
}

/// Whether a program is on the path.
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file())
}
