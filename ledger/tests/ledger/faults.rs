//! What MongoDB says is wrong: an outage is told apart from a document that it does not take or that cannot be read.

use std::time::Duration;

use contract::{ChunkNumber, Generation, State};
use ledger::{ClaimRequest, GenerationOptions, Layout, Ledger, LedgerError, LedgerOptions};
use mongodb::Database;
use mongodb::bson::{Bson, doc};
use testing::{Sandbox, binary, bytes, own_mongo, until};

use crate::stage::{self, Stage, chunk, problem};

/// MongoDB takes documents of up to 16 MiB.
const LARGEST: usize = 16 << 20;

#[tokio::test]
async fn a_document_that_grows_too_large_is_no_outage() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let padding = doc! { "$set": { "padding": binary(vec![0; LARGEST - 3_000]) } };
    // mongod's small cache may have no room for it at once.
    until("the record is large", async || {
        stage.files().update_one(testing::by_id(held.lease.file), padding.clone()).await.ok()
    })
    .await;
    let mut long = problem();
    long.detail = "x".repeat(4_000);
    for error in [
        stage.ledger.record_retry(&held.lease, &long, Duration::ZERO).await.unwrap_err(),
        stage.ledger.record_failed(&held.lease, &long).await.unwrap_err(),
    ] {
        assert!(error.is_refusal() && !error.is_corrupt_data(), "{error:?}");
        assert!(error.to_string().len() < 1_000, "{error}");
    }
    // A smaller one has room.
    stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_document_that_breaks_a_rule_or_has_a_wrong_type_is_no_outage() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let rule = doc! { "collMod": "files", "validator": { "state": { "$ne": "failed" } } };
    stage.db.run_command(rule).await.unwrap();
    let error = stage.ledger.record_failed(&held.lease, &problem()).await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    stage.change(held.lease.file, vec![doc! { "$set": { "outbox": "none" } }]).await;
    let error = stage.ledger.record_failed(&held.lease, &problem()).await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
}

#[tokio::test]
async fn a_chunk_that_cannot_be_read_is_no_outage() {
    let stage = Stage::set().await;
    let file = stage.chunking(3).await.lease.file;
    stage.ledger.put_children(vec![chunk(file, Generation::FIRST, 0, bytes(3, 1))]).await.unwrap();
    stage.change_chunk(file, 0, |chunk| drop(chunk.insert("sha256", binary(vec![1, 2, 3])))).await;
    let (from, layout) = (ChunkNumber(0), Layout::Children);
    let error = stage.ledger.read_chunks(file, Generation::FIRST, layout, from, 1).await.unwrap_err();
    assert!(error.is_corrupt_data() && error.to_string().contains("32 bytes"), "{error:?}");
    stage.change_chunk(file, 0, |chunk| drop(chunk.insert("len", Bson::Null))).await;
    let error = stage.ledger.read_proofs(file, Generation::FIRST, layout, from, 1).await.unwrap_err();
    assert!(error.is_corrupt_data(), "{error:?}");
}

const CONNECTIONS: u32 = 4;

/// A mongod that is made to hang, and a ledger on it that waits 2 s.
struct Hanging {
    admin: Database,
    ledger: Ledger,
}

impl Hanging {
    async fn at(uri: &str) -> Self {
        let options = LedgerOptions {
            uri: uri.to_owned(),
            app_name: "piles-up".into(),
            pool_size: CONNECTIONS,
            operation_timeout: Duration::from_secs(2),
            ..stage::options(&Sandbox::new().await)
        };
        let admin = mongodb::Client::with_uri_str(uri).await.unwrap().database("admin");
        Self { ledger: Ledger::connect(&options).await.unwrap(), admin }
    }

    /// How many operations of the ledger MongoDB works on.
    async fn at_work(&self) -> u32 {
        let ours = doc! { "appName": "piles-up", "active": true, "command.hello": { "$exists": false } };
        let mut found = self.admin.aggregate([doc! { "$currentOp": {} }, doc! { "$match": ours }]).await.unwrap();
        let mut count = 0;
        while found.advance().await.unwrap() {
            count += 1;
        }
        count
    }

    async fn until_nothing_is_at_work(&self) {
        until("MongoDB has given up all operations", async || (self.at_work().await == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_mongodb_cannot_begin_do_not_pile_up() {
    let mongo = own_mongo().await;
    let hanging = Hanging::at(&mongo.uri()).await;
    let file = testing::new_file(3);
    hanging.ledger.create(file.clone()).await.unwrap();
    // Every write now waits for a lock.
    hanging.admin.run_command(doc! { "fsync": 1, "lock": true }).await.unwrap();
    let writing: Vec<_> = (0..40)
        .map(|number| {
            let (ledger, known) = (hanging.ledger.clone(), file.id);
            tokio::spawn(async move {
                match number % 2 {
                    0 => ledger.create(testing::new_file(3)).await.map(drop),
                    _ => ledger.cancel(known).await.map(drop),
                }
            })
        })
        .collect();
    let mut most = 0;
    for write in writing {
        most = most.max(hanging.at_work().await);
        let error = write.await.unwrap().unwrap_err();
        assert!(!error.is_refusal() && !error.is_corrupt_data(), "{error:?}");
    }
    assert!(most <= CONNECTIONS, "{most} operations at once");
    hanging.until_nothing_is_at_work().await;
    hanging.admin.run_command(doc! { "fsyncUnlock": 1 }).await.unwrap();
    hanging.ledger.create(testing::new_file(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_mongodb_gives_a_write_up_before_its_caller_does() {
    let mongo = own_mongo().await;
    let hanging = Hanging::at(&mongo.uri()).await;
    let file = testing::new_file(3);
    hanging.ledger.create(file.clone()).await.unwrap();
    // A second member that does not exist; without elections the first one stays primary, as it would with an arbiter.
    let config = hanging.admin.run_command(doc! { "replSetGetConfig": 1 }).await.unwrap();
    let mut config = config.get_document("config").unwrap().clone();
    config.insert("version", config.get_i32("version").unwrap() + 1);
    config.get_document_mut("settings").unwrap().insert("electionTimeoutMillis", 600_000);
    config.get_array_mut("members").unwrap().push(doc! { "_id": 1, "host": "127.0.0.1:1" }.into());
    hanging.admin.run_command(doc! { "replSetReconfig": config, "force": true }).await.unwrap();

    let error = hanging.ledger.create(testing::new_file(3)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Mongo { .. }), "MongoDB says so itself: {error:?}");
    // The primary has taken the claim all the same. It is given back, because nobody holds the file.
    let request = ClaimRequest { file: file.id, worker: "worker", lease: Duration::from_secs(60) };
    let options = GenerationOptions { chunk_size: 65_536, embed_limit: 0 };
    hanging.ledger.claim_chunking(&request, options).await.unwrap_err();
    let record = hanging.ledger.file(file.id).await.unwrap().unwrap();
    assert_eq!((record.state, record.attempts(), record.holder()), (State::Chunking, 0, None));
    hanging.until_nothing_is_at_work().await;
    hanging.ledger.ping().await.unwrap();
}

#[test]
fn a_failed_batch_is_about_what_its_error_is_about() {
    let refused = LedgerError::Refused { operation: "writing", detail: String::new() };
    assert!(LedgerError::Batch(refused.into()).is_refusal());
}
