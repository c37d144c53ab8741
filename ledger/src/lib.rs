//! What is true: the file record and its states, leases, the outbox of events, the chunks, the users. All of it is in
//! MongoDB, and no other crate touches MongoDB.
//!
//! Three rules hold everywhere here:
//! - every change of state is one compare-and-set: on the record's `version`, or, for the holder of a lease, on its owner and
//!   epoch; it is written with `{w: majority, j: true}`;
//! - all times are MongoDB's: `$$NOW` in filters and updates, never a clock of a service;
//! - every write may be repeated: if its reply was lost, the record tells whether it was made.

mod attempt;
mod audit;
mod bson_form;
mod cancel;
mod claim;
mod client;
mod connection;
mod content;
mod contention;
mod create;
mod delivery;
mod dump;
mod error;
mod expectation;
mod failure;
mod filter;
mod free_space;
mod generation;
mod index;
mod lease;
mod list;
mod outbox;
mod problem;
mod record;
mod requeue;
mod retention;
mod stored;
mod sweep;
mod transition;
mod upload;
mod users;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use contract::FileId;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, CollectionOptions, ReadConcern, WriteConcern};
use mongodb::{Collection, Database};
use settings::{BlockCompressor, Settings, SettingsError};
use tokio::sync::{OnceCell, Semaphore};

pub use audit::{Ages, Batch, FoundContent, FoundFile, FoundKey, Moment, Position};
pub use cancel::CancelOutcome;
pub use claim::{Claim, ClaimRequest, ClaimedFile};
pub use content::{CheckedContent, ChunkProof, NewChunk, PutOutcome, StoredChunk};
pub use create::{Created, NewFile};
pub use dump::{DumpError, Imported, RefusedUser};
pub use error::LedgerError;
pub use expectation::ExpectationOutcome;
pub use failure::Failure;
pub use free_space::FreeSpace;
pub use generation::{GenerationOptions, NextGeneration};
pub use lease::{Lease, Renewal};
pub use list::{Listing, Page};
pub use outbox::Outbox;
pub use problem::Problem;
pub use record::{Attempts, Delivery, FileRecord, Idempotency, Layout, Progress, Source};
pub use requeue::Requeued;
pub use retention::RetentionPeriods;
pub use stored::StoredOutcome;
pub use sweep::{DueAction, Overdue};
pub use upload::{AbandonedUpload, Upload, UploadedPart};
pub use users::{Authentication, NewUser, User};

/// How long the end of a process waits for operations under way.
const CLOSE: Duration = Duration::from_secs(2);

/// How to reach MongoDB.
#[derive(Clone)]
pub struct LedgerOptions {
    /// The connection string, with credentials if it needs any.
    pub uri: String,
    /// The database. The first write makes it.
    pub database: String,
    /// The name that MongoDB shows in its log and in `currentOp`.
    pub app_name: String,
    /// How many connections there are at most.
    pub pool_size: u32,
    /// How long one operation may take before its outcome counts as unknown.
    pub operation_timeout: Duration,
    /// How long to look for a primary before an operation fails.
    pub server_selection_timeout: Duration,
    /// How MongoDB compresses chunks on disk. It takes effect when the collections are made.
    pub block_compressor: BlockCompressor,
    /// How far a published hint pushes `due_at` on. A hint that has had no effect by then is published again.
    pub hint_push: Duration,
    /// How long a source must stand still before it is read.
    pub settle: Duration,
    /// How long content stays once nothing more happens to its file.
    pub retention: RetentionPeriods,
}

impl LedgerOptions {
    /// How to reach MongoDB, as the settings say. MongoDB shows `app_name` in its log.
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
            settle: settings.files.settle(),
            retention: RetentionPeriods {
                stored: Duration::from_secs(retention.stored_seconds),
                delivered: Duration::from_secs(retention.delivered_seconds),
                failed: Duration::from_secs(retention.failed_seconds),
                cancelled: Duration::from_secs(retention.cancelled_seconds),
                record: retention.record_seconds.map(Duration::from_secs),
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

/// The connection to MongoDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    db: Database,
    files: Collection<Document>,
    contents: Collection<RawDocumentBuf>,
    chunks: Collection<RawDocumentBuf>,
    users: Collection<Document>,
    /// A permit per connection. An operation that nobody waits for any more keeps its permit until it ends.
    operations: Arc<Semaphore>,
    pool_size: u32,
    operation_timeout: Duration,
    block_compressor: BlockCompressor,
    hint_push: Duration,
    settle: Duration,
    retention: RetentionPeriods,
    /// Set once the collections and indexes are there.
    made: Arc<OnceCell<()>>,
}

impl Ledger {
    /// Connects, and makes the collections and indexes that are missing.
    pub async fn connect(options: &LedgerOptions) -> Result<Self, LedgerError> {
        let ledger = Self::open(options).await?;
        ledger.make_collections("making collections and indexes").await?;
        Ok(ledger)
    }

    /// A ledger that connects by itself, now or later. Its first operation makes the collections and indexes that are
    /// missing, and every further one waits for that. Only the resolution of `mongodb+srv://` waits for the network
    /// here.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Settings`]: the connection string, or a file that it names, cannot be used. It is not worth another
    /// try.
    pub async fn open(options: &LedgerOptions) -> Result<Self, LedgerError> {
        let db = client::open(options).await?.database(&options.database);
        Ok(Self {
            files: db.collection("files"),
            contents: db.collection("contents"),
            chunks: db.collection("chunks"),
            users: db.collection("users"),
            db,
            operations: Arc::new(Semaphore::new(options.pool_size as usize)),
            pool_size: options.pool_size,
            operation_timeout: options.operation_timeout,
            block_compressor: options.block_compressor,
            hint_push: options.hint_push,
            settle: options.settle,
            retention: options.retention,
            made: Arc::default(),
        })
    }

