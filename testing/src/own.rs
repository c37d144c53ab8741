use servers::{MIN_CACHE_MIB, Mongo, MongoOptions, Nats, NatsOptions};
use tempfile::TempDir;

/// A server for one test, which may freeze and kill it.
#[derive(Debug)]
pub struct Own<T> {
    server: T,
    // Dropped after the server, which writes there.
    _folder: TempDir,
}

impl<T> std::ops::Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.server
    }
}

/// Starts a mongod.
pub async fn own_mongo() -> Own<Mongo> {
    let folder = TempDir::new().unwrap();
    let mut options = MongoOptions::new(folder.path().join("mongo"), MIN_CACHE_MIB);
    options.die_with_parent = true;
    Own { server: Mongo::start(options).await.unwrap_or_else(|error| panic!("{error}")), _folder: folder }
}

/// Starts a nats-server that takes messages of at most `max_payload` bytes.
pub async fn own_nats(max_payload: u32) -> Own<Nats> {
    let folder = TempDir::new().unwrap();
    let mut options = NatsOptions::new(folder.path().join("nats"), max_payload);
    options.die_with_parent = true;
    Own { server: Nats::start(options).await.unwrap_or_else(|error| panic!("{error}")), _folder: folder }
}
