//! Coming to MongoDB, first or again, alone or with others.

use std::time::Duration;

use ledger::{Ledger, LedgerError, LedgerOptions};
use mongodb::bson::doc;
use settings::BlockCompressor;
use testing::{Sandbox, bytes};

use crate::stage::{self, HINT_PUSH, RETENTION, Stage};

const PASSWORD: &str = "open-sesame";

fn options(uri: &str) -> LedgerOptions {
    LedgerOptions {
        uri: uri.into(),
        database: "nowhere".into(),
        app_name: "ledger-test".into(),
        pool_size: 1,
        operation_timeout: Duration::from_secs(5),
        server_selection_timeout: Duration::from_millis(100),
        block_compressor: BlockCompressor::None,
        hint_push: HINT_PUSH,
        settle: Duration::ZERO,
        retention: RETENTION,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_may_make_the_collections_at_the_same_moment() {
    let sandbox = Sandbox::new().await;
    let options = stage::options(&sandbox);
    let connecting: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { Ledger::connect(&options).await.map(drop) })
        })
        .collect();
    for connected in connecting {
        connected.await.unwrap().unwrap();
    }
    Ledger::connect(&options).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn who_comes_again_finds_what_was_there() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    let again = stage.another_ledger().await;
    assert_eq!(again.file(file).await.unwrap().unwrap().id, file);
}

#[tokio::test]
async fn chunks_are_compressed_on_disk_as_the_setting_says() {
    for (compressor, word) in
        [(BlockCompressor::None, "none"), (BlockCompressor::Snappy, "snappy"), (BlockCompressor::Zstd, "zstd")]
    {
        let sandbox = Sandbox::new().await;
        let options = LedgerOptions { block_compressor: compressor, ..stage::options(&sandbox) };
        Ledger::connect(&options).await.unwrap();
        for collection in ["chunks", "contents"] {
            let stats = sandbox.db.run_command(doc! { "collStats": collection }).await.unwrap();
            let made = stats.get_document("wiredTiger").unwrap().get_str("creationString").unwrap().to_owned();
            assert!(made.contains(&format!("block_compressor={word},")), "{collection}: {made}");
        }
    }
}

#[tokio::test]
async fn which_chunks_are_stored_is_answered_by_an_index_alone() {
    let stage = Stage::set().await;
    let file = contract::FileId::generate();
    let chunk = stage::chunk(file, contract::Generation::FIRST, 0, bytes(3000, 1));
    stage.ledger.put_children(vec![chunk]).await.unwrap();
    let proof = doc! { "_id": 1, "len": 1, "sha256": 1 };
    let find = doc! { "find": "chunks", "filter": {}, "projection": proof, "hint": "proof" };
    let explained = stage.db.run_command(doc! { "explain": find, "verbosity": "executionStats" }).await.unwrap();
    let stats = explained.get_document("executionStats").unwrap();
    assert_eq!((stats.get_i32("nReturned").unwrap(), stats.get_i32("totalDocsExamined").unwrap()), (1, 0));
}

#[tokio::test]
async fn a_password_in_the_connection_string_is_never_shown() {
    let options = options(&format!("mongodb://ada:{PASSWORD}@127.0.0.1:1/?directConnection=true"));
    assert!(!format!("{options:?}").contains(PASSWORD), "{options:?}");
    let error = Ledger::connect(&options).await.unwrap_err();
    assert!(matches!(error, LedgerError::Mongo { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    assert_eq!(
        error.to_string(),
        "making a collection failed: no server can be used (127.0.0.1:1: I/O error: Connection refused (os error 111))"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_string_is_said_at_once_and_without_its_password() {
    let login = format!("ada:{PASSWORD}");
    for (broken, says) in [
        (format!("mongodb://{login}@/"), "host"),
        (format!("mongodb://{login}@host:port/"), "port"),
        (format!("mongo://{login}@host/"), "mongo"),
        (format!("mongodb://{login}/@host/"), "encoded"),
        (format!("mongodb://{login}:x@host/"), "encoded"),
        (format!("mongodb://ada:x?{PASSWORD}@host/"), "encoded"),
        (format!("mongodb://ada:x?{PASSWORD}/@host:70000/"), "port"),
        (format!("mongodb://{login}@host/?replicaSte=rs0"), "replicaSte"),
        (format!("mongodb://{login}@host/?tls=true&tlsCAFile=/nowhere/ca.pem"), "/nowhere/ca.pem"),
        (format!("mongodb://{login}@host/?directConnection=maybe"), "directConnection"),
    ] {
        let error = Ledger::open(&options(&broken)).await.unwrap_err();
        assert!(matches!(error, LedgerError::Settings(_)), "{broken}: {error:?}");
        let told = format!("{error} {error:?}");
        assert!(told.contains("mongodb.uri") && told.to_lowercase().contains(&says.to_lowercase()), "{broken}: {told}");
        assert!(!told.contains(PASSWORD), "{told}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = servers::MongoOptions::new(folder.path().join("mongo"), servers::MIN_CACHE_MIB);
    (own.login, own.die_with_parent) = (true, true);
    let mongo = servers::Mongo::start(own).await.unwrap();
    let ledger = |uri: String| async move { Ledger::open(&options(&uri)).await.unwrap() };
    ledger(mongo.uri()).await.ping().await.unwrap();
    let bare = format!("mongodb://waybill:{PASSWORD}@127.0.0.1:{}/?directConnection=true", mongo.port());
    let stranger = ledger(bare).await;
    for _ in 0..3 {
        let told = stranger.ping().await.unwrap_err().to_string();
        assert!(told.contains("authentication failed") && told.len() < 200 && !told.contains('\n'), "{told}");
        assert!(!told.contains(PASSWORD) && !told.contains("labels"), "{told}");
    }
}

#[tokio::test]
async fn a_ledger_that_is_opened_before_mongodb_runs_makes_the_collections_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = servers::MongoOptions::new(folder.path().join("mongo"), servers::MIN_CACHE_MIB);
    own.die_with_parent = true;
    let mongo = servers::Mongo::start(own.clone()).await.unwrap();
    let uri = mongo.uri();
    mongo.stop().await.unwrap();
    let ledger = Ledger::open(&options(&uri)).await.unwrap();
    assert!(ledger.ping().await.is_err());
    let mongo = servers::Mongo::start(own).await.unwrap();
    assert_eq!(mongo.uri(), uri);
    testing::until("it answers", async || ledger.ping().await.ok()).await;
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let indexes = client.database("nowhere").collection::<mongodb::bson::Document>("files").list_index_names().await;
    assert!(indexes.unwrap().len() > 5);
}

/// The driver panics when its tasks end under an operation.
#[test]
fn a_process_that_closes_its_ledger_ends_without_a_panic() {
    static PANICS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let threads = || tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let keeper = threads();
    let sandbox = keeper.block_on(Sandbox::new());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|place| place.file().contains("mongodb")) {
            PANICS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        before(info);
    }));
    for _ in 0..20 {
        let runtime = threads();
        runtime.block_on(async {
            let ledger = Ledger::connect(&stage::options(&sandbox)).await.unwrap();
            for _ in 0..64 {
                let ledger = ledger.clone();
                tokio::spawn(async move { while ledger.ping().await.is_ok() {} });
            }
            ledger.ping().await.unwrap();
            ledger.close().await;
        });
        drop(runtime);
    }
    assert_eq!(PANICS.load(std::sync::atomic::Ordering::SeqCst), 0);
    keeper.block_on(async move { drop(sandbox) });
}
