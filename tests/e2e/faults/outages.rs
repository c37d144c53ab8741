//! NATS and MongoDB go away and come back, with and without their data. No service is started again.

use std::time::{Duration, Instant};

use harness::run::{Pair, Server};
use harness::{Behaviour, Options, Sink, System, until};
use serde_json::json;

use super::ALONE;

const MIB: u64 = 1024 * 1024;

fn on(pair: &Pair, sink: &Sink, more: &str) -> Options {
    Options {
        work: "lease_ms = 3000".into(),
        nats_url: Some(pair.nats_url()),
        mongodb_uri: Some(pair.mongodb_uri()),
        ..Options::with_sink(&sink.url()).toml("idle_timeout_ms = 4000\n").toml(more)
    }
}

fn pids(system: &System) -> Vec<u32> {
    system.processes.iter().map(|(_, process)| process.pid()).collect()
}

fn assert_same_processes(system: &mut System, before: &[u32]) {
    assert_eq!(pids(system), before, "a service was started again");
    for (name, process) in &mut system.processes {
        assert!(process.is_running(), "{name} ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nats_data_deleted_while_files_are_in_every_state_none_is_lost() {
    let _alone = ALONE.lock().await;
    let mut pair = Pair::start().await.unwrap();
    let sink = Sink::start().await;
    // One at a time, so that the second file stays prepared while the first is chunked.
    let options = on(&pair, &sink, "[chunker]\nconcurrency = 1\n");
    let (mut system, slow) = System::start_with_line(options, "chunker", None).await;
    let before = pids(&system);

    let (delivered, _) = system.send("delivered", MIB, "folder").await;
    system.api.until_state(&delivered, "delivered").await;
    let (failed, _) = system.send("delivered", MIB, "folder").await;
    system.api.until_state(&failed, "failed").await;
    let (resting, resting_content) = system.store("resting", MIB).await;
    sink.plan("delivering", &[Behaviour::StallAfter(MIB)]);
    let (delivering, _) = system.send("delivering", 4 * MIB, "sink").await;
    until("it is being sent", async || (sink.puts().len() == 1).then_some(())).await;
    slow.pace(Some(MIB));
    let (chunking, _) = system.send("chunking", 12 * MIB, "folder").await;
    system.api.until_state(&chunking, "chunking").await;
    let (prepared, _) = system.send("prepared", MIB, "folder").await;

    pair.kill(Server::Nats).await.unwrap();
    pair.lose_nats().unwrap();
    let states = [&prepared, &chunking, &resting, &delivering, &delivered, &failed];
    for (file, state) in states.iter().zip(["prepared", "chunking", "stored", "delivering", "delivered", "failed"]) {
        assert_eq!(system.api.file(file).await["state"], state);
    }
    pair.start_again(Server::Nats).await.unwrap();
    slow.pace(None);

    let hash = resting_content.sha256.to_string();
    system.api.finalise(&resting, &hash, &json!({})).await.expect(202);
    for file in [&prepared, &chunking, &resting, &delivering, &delivered] {
        system.api.until_state(file, "delivered").await;
    }
    for name in ["prepared", "chunking", "resting"] {
        system.assert_arrived(name, name);
    }
    assert_eq!(sink.puts().iter().filter(|put| put.kept).count(), 1);
    assert_eq!(system.api.file(&failed).await["state"], "failed");
    assert_same_processes(&mut system, &before);
}

/// Kills and restarts the server while a file is half stored, and waits until that file and a new one go on. The benchmark
/// `recovery` measures how long it takes.
async fn goes_on_after(server: Server) {
    let _alone = ALONE.lock().await;
    let mut pair = Pair::start().await.unwrap();
    let sink = Sink::start().await;
    let options = on(&pair, &sink, "");
    let (mut system, slow) = System::start_with_line(options, "chunker", Some(MIB)).await;
    let before = pids(&system);
    let (chunking, _) = system.send("chunking", 4 * MIB, "folder").await;
    system.api.until_state(&chunking, "chunking").await;
    system.write("new", MIB);

    pair.kill(server).await.unwrap();
    // Longer than any client waits for an answer.
    let away = Instant::now();
    until("it was away for a while", async || (away.elapsed() > Duration::from_secs(6)).then_some(())).await;
    slow.pace(None);
    pair.start_again(server).await.unwrap();
    let new = system.api.until_prepared("new").await;
    system.api.until_state(&chunking, "delivered").await;
    system.api.until_state(&new, "stored").await;
    system.assert_arrived("chunking", "chunking");
    assert_same_processes(&mut system, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_goes_on_when_nats_is_back() {
    goes_on_after(Server::Nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_goes_on_when_mongodb_is_back() {
    goes_on_after(Server::Mongo).await;
}
