use std::sync::Arc;
use std::time::Duration;

use contract::{FileId, Role};
use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};
use runtime::{Lifecycle, Service, StartError};
use settings::{Secret, Settings};

use crate::{Cleanup, by_id};

/// A prefix and a database of its own on the servers that all tests of this process share.
#[derive(Debug)]
pub struct Sandbox {
    /// Name the servers, the prefix and the database.
    pub settings: Settings,
    /// The database.
    pub db: Database,
    _cleanup: Cleanup,
}

impl Sandbox {
    /// With nothing in it.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings, perhaps on other servers.
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

    /// What these settings name.
    pub async fn of(settings: Settings) -> Self {
        let client = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
        let db = client.database(&settings.mongodb.database);
        let cleanup = Cleanup::of_given_servers(&settings);
        Self { settings, db, _cleanup: cleanup }
    }

    /// Starts a service with these settings, all but what makes it this service.
    pub async fn start(&self, role: Role) -> Result<Service, StartError> {
        let life = Lifecycle::new(self.settings.work.grace());
        runtime::start(role, Arc::new(self.settings.clone()), life).await
    }

    /// The records as MongoDB has them.
    pub fn files(&self) -> Collection<Document> {
        self.db.collection("files")
    }

    /// A record as MongoDB has it, to see that nothing at all changed.
    pub async fn document(&self, file: FileId) -> Document {
        self.files().find_one(by_id(file)).await.unwrap().unwrap()
    }

    /// How many documents a collection has.
    pub async fn count(&self, collection: &str) -> u64 {
        self.db.collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
    }

    /// How many milliseconds a date of a record is away by MongoDB's clock; `None` where it has no such date.
    pub async fn ms_until(&self, file: FileId, field: &str) -> Option<i64> {
        let away = doc! { "$subtract": [format!("${field}"), "$$NOW"] };
        let look = vec![doc! { "$match": by_id(file) }, doc! { "$project": { "ms": away } }];
        let mut cursor = self.files().aggregate(look).await.unwrap();
        assert!(cursor.advance().await.unwrap(), "there is no file {file}");
        cursor.deserialize_current().unwrap().get_i64("ms").ok()
    }

    /// Asserts that a date of a record was set to `span` from then, up to some seconds ago.
    pub async fn assert_set_to(&self, file: FileId, field: &str, span: Duration) {
        let found = self.ms_until(file, field).await;
        let span = i64::try_from(span.as_millis()).unwrap();
        assert!(found.is_some_and(|ms| ms <= span && ms > span - 7_000), "{field}: expected {span}, found {found:?}");
    }

    /// Sets a date of a record to so many milliseconds ago by MongoDB's clock: what waiting does, without the waiting.
    pub async fn set_ago(&self, file: FileId, field: &str, ms: i64) {
        let set = vec![doc! { "$set": { field: { "$subtract": ["$$NOW", ms] } } }];
        assert_eq!(self.files().update_one(by_id(file), set).await.unwrap().matched_count, 1);
    }

    /// Has the lease on a file run out.
    pub async fn end_lease(&self, file: FileId) {
        self.set_ago(file, "lease.until", 1).await;
        self.set_ago(file, "due_at", 1).await;
    }
}
