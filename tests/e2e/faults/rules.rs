//! The checker itself: each of its rules goes red when what it guards is broken.

use contract::{Digest, FileId};
use harness::checker::{Case, Rule, Sent, Violation, check, sound};
use harness::{Content, Options, Sink, System};
use mongodb::bson::{Document, doc};

/// A system that has delivered one file to a sink and one to the folder, with everything that the checker needs.
struct Stage {
    system: System,
    sinks: Vec<(String, Sink)>,
    sent: Vec<Sent>,
}

impl Stage {
    async fn start() -> Self {
        let sink = Sink::start().await;
        let system = System::start(Options::with_sink(&sink.url())).await;
        let mut stage = Self { system, sinks: vec![("sink".into(), sink)], sent: Vec::new() };
        for (name, remote) in [("one", "sink"), ("two", "folder")] {
            let (file, content) = stage.system.send(name, 3 << 20, remote).await;
            stage.system.api.until_state(&file, "delivered").await;
            stage.sent.push(sent(&file, name, remote, content));
        }
        harness::until("all is told", async || stage.broken().await.is_empty().then_some(())).await;
        stage
    }

    async fn broken(&self) -> Vec<Violation> {
        let Self { system, sinks, sent } = self;
        check(&Case { system, sinks, sent, nats_lost: None, forgets: false }).await.unwrap()
    }

    /// Panics unless this rule, and no other, is broken now.
    async fn assert_only(&self, rule: Rule, says: &str) {
        let broken = self.broken().await;
        let only = !broken.is_empty() && broken.iter().all(|found| found.rule == rule);
        assert!(only && broken.iter().any(|found| found.what.contains(says)), "expected {rule} {says:?}: {broken:?}");
    }

    async fn files(&self) -> mongodb::Collection<Document> {
        self.system.stored().await.files()
    }

    fn id(&self, number: usize) -> mongodb::bson::Uuid {
        mongodb::bson::Uuid::from_bytes(*self.sent[number].id.as_bytes())
    }
}