    /// Begins no more operations, waits for those that have begun, and shuts the driver down; gives up after a moment,
    /// as MongoDB may be away. To be called before the runtime ends: the driver panics if its tasks end under an
    /// operation.
    pub async fn close(&self) {
        let ended = tokio::time::timeout(CLOSE, self.operations.acquire_many(self.pool_size)).await;
        self.operations.close();
        let shut_down = async { self.db.client().clone().shutdown().immediate(true).await };
        if ended.is_err() || tokio::time::timeout(CLOSE, shut_down).await.is_err() {
            tracing::debug!("operations on MongoDB were still running at the end");
        }
    }

    /// Checks that MongoDB answers and takes writes.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let db = self.db.clone();
        let operation = "asking MongoDB for its state";
        let hello = self.run(operation, async move { db.run_command(doc! {"hello": 1}).await }).await?;
        match hello.get_bool("isWritablePrimary") {
            Ok(true) => Ok(()),
            _ => Err(LedgerError::NotPrimary),
        }
    }

    /// MongoDB's time.
    async fn now(&self) -> Result<DateTime, LedgerError> {
        let operation = "asking MongoDB for the time";
        let db = self.db.clone();
        let hello = self.run(operation, async move { db.run_command(doc! { "hello": 1 }).await }).await?;
        let now = hello.get_datetime("localTime").map_err(mongodb::error::Error::custom);
        now.copied().map_err(|e| LedgerError::mongo(operation, e))
    }

    /// The records, written with `w: 1`: for writes whose loss in a failover only repeats work.
    fn relaxed_files(&self) -> Collection<Document> {
        let relaxed = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        self.db.collection_with_options("files", CollectionOptions::builder().write_concern(relaxed).build())
    }

    /// Runs one operation once the collections and indexes are there.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        future: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.make_collections(operation).await?;
        self.run_now(operation, future).await
    }

    /// Makes the collections and indexes that are missing, unless this ledger has seen them.
    async fn make_collections(&self, operation: &'static str) -> Result<(), LedgerError> {
        let making = self.made.get_or_try_init(|| self.ensure_collections());
        // Whoever waits for another caller's try must not wait longer than for an operation.
        match tokio::time::timeout(self.operation_timeout, making).await {
            Ok(made) => made.map(|_| ()),
            Err(_) => Err(LedgerError::Timeout { operation, after: self.operation_timeout }),
        }
    }

    /// Runs one operation to its end on a task of its own, and waits for it at most the operation timeout.
    ///
    /// The driver's futures must not be dropped half-way (a connection would be left in the middle of a message), and
    /// the driver has no time limit for a server that went silent. So the caller stops waiting, and the operation goes
    /// on. No more of them go on than there are connections: the others are not begun.
    async fn run_now<T: Send + 'static>(
        &self,
        operation: &'static str,
        future: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let operations = self.operations.clone();
        let ended = async move {
            // `close` closes the semaphore.
            let permit = operations.acquire_owned().await.map_err(|_| LedgerError::Ending(operation))?;
            let running = tokio::spawn(async move {
                let ended = future.await;
                drop(permit);
                ended
            });
            running.await.map_err(|join| LedgerError::Aborted { operation, source: join })
        };
        match tokio::time::timeout(self.operation_timeout, ended).await {
            Ok(Ok(result)) => result.map_err(|e| LedgerError::of_operation(operation, e)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LedgerError::Timeout { operation, after: self.operation_timeout }),
        }
    }

    /// How long MongoDB may work on one operation.
    fn server_limit(&self) -> Duration {
        connection::server_limit(self.operation_timeout)
    }

    /// The record of a file; `None` if there is none. A failover may undo what it shows: whoever decides something by
    /// it must write under a condition.
    pub async fn file(&self, id: FileId) -> Result<Option<FileRecord>, LedgerError> {
        self.read_file(id, ReadConcern::local()).await
    }

    /// The record of a file as a majority has it, so that no failover undoes it. It may be a moment old.
    pub(crate) async fn durable_file(&self, id: FileId) -> Result<Option<FileRecord>, LedgerError> {
        self.read_file(id, ReadConcern::majority()).await
    }

    /// The record of a file, of a version that a majority has, so that no failover undoes it: for answers to callers
    /// that no write confirms.
    pub(crate) async fn confirmed_file(&self, id: FileId) -> Result<Option<FileRecord>, LedgerError> {
        let Some(newest) = self.file(id).await? else { return Ok(None) };
        match self.durable_file(id).await? {
            Some(durable) if durable.version >= newest.version => Ok(Some(durable)),
            // A change is on its way to a majority. This waits for it, up to a tenth of a second if MongoDB is well.
            _ => self.read_file(id, ReadConcern::linearizable()).await,
        }
    }

    async fn read_file(&self, id: FileId, concern: ReadConcern) -> Result<Option<FileRecord>, LedgerError> {
        let (files, limit) = (self.files.clone(), self.server_limit());
        let found = self
            .run("reading a file's record", async move {
                files.find_one(filter::by_id(id)).read_concern(concern).max_time(limit).await
            })
            .await?;
        found.map(FileRecord::from_document).transpose()
    }
}
