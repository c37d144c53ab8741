//! The hops that matter most, one by one: a process dies or freezes there, and the next one goes on.

use std::os::unix::fs::FileExt;

use contract::Role;
use harness::run::SmallDisk;
use harness::{Behaviour, Options, Sink, System, Variable, until};
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use serde_json::json;

use crate::operator::waybill;

const MIB: u64 = 1024 * 1024;

/// A lease of 2 s, and an idle timeout of 6 s for the remote.
fn options(sink: &Sink) -> Options {
    Options { work: "lease_ms = 2000".into(), ..with_idle_timeout(sink, 6_000) }
}

fn with_idle_timeout(sink: &Sink, millis: u32) -> Options {
    Options::with_sink(&sink.url()).toml(&format!("idle_timeout_ms = {millis}\n"))
}

/// The record without the fields that its holder may write at any time.
async fn record(system: &System, file: &str) -> Document {
    let mut found = system.stored().await.document(file).await;
    for name in ["progress", "due_at", "outbox", "outbox_at", "hint_refusals"] {
        found.remove(name);
    }
    if let Ok(lease) = found.get_document_mut("lease") {
        lease.remove("until");
    }
    found
}

async fn chunks(system: &System) -> Vec<Document> {
    use futures_util::TryStreamExt;
    let chunks = system.stored().await.collection("chunks");
    let found = chunks.find(doc! {}).projection(doc! { "sha256": 1 }).sort(doc! { "_id": 1 }).await.unwrap();
    found.try_collect().await.unwrap()
}