fn sent(file: &str, name: &str, remote: &str, content: Content) -> Sent {
    Sent {
        id: file.parse().unwrap(),
        name: name.into(),
        remote: remote.into(),
        content,
        may_rest: false,
        refused: None,
        excuses: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_accounted_for_is_noticed() {
    let stage = Stage::start().await;
    let files = stage.files().await;
    let set = async |change: Document| files.update_one(doc! { "_id": stage.id(0) }, change).await.unwrap();
    set(doc! { "$set": { "receipt.sha256": Digest::of(b"another").to_string() } }).await;
    stage.assert_only(Rule::Accounted, "the receipt has SHA-256").await;
    set(doc! { "$set": { "receipt.sha256": stage.sent[0].content.sha256.to_string() } }).await;

    // A delivered file that is gone from the remote.
    let (path, aside) = (stage.system.remote().join("two"), stage.system.folder().join("two"));
    std::fs::rename(&path, &aside).unwrap();
    stage.assert_only(Rule::Accounted, "the remote does not have it").await;
    std::fs::rename(&aside, &path).unwrap();
    assert!(stage.broken().await.is_empty());

    // A file that failed for a reason that no fault of the run explains.
    let mut stage = stage;
    let (file, content) = stage.system.send("one", 3 << 20, "sink").await;
    stage.system.api.until_state(&file, "failed").await;
    let mut third = sent(&file, "one", "sink", content);
    stage.sent.insert(0, third.clone());
    harness::until("it is told", async || (stage.broken().await.len() == 1).then_some(())).await;
    stage.assert_only(Rule::Accounted, "it failed with \"remote-clash\"").await;
    third.excuses.push("remote-clash");
    stage.sent[0] = third;
    assert!(stage.broken().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_lost_or_that_nobody_asked_for_is_noticed() {
    let mut stage = Stage::start().await;
    let lost = stage.files().await.find_one_and_delete(doc! { "_id": stage.id(1) }).await.unwrap();
    let broken = stage.broken().await;
    assert!(broken.iter().any(|found| found.rule == Rule::Accounted && found.what.contains("no record")), "{broken:?}");
    stage.files().await.insert_one(lost.unwrap()).await.unwrap();
    assert!(stage.broken().await.is_empty());
    stage.sent.pop();
    let broken = stage.broken().await;
    assert!(broken.iter().any(|found| found.what.contains("no client was told so")), "{broken:?}");
    assert!(broken.iter().any(|found| found.rule == Rule::Equal && found.what.contains("nobody sent")), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_differ_and_what_is_left_aside_are_noticed() {
    let stage = Stage::start().await;
    let aside = stage.system.remote().join(".waybill/part");
    std::fs::write(&aside, "half").unwrap();
    stage.assert_only(Rule::Equal, "left aside").await;
    std::fs::remove_file(aside).unwrap();
    stage.sinks[0].1.place("/in/one", b"somebody else's");
    let broken = stage.broken().await;
    assert!(broken.iter().any(|found| found.rule == Rule::Equal && !found.may_pass), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_taken_twice_is_noticed() {
    let stage = Stage::start().await;
    let sink = &stage.sinks[0].1;
    let bytes = std::fs::read(stage.system.source().join("one")).unwrap();
    let remote = harness::Api::new(sink.url().trim_end_matches("/in/"));
    let again = remote.call("PUT", "/in/one", &[("if-none-match", "*")], bytes.clone()).await;
    assert_eq!(again.status, 412);
    assert!(stage.broken().await.is_empty(), "what is refused is not taken");
    remote.call("PUT", "/in/one", &[], bytes).await.expect(201);
    stage.assert_only(Rule::Once, "2 times whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_stuck_is_noticed() {
    let stage = Stage::start().await;
    let files = stage.files().await;
    let lease = doc! { "$set": { "lease": { "owner": "x", "worker": "x", "until": mongodb::bson::DateTime::now() } } };
    files.update_one(doc! { "_id": stage.id(0) }, lease).await.unwrap();
    stage.assert_only(Rule::Moving, "held: true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_outlives_its_file_or_generation_is_noticed() {
    let stage = Stage::start().await;
    let chunks = stage.system.stored().await.collection("chunks");
    let cases = [
        (FileId::generate(), 1, "the file is not recorded"),
        (stage.sent[0].id, 0, "a later generation counts"),
        (stage.sent[0].id, 2, "has not come to that generation"),
    ];
    for (file, generation, says) in cases {
        let id = testing::content_id(file, generation, Some(0));
        chunks.insert_one(doc! { "_id": id.clone(), "len": 1_i64 }).await.unwrap();
        stage.assert_only(Rule::Forgotten, says).await;
        chunks.delete_one(doc! { "_id": id }).await.unwrap();
    }
    assert!(stage.broken().await.is_empty());
    let Stage { system, sinks, sent } = &stage;
    let broken = check(&Case { system, sinks, sent, nats_lost: None, forgets: true }).await.unwrap();
    assert!(broken.iter().all(|found| found.rule == Rule::Forgotten && found.what.contains("retention")), "{broken:?}");
    assert_eq!(broken.is_empty(), chunks.count_documents(doc! {}).await.unwrap() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_missing_or_wrong_are_noticed() {
    let stage = Stage::start().await;
    let files = stage.files().await;
    files.update_one(doc! { "_id": stage.id(0) }, doc! { "$set": { "outbox": [{}] } }).await.unwrap();
    stage.assert_only(Rule::Told, "has 1 events left").await;
    files.update_one(doc! { "_id": stage.id(0) }, doc! { "$unset": { "outbox": 1 } }).await.unwrap();

    let jetstream = async_nats::jetstream::new(stage.system.nats().await);
    let stream = jetstream.get_stream(stage.system.names.events_stream()).await.unwrap();
    let first = stream.get_raw_message(1).await.unwrap();
    // First an event with a wrong version, then no event at all.
    let told = String::from_utf8(first.payload.to_vec()).unwrap();
    let odd = told.replace(":1\"", ":99\"").replace("\"version\":1,", "\"version\":99,");
    assert_ne!(odd, told);
    jetstream.publish(first.subject.clone(), odd.into()).await.unwrap().await.unwrap();
    stage.assert_only(Rule::Told, "may not follow").await;
    stream.purge().await.unwrap();
    stage.assert_only(Rule::Told, "there is no event of").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_missing_is_noticed_by_the_doctor() {
    let stage = Stage::start().await;
    assert_eq!(sound(&stage.system), []);
    let (file, _) = stage.system.store("three", 3 << 20).await;
    harness::until("all is told", async || sound(&stage.system).is_empty().then_some(())).await;
    let chunks = stage.system.stored().await.collection("chunks");
    chunks.find_one_and_delete(doc! {}).sort(doc! { "_id": -1 }).await.unwrap();
    let broken = sound(&stage.system);
    assert!(broken.iter().any(|found| found.rule == Rule::Sound && found.what.contains(&file)), "{broken:?}");
}
