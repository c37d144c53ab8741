//! mongod: its data, its port, its replica set.

use anyhow::Result;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use servers::{Error, Mongo, MongoOptions};
use tempfile::{TempDir, tempdir};

use crate::{assert_kept, mongo_options, password, rude_listener, runs};

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

/// What mongod answers to a command of somebody who connects like this.
async fn asked(uri: &str, command: Document) -> Result<Document> {
    let client = Client::with_uri_str(uri).await?;
    let answer = client.database("admin").run_command(command).await;
    client.shutdown().await;
    Ok(answer?)
}

#[tokio::test]
async fn who_must_log_in_and_does_not_is_refused() -> Result<()> {
    // The data may be of a release that asked nobody, whose server still runs.
    let (folder, open) = start().await?;
    insert(&open.uri()).await?;
    open.leave();
    let options = MongoOptions { login: true, ..mongo_options(folder.path()) };
    let mongo = Mongo::start(options.clone()).await?;
    assert!(!mongo.adopted());
    insert(&mongo.uri()).await?;
    assert_eq!(count(&mongo.uri()).await?, 2);

    let bare = format!("mongodb://127.0.0.1:{}/?directConnection=true", mongo.port());
    let strange_user = doc! { "createUser": "eve", "pwd": "eve", "roles": ["root"] };
    for stranger in [bare.clone(), bare.replace("//", "//waybill:wrong@")] {
        for command in [doc! { "listDatabases": 1 }, doc! { "shutdown": 1 }, strange_user.clone()] {
            let refused = asked(&stranger, command).await.unwrap_err().to_string();
            assert!(refused.contains("uthentication"), "{stranger}: {refused}");
        }
    }
    let refused = asked(&mongo.uri(), doc! { "shutdown": 1 }).await.unwrap_err().to_string();
    assert!(refused.contains("not authorized"), "{refused}");
    let shown = format!("{mongo:?}");
    assert!(!shown.contains(password(&mongo.uri())), "{shown}");
    assert_eq!(assert_kept(&options.data_dir, mongo.pid(), password(&mongo.uri())), 1, "the password itself");
    let key = std::fs::read_to_string(options.data_dir.join("keyfile"))?;
    assert_eq!(assert_kept(&options.data_dir, mongo.pid(), &key), 1, "the key file itself");

    // The next start knows the secrets, so it adopts the server. Those that were lost are made anew.
    let uri = mongo.uri();
    mongo.leave();
    let mongo = Mongo::start(options.clone()).await?;
    assert!(mongo.adopted() && mongo.uri() == uri);
    mongo.kill().await?;
    for name in ["password", "keyfile"] {
        std::fs::write(options.data_dir.join(name), "")?;
    }
    let mongo = Mongo::start(options).await?;
    assert_ne!(mongo.uri(), uri);
    assert_eq!(count(&mongo.uri()).await?, 2);
    Ok(())
}

#[tokio::test]
async fn messages_are_not_compressed() -> Result<()> {
    let (_folder, mongo) = start().await?;
    let hello = asked(&mongo.uri(), doc! { "hello": 1, "compression": ["zlib", "snappy", "zstd"] }).await?;
    assert_eq!(hello.get("compression"), None, "{hello}");
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
