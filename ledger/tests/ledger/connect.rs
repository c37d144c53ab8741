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
    let data = bytes(3000, 1);
    let chunk = ledger::NewChunk {
        file,
        generation: contract::Generation::FIRST,
        number: contract::ChunkNumber(0),
        sha256: contract::Digest::of(&data),
        data: data.into(),
    };
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
    for broken in [
        format!("mongodb://ada:{PASSWORD}@/"),
        format!("mongodb://ada:{PASSWORD}@host:port/"),
        format!("mongo://ada:{PASSWORD}@host/"),
        format!("mongodb://ada:{PASSWORD}/@host/"),
    ] {
        let error = Ledger::connect(&self::options(&broken)).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    }
}
