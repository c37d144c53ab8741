use std::time::Duration;

use contract::{Names, StreamSpec};
use settings::Settings;

/// A server that does not answer in this time is left alone.
const LIMIT: Duration = Duration::from_secs(10);

/// Removes a database, and the streams of a prefix, when it is dropped.
#[derive(Debug)]
pub struct Cleanup {
    /// The URI of MongoDB, and the name of the database.
    database: Option<(String, String)>,
    /// The URL of NATS, and the prefix.
    streams: Option<(String, String)>,
}

impl Cleanup {
    /// For the database and prefix of these settings, on servers that the environment names: others end with this process.
    pub fn of_given_servers(settings: &Settings) -> Self {
        let given = |variable| std::env::var_os(variable).is_some();
        let database = || (settings.mongodb.uri().unwrap().expose().to_owned(), settings.mongodb.database.clone());
        let streams = || (settings.nats.url.clone(), settings.nats.prefix.clone());
        Self { database: given(servers::MONGODB_URI).then(database), streams: given(servers::NATS_URL).then(streams) }
    }

    /// For a database, on any server.
    pub fn of_database(uri: &str, name: &str) -> Self {
        Self { database: Some((uri.to_owned(), name.to_owned())), streams: None }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let (database, streams) = (self.database.take(), self.streams.take());
        if database.is_none() && streams.is_none() {
            return;
        }
        // A runtime of its own: that of the test may be ending.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(LIMIT, remove(database, streams)).await })
        });
        // An error here would hide the failure of the test.
        let _ = removing.join();
    }
}

async fn remove(database: Option<(String, String)>, streams: Option<(String, String)>) -> anyhow::Result<()> {
    if let Some((uri, name)) = database {
        mongodb::Client::with_uri_str(uri).await?.database(&name).drop().await?;
    }
    if let Some((url, prefix)) = streams {
        let jetstream = async_nats::jetstream::new(async_nats::connect(url).await?);
        for stream in StreamSpec::all(&Names::new(&prefix)?) {
            // A stream may never have been made.
            let _ = jetstream.delete_stream(stream.name).await;
        }
    }
    Ok(())
}
