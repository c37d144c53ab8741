//! What is true: the file record and its states, leases, the outbox of events, the chunks, the users. All of it in MongoDB;
//! no other crate touches MongoDB.
//!
//! Three rules hold everywhere here:
//! - every change of state is one compare-and-set on the record's `version` (for the holder of a lease on its owner and epoch
//!   too), written with `{w: majority, j: true}`;
//! - all times are MongoDB's: `$$NOW` in filters and updates, never a clock of a service;
//! - every write may be repeated: a reply that was lost is found again by what the write left behind.

mod audit;
mod bson_form;
mod cancel;
mod claim;
mod content;
mod content_read;
mod create;
mod delivery;
mod dump;
mod error;
mod expect;
mod failure;
mod free_space;
mod generation;
mod hold;
mod index;
mod list;
mod outbox;
mod record;
mod requeue;
mod retention;
mod stored;
mod sweep;
mod transition;
mod upload;
mod users;
mod walk;

use std::future::Future;
use std::time::Duration;

use contract::FileId;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection, Database};
use settings::{BlockCompressor, Settings, SettingsError};

pub use audit::{Ages, Batch, FoundContent, FoundFile, FoundKey, Moment, Place};
pub use cancel::Cancelling;
pub use claim::{Claim, ClaimRequest, Held, Lease, Opening};
pub use content::{NewChunk, PutOutcome};
pub use content_read::{ChunkProof, StoredChunk};
pub use create::{Created, NewFile};
pub use dump::{DumpError, Imported};
pub use error::LedgerError;
pub use expect::Expected;
pub use failure::Failure;
pub use free_space::FreeSpace;
pub use generation::NextGeneration;
pub use hold::Renewal;
pub use list::{Listing, Page};
pub use outbox::Outbox;
pub use record::{Attempts, Delivery, FileRecord, Idempotency, Layout, Problem, Progress, Source};
pub use requeue::Requeued;
pub use retention::Retention;
pub use stored::{Stored, StoredOutcome};
pub use sweep::{Errand, Overdue};
pub use upload::{LeftUpload, Upload, UploadedPart};
pub use users::{NewUser, User, Verdict};
pub use walk::Walked;

/// How to reach MongoDB.
#[derive(Clone)]
pub struct LedgerOptions {
    /// The connection string, with credentials if it needs any.
    pub uri: String,
    /// The database; made when something is first written.
    pub database: String,
    /// What shows in MongoDB's log and `currentOp`.
    pub app_name: String,
    /// Connections at most.
    pub pool_size: u32,
    /// How long one operation may take before its outcome counts as unknown.
    pub operation_timeout: Duration,
    /// How long to look for a primary before an operation fails.
    pub server_selection_timeout: Duration,
    /// How MongoDB compresses chunks on disk; takes effect when the collections are made.
    pub block_compressor: BlockCompressor,
    /// How far a published hint pushes `due_at` on: a hint that had no effect by then is published again.
    pub hint_push: Duration,
    /// How long content stays once nothing more happens to its file.
    pub retention: Retention,
}

impl LedgerOptions {
    /// How to reach MongoDB, as the settings say; `app_name` is what shows in its log.
    ///
    /// # Errors
    ///
    /// The file that holds the connection string cannot be read.
    pub fn from_settings(settings: &Settings, app_name: &str) -> Result<Self, SettingsError> {
        let (mongodb, retention) = (&settings.mongodb, &settings.retention);
        Ok(Self {
            uri: mongodb.uri()?.expose().to_owned(),
            database: mongodb.database.clone(),
            app_name: app_name.to_owned(),
            pool_size: mongodb.pool_size,
            operation_timeout: Duration::from_millis(mongodb.operation_timeout_ms),
            server_selection_timeout: Duration::from_millis(mongodb.server_selection_timeout_ms),
            block_compressor: mongodb.block_compressor,
            hint_push: settings.work.lease(),
            retention: Retention {
                delivered: Duration::from_secs(retention.delivered_seconds),
                failed: Duration::from_secs(retention.failed_seconds),
                cancelled: Duration::from_secs(retention.cancelled_seconds),
            },
        })
    }
}

impl std::fmt::Debug for LedgerOptions {
    /// Without the connection string, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { uri: _, database, app_name, pool_size, .. } = self;
        let mut shown = f.debug_struct("LedgerOptions");
        shown.field("database", database).field("app_name", app_name).field("pool_size", pool_size);
        shown.finish_non_exhaustive()
    }
}

/// The way to the truth. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    db: Database,
    files: Collection<Document>,
    contents: Collection<RawDocumentBuf>,
    chunks: Collection<RawDocumentBuf>,
    users: Collection<Document>,
    operation_timeout: Duration,
    block_compressor: BlockCompressor,
    hint_push: Duration,
    retention: Retention,
}

impl Ledger {
    /// Connects, and makes the collections and indexes that are missing.
    pub async fn connect(options: &LedgerOptions) -> Result<Self, LedgerError> {
        let doing = "reading the MongoDB connection string";
        let mut client = ClientOptions::parse(&options.uri).await.map_err(|e| LedgerError::mongo(doing, e))?;
        client.app_name = Some(options.app_name.clone());
        client.max_pool_size = Some(options.pool_size);
        client.server_selection_timeout = Some(options.server_selection_timeout);
        client.connect_timeout = Some(options.server_selection_timeout);
        client.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let client = Client::with_options(client).map_err(|e| LedgerError::mongo(doing, e))?;
        let db = client.database(&options.database);
        let ledger = Self {
            files: db.collection("files"),
            contents: db.collection("contents"),
            chunks: db.collection("chunks"),
            users: db.collection("users"),
            db,
            operation_timeout: options.operation_timeout,
            block_compressor: options.block_compressor,
            hint_push: options.hint_push,
            retention: options.retention,
        };
        ledger.ensure_collections().await?;
        Ok(ledger)
    }

    /// Asks MongoDB whether it takes writes now.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let db = self.db.clone();
        let doing = "asking MongoDB for its state";
        let hello = self.run(doing, async move { db.run_command(doc! {"hello": 1}).await }).await?;
        match hello.get_bool("isWritablePrimary") {
            Ok(true) => Ok(()),
            _ => Err(LedgerError::NotPrimary),
        }
    }

    /// Runs one operation to its end on a task of its own, and waits for it at most the operation timeout.
    ///
    /// The driver's futures must not be dropped half-way (a connection would be left in the middle of a message), and
    /// the driver has no time limit for a server that went silent. So the waiting is what stops, not the operation.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        operation: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        match tokio::time::timeout(self.operation_timeout, tokio::spawn(operation)).await {
            Ok(Ok(result)) => result.map_err(|e| LedgerError::mongo(doing, e)),
            Ok(Err(join)) => Err(LedgerError::Aborted { doing, source: join }),
            Err(_) => Err(LedgerError::Timeout { doing, after: self.operation_timeout }),
        }
    }

    /// The record of a file; `None` where there is none.
    pub async fn file(&self, id: FileId) -> Result<Option<FileRecord>, LedgerError> {
        let files = self.files.clone();
        let found =
            self.run("reading a file's record", async move { files.find_one(bson_form::by_id(id)).await }).await?;
        found.map(FileRecord::from_document).transpose()
    }
}