async fn until_it_stops(system: &mut System, process: &str) {
    until(&format!("{process} stops"), async || system.process(process).log().contains("; stopping").then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finaliser_that_wakes_while_another_has_the_file_changes_nothing() {
    let sink = Sink::start().await;
    let mut system = System::start(options(&sink)).await;
    sink.plan("frozen", &[Behaviour::StallAfter(4 * MIB); 2]);
    let (file, content) = system.send("frozen", 12 * MIB, "sink").await;
    until("it is being sent", async || (sink.puts().len() == 1).then_some(())).await;
    system.process("finaliser-0").signal(Signal::STOP);
    system.start_service(Role::Finaliser, 1);
    until("another sends it", async || (sink.puts().len() == 2).then_some(())).await;

    let before = record(&system, &file).await;
    assert_eq!(before.get_i64("epoch").unwrap(), 3, "one claim to chunk, two to deliver: {before}");
    system.process("finaliser-0").signal(Signal::CONT);
    until_it_stops(&mut system, "finaliser-0").await;
    assert_eq!(record(&system, &file).await, before, "the woken one wrote to a file that is not its own");

    let delivered = system.api.until_state(&file, "delivered").await;
    assert_eq!(delivered["receipt"]["attempts"], 2);
    let kept = sink.puts().iter().filter(|put| put.kept).count();
    assert_eq!((kept, sink.object("/in/frozen")), (1, Some((content.size, content.sha256))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunker_that_wakes_after_another_has_stored_the_file_changes_nothing() {
    let options = Options { work: "lease_ms = 2000".into(), files: "chunk_size = 65536".into(), ..Options::default() };
    let (mut system, _slow) = System::start_with_line(options, "chunker-0", Some(MIB)).await;
    let content = system.write("frozen", 6 * MIB);
    let file = system.api.prepare("frozen").await.expect(201).file_id();
    until("some chunks are stored", async || (chunks(&system).await.len() > 3).then_some(())).await;
    system.process("chunker-0").signal(Signal::STOP);
    system.start_service(Role::Chunker, 1);
    system.api.until_state(&file, "stored").await;

    let (before, stored) = (record(&system, &file).await, chunks(&system).await);
    assert_eq!(stored.len(), 6 * 16);
    system.process("chunker-0").signal(Signal::CONT);
    until_it_stops(&mut system, "chunker-0").await;
    assert_eq!(record(&system, &file).await, before, "the woken one wrote to a file that is not its own");
    assert_eq!(chunks(&system).await, stored);
    system.api.finalise(&file, &content.sha256.to_string(), &json!({})).await.expect(202);
    system.api.until_state(&file, "delivered").await;
    system.assert_arrived("frozen", "frozen");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_default_settings_a_file_goes_on_after_a_kill() {
    let sink = Sink::start().await;
    let options = with_idle_timeout(&sink, 60_000);
    let (mut system, _slow) = System::start_with_line(options, "chunker-0", Some(MIB)).await;
    sink.plan("delivering", &[Behaviour::StallAfter(MIB)]);
    let (delivering, _) = system.send("delivering", 3 * MIB, "sink").await;
    until("it is being sent", async || (sink.puts().len() == 1).then_some(())).await;
    system.write("chunking", 24 * MIB);
    let chunking = system.api.prepare("chunking").await.expect(201).file_id();
    until("it is being stored", async || (chunks(&system).await.len() > 5).then_some(())).await;

    for process in ["chunker-0", "finaliser-0"] {
        system.process(process).kill();
    }
    system.start_service(Role::Chunker, 1);
    system.start_service(Role::Finaliser, 1);
    // The benchmark `recovery` measures how long it takes.
    system.api.until_state(&chunking, "stored").await;
    system.api.until_state(&delivering, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_remote_has_ends_as_delivered_even_if_it_is_cancelled() {
    let sink = Sink::start().await;
    for (name, size) in [("small", 1000), ("large", 20 * MIB)] {
        let options = options(&sink);
        let mut system = System::prepare(&options).await;
        // It dies when the remote has the file, before it records that.
        system.environment.push(Variable::new("finaliser-0", "FAILPOINTS", "finaliser-after-send=return"));
        system.start_services(&options).await;
        let (file, content) = system.send(name, size, "sink").await;
        system.process("finaliser-0").wait();
        assert_eq!(sink.object(&format!("/in/{name}")), Some((content.size, content.sha256)));
        waybill(&system, &["files", "cancel", &file]).await;
        let files = system.stored().await.files();
        let wishes = files.count_documents(doc! { "cancel_requested": true }).await.unwrap();
        assert_eq!(wishes, 1, "it is to be cancelled");
        system.start_service(Role::Finaliser, 1);
        system.api.until_state(&file, "delivered").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_412_to_an_earlier_success_of_ours_is_a_success() {
    let sink = Sink::start().await;
    let system = System::start(with_idle_timeout(&sink, 500)).await;
    sink.plan("unseen", &[Behaviour::TakeUnseen]);
    let (file, content) = system.send("unseen", 3 * MIB, "sink").await;
    let file = system.api.until_state(&file, "delivered").await;
    let puts: Vec<_> = sink.puts().iter().map(|put| (put.kept, put.status)).collect();
    assert_eq!(puts, [(true, None), (false, Some(412))]);
    assert_eq!(sink.object("/in/unseen"), Some((content.size, content.sha256)));
    assert_eq!(file["receipt"]["remote"]["proof"], "digest");
    assert_eq!(file["receipt"]["guarantee"], "exactly-once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_keeps_changing_is_given_up_and_never_mixed() {
    // Small chunks: the chunker reads only a little ahead of slow requests, so reading the file takes seconds.
    let options = Options { files: "chunk_size = 65536".into(), ..Options::default() };
    let (system, _slow) = System::start_with_line(options, "chunker-0", Some(MIB)).await;
    system.write("restless", 6 * MIB);
    let file = system.api.prepare("restless").await.expect(201).file_id();
    let source = std::fs::File::options().write(true).open(system.source().join("restless")).unwrap();
    let mut writes = 0_u64;
    let failed = until("it is given up", async || {
        source.write_all_at(&writes.to_be_bytes(), writes % (6 * MIB - 8)).unwrap();
        writes += 1;
        let found = system.api.file(&file).await;
        assert_ne!(found["state"], "stored", "a reading was believed in which the source changed");
        (found["state"] == "failed").then_some(found)
    });
    let failed = failed.await;
    assert_eq!(failed["error"]["type"], "/problems/source-changed");
    let detail = failed["error"]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("expected a source that stands still, found that its "), "{detail}");
    assert_eq!(failed["attempts"], 4, "as often as any other attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_remote_fails_nothing_and_is_waited_out() {
    let options = Options { attempts: 10_000, ..Options::default() };
    let mut system = System::prepare(&options).await;
    let disk = match SmallDisk::mount(&system.remote(), 160) {
        Ok(disk) => disk,
        Err(error) if std::env::var_os("CI").is_none() => return eprintln!("NOT TESTED on this machine: {error}"),
        Err(error) => panic!("{error}"),
    };
    disk.fill().unwrap();
    system.start_services(&options).await;
    let (file, _) = system.send("waits", 3 * MIB, "folder").await;
    let waiting = until("the file waits, with the reason", async || {
        let found = system.api.file(&file).await;
        assert!(found["state"] != "failed", "{found:#}");
        (found["phase"] == "waiting" && !found["error"].is_null()).then_some(found)
    });
    let waiting = waiting.await;
    let detail = waiting["error"]["detail"].as_str().unwrap_or_default().to_lowercase();
    assert!(detail.contains("no space left"), "{detail}");
    disk.clear();
    system.api.until_state(&file, "delivered").await;
    system.assert_arrived("waits", "waits");
    let asides = std::fs::read_dir(system.remote().join(".waybill")).map_or(0, Iterator::count);
    assert_eq!(asides, 0, "what was written before is removed");
    system.processes.clear();
    drop(disk);
}
