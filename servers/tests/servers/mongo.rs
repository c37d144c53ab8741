//! mongod: its data, its port, its replica set.

use anyhow::Result;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use servers::{Error, Mongo, MongoOptions};
use tempfile::{TempDir, tempdir};

use crate::{mongo_options, rude_listener, runs};

async fn start() -> Result<(TempDir, Mongo)> {
    let folder = tempdir()?;
    let mongo = Mongo::start(mongo_options(folder.path())).await?;
    Ok((folder, mongo))
}

async fn insert(uri: &str) -> Result<()> {
    let client = Client::with_uri_str(uri).await?;
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    client
        .database("kept")
        .collection::<Document>("things")
        .insert_one(doc! { "a": 1 })
        .write_concern(majority)
        .await?;
    client.shutdown().await;
    Ok(())
}

async fn count(uri: &str) -> Result<u64> {
    let client = Client::with_uri_str(uri).await?;
    let things = client.database("kept").collection::<Document>("things");
    let count = things.count_documents(doc! {}).await?;
    client.shutdown().await;
    Ok(count)
}

#[tokio::test]
async fn keeps_its_data_and_its_port_over_a_restart() -> Result<()> {
    let (folder, mongo) = start().await?;
    assert_eq!(mongo.uri(), format!("mongodb://127.0.0.1:{}/?directConnection=true", mongo.port()));
    insert(&mongo.uri()).await?;
    let (port, pid) = (mongo.port(), mongo.pid());
    let exit = mongo.stop().await?;
    assert!(exit.status.is_some_and(|status| status.success()), "{exit}");
    assert!(!runs(pid));

    let mongo = Mongo::start(mongo_options(folder.path())).await?;
    assert_eq!(mongo.port(), port);
    assert_eq!(count(&mongo.uri()).await?, 1);

    // A power cut: what was acknowledged is there.
    insert(&mongo.uri()).await?;
    mongo.kill().await?;
    let mongo = Mongo::start(mongo.options().clone()).await?;
    assert_eq!(mongo.port(), port);
    assert_eq!(count(&mongo.uri()).await?, 2);
    Ok(())
}

#[tokio::test]
async fn moves_when_its_port_was_taken_meanwhile() -> Result<()> {
    let (_folder, mongo) = start().await?;
    insert(&mongo.uri()).await?;
    mongo.kill().await?;
    let port = rude_listener(mongo.port())?;

    let moved = Mongo::start(mongo.options().clone()).await?;
    assert_ne!(moved.port(), port);
    // It is the primary of its own set again.
    insert(&moved.uri()).await?;
    assert_eq!(count(&moved.uri()).await?, 2);

    // Moved for good: it stays where it is now.
    let port = moved.port();
    moved.stop().await?;
    let again = Mongo::start(mongo.options().clone()).await?;
    assert_eq!(again.port(), port);
    Ok(())
}

#[tokio::test]
async fn a_port_asked_for_by_name_is_not_replaced() -> Result<()> {
    let folder = tempdir()?;
    let options = MongoOptions { port: Some(rude_listener(0)?), ..mongo_options(folder.path()) };
    let error = Mongo::start(options).await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_left_is_adopted_unless_its_settings_differ() -> Result<()> {
    let (folder, mongo) = start().await?;
    insert(&mongo.uri()).await?;
    let pid = mongo.pid();
    mongo.leave();

    let mongo = Mongo::start(mongo_options(folder.path())).await?;
    assert!(mongo.adopted());
    assert_eq!(mongo.pid(), pid);
    assert_eq!(count(&mongo.uri()).await?, 1);
    mongo.leave();
    assert!(runs(pid));

    let mut options = mongo_options(folder.path());
    options.cache_mib = 300;
    let mongo = Mongo::start(options).await?;
    assert!(!mongo.adopted());
    assert!(!runs(pid));
    assert_eq!(count(&mongo.uri()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_error_at_the_start_has_the_end_of_the_log() -> Result<()> {
    let folder = tempdir()?;
    let options = mongo_options(folder.path());
    std::fs::create_dir_all(options.data_dir.join("db"))?;
    std::fs::write(options.data_dir.join("db/storage.bson"), "not BSON")?;
    let error = Mongo::start(options).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("metadata file"), "{error}");
    Ok(())
}
