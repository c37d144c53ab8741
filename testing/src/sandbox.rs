use std::ops::Deref;
use std::sync::Arc;

use contract::Role;
use runtime::{Lifecycle, Service, StartError};
use settings::{Secret, Settings};

use crate::{Cleanup, Stored};

/// A prefix and a database for one test, on the servers that all tests of this process share.
#[derive(Debug)]
pub struct Sandbox {
    /// The settings for it: servers, prefix and database.
    pub settings: Settings,
    stored: Stored,
    _cleanup: Cleanup,
}

impl Deref for Sandbox {
    type Target = Stored;

    fn deref(&self) -> &Stored {
        &self.stored
    }
}

impl Sandbox {
    /// An empty one.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// An empty one with changed settings, perhaps on other servers.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let shared = servers::shared().await.unwrap_or_else(|error| panic!("{error}"));
        let mut settings = Settings::default();
        let unique = format!("t{:016x}", rand::random::<u64>());
        settings.nats.url = shared.nats_url().to_owned();
        settings.nats.prefix = unique.clone();
        settings.mongodb.uri = Secret::new(shared.mongodb_uri().to_owned());
        settings.mongodb.database = unique;
        settings.mongodb.pool_size = 8;
        change(&mut settings);
        Self::of(settings).await
    }

    /// The one that these settings name.
    pub async fn of(settings: Settings) -> Self {
        let client = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
        let db = client.database(&settings.mongodb.database);
        let cleanup = Cleanup::of_given_servers(&settings);
        Self { settings, stored: Stored { db }, _cleanup: cleanup }
    }

    /// Starts what all services have in common, with these settings.
    pub async fn start(&self, role: Role) -> Result<Service, StartError> {
        let life = Lifecycle::new(self.settings.work.grace());
        runtime::start(role, Arc::new(self.settings.clone()), life).await
    }
}
