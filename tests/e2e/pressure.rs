//! A dead remote, a full disk: slow work waits, and stops nothing else.

use harness::run::SmallDisk;
use harness::{Behaviour, Options, Sink, System, Variable, until};
use servers::{MIN_CACHE_MIB, Mongo, MongoOptions};

const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_remote_stops_no_other() {
    let sink = Sink::start().await;
    let mut options = Options::with_sink(&sink.url());
    options.toml.push_str("[finaliser]\nconcurrency = 2\nper_remote = 1\n");
    let system = System::start(options).await;
    sink.behave(Behaviour::StallAfter(0));
    let mut dead = Vec::new();
    for number in 0..12 {
        dead.push(system.send(&format!("dead-{number}"), 10_000, "sink").await.0);
    }
    until("the remote has one, and keeps it waiting", async || (!sink.puts().is_empty()).then_some(())).await;

    for number in 0..3 {
        let name = format!("alive-{number}");
        let (file, _) = system.send(&name, MIB, "folder").await;
        system.api.until_state(&file, "delivered").await;
        system.assert_arrived(&name, &name);
    }
    assert_eq!(sink.puts().len(), 1, "the dead remote was given no more than one at a time");

    // The idle timeout ends the delivery that hangs; the others have lost nothing by waiting.
    sink.behave(Behaviour::Take);
    for file in &dead[1..] {
        let delivered = system.api.until_state(file, "delivered").await;
        assert_eq!(delivered["attempts"], 1, "waiting for a place is no attempt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_remotes_that_hang_leave_slots_for_a_third() {
    let (one, two) = (Sink::start().await, Sink::start().await);
    let more = format!("[remotes.other]\nkind = \"http\"\nurl = {:?}\n", two.url());
    let system = System::start(Options::with_sink(&one.url()).toml(&more)).await;
    for sink in [&one, &two] {
        sink.behave(Behaviour::StallAfter(0));
    }
    for number in 0..8 {
        for remote in ["sink", "other"] {
            system.send(&format!("{remote}-{number}"), 10_000, remote).await;
        }
    }
    // Six of the eight slots, or seven if all of the six went to one remote.
    let held = || one.puts().len() + two.puts().len();
    until("the remotes have what they get", async || (held() >= 6).then_some(())).await;
    system.send("alive", MIB, "folder").await;
    until("the third remote has its file", async || system.arrived().contains(&"alive".to_owned()).then_some(())).await;
    assert!(held() <= 7, "{} deliveries hang", held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_stops_new_files_slows_the_others_and_fails_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(folder.path(), 2048) {
        Ok(disk) => disk,
        Err(why) if std::env::var_os("CI").is_none() => return eprintln!("NOT TESTED on this machine: {why}"),
        Err(why) => panic!("{why}"),
    };
    let mut options = MongoOptions::new(folder.path().join("mongod"), MIN_CACHE_MIB);
    options.die_with_parent = true;
    let mongo = Mongo::start(options).await.unwrap();
    let floor = |process, section: &str, bytes: u64| {
        Variable::new(process, &format!("WAYBILL__{section}__FREE_SPACE_FLOOR"), bytes.to_string())
    };
    let system = System::start(Options {
        mongodb_uri: Some(mongo.uri()),
        environment: vec![floor("gateway", "GATEWAY", 240 * MIB), floor("store", "STORE", 200 * MIB)],
        ..Options::default()
    })
    .await;
    let (before, _) = system.send("before", MIB, "folder").await;
    system.api.until_state(&before, "delivered").await;

    // There is room for the file above the gateway's floor. But MongoDB writes everything three times, to its journal, its
    // oplog and the collection: this file would fill the disk, and that would end MongoDB.
    disk.fill_but(460 * MIB).unwrap();
    let (file, _) = system.send("large", 200 * MIB, "folder").await;
    let refused = until("a new file is refused", async || {
        let answer = system.api.prepare("before").await;
        (answer.status == 507).then_some(answer)
    })
    .await;
    assert_eq!(refused.problem(), "insufficient-storage");
    until("the disk is full as far as the store goes", async || (disk.free() < 200 * MIB).then_some(())).await;
    let waiting = system.api.file(&file).await;
    assert_eq!((&waiting["state"], &waiting["error"]), (&"chunking".into(), &serde_json::Value::Null));

    disk.clear();
    let delivered = system.api.until_state(&file, "delivered").await;
    assert_eq!((&delivered["attempts"], &delivered["generation"]), (&1.into(), &1.into()), "nothing failed");
    system.assert_arrived("large", "large");
    assert_eq!(system.api.prepare("before").await.status, 201);
}
