//! A ledger with a database of its own, and ways to bring files where a test needs them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use contract::{Digest, Expectation, FileId, ObjectName, Receipt, ReceiptRemote, ReceiptSource, RemoteChecksum};
use ledger::{
    Claim, ClaimRequest, ClaimedFile, ExpectationOutcome, FileRecord, GenerationOptions, Ledger, LedgerOptions,
    NewFile, Problem, RetentionPeriods, Source, StoredOutcome,
};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::{Collection, Database};
use settings::BlockCompressor;

pub(crate) const MIB: u32 = 1024 * 1024;

/// So long that no test sees its end, unless it makes it.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) const OPENING: GenerationOptions = GenerationOptions { chunk_size: MIB, embed_limit: 2 * MIB as u64 };

/// As with the default lease.
pub(crate) const HINT_PUSH: Duration = Duration::from_secs(15);

pub(crate) const RETENTION: RetentionPeriods = RetentionPeriods {
    delivered: Duration::from_secs(100),
    failed: Duration::from_secs(200),
    cancelled: Duration::from_secs(300),
};

/// Generous: passed only by what is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// A database of its own with nothing in it.
pub(crate) struct Empty {
    pub(crate) options: LedgerOptions,
    pub(crate) db: Database,
    _cleanup: Cleanup,
}

impl Empty {
    pub(crate) async fn new() -> Self {
        let shared = servers::shared().await.unwrap();
        let options = LedgerOptions {
            uri: shared.mongodb_uri().to_owned(),
            database: format!("t{:016x}", rand::random::<u64>()),
            app_name: "ledger-test".into(),
            pool_size: 32,
            operation_timeout: DEADLINE,
            server_selection_timeout: Duration::from_secs(10),
            block_compressor: BlockCompressor::None,
            hint_push: HINT_PUSH,
            retention: RETENTION,
        };
        let client = mongodb::Client::with_uri_str(&options.uri).await.unwrap();
        let db = client.database(&options.database);
        let cleanup = Cleanup { uri: options.uri.clone(), database: options.database.clone() };
        Self { options, db, _cleanup: cleanup }
    }
}

pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) db: Database,
    empty: Empty,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let empty = Empty::new().await;
        Self { ledger: Ledger::connect(&empty.options).await.unwrap(), db: empty.db.clone(), empty }
    }

    /// The ledger as another process has it.
    pub(crate) async fn another_ledger(&self) -> Ledger {
        Ledger::connect(&self.empty.options).await.unwrap()
    }

    pub(crate) fn files(&self) -> Collection<Document> {
        self.db.collection("files")
    }

    pub(crate) async fn count(&self, collection: &str) -> u64 {
        self.db.collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
    }

    pub(crate) async fn record(&self, file: FileId) -> FileRecord {
        self.ledger.file(file).await.unwrap().unwrap()
    }

    /// The record as MongoDB has it, to see that nothing at all changed.
    pub(crate) async fn document(&self, file: FileId) -> Document {
        self.files().find_one(by_id(file)).await.unwrap().unwrap()
    }

    /// How many milliseconds a date of the record is away by MongoDB's clock; `None` where it has no such date.
    pub(crate) async fn ms_until(&self, file: FileId, field: &str) -> Option<i64> {
        let away = doc! { "$subtract": [format!("${field}"), "$$NOW"] };
        let look = vec![doc! { "$match": by_id(file) }, doc! { "$project": { "ms": away } }];
        let mut cursor = self.files().aggregate(look).await.unwrap();
        assert!(cursor.advance().await.unwrap(), "there is no file {file}");
        cursor.deserialize_current().unwrap().get_i64("ms").ok()
    }

    /// Asserts that a date of the record was set to `span` from then, up to some seconds ago.
    pub(crate) async fn assert_set_to(&self, file: FileId, field: &str, span: Duration) {
        let found = self.ms_until(file, field).await;
        let span = i64::try_from(span.as_millis()).unwrap();
        assert!(found.is_some_and(|ms| ms <= span && ms > span - 7_000), "{field}: expected {span}, found {found:?}");
    }

    /// Sets a date of the record to so many milliseconds ago by MongoDB's clock: what waiting does, without the waiting.
    pub(crate) async fn set_ago(&self, file: FileId, field: &str, ms: i64) {
        let set = vec![doc! { "$set": { field: { "$subtract": ["$$NOW", ms] } } }];
        assert_eq!(self.files().update_one(by_id(file), set).await.unwrap().matched_count, 1);
    }

    /// Has the lease on a file run out.
    pub(crate) async fn end_lease(&self, file: FileId) {
        self.set_ago(file, "lease.until", 1).await;
        self.set_ago(file, "due_at", 1).await;
    }

    pub(crate) async fn prepared(&self, size: u64) -> FileId {
        let new = new_file(size);
        let id = new.id;
        self.ledger.create(new).await.unwrap();
        id
    }

    pub(crate) async fn try_claim(&self, file: FileId) -> Claim {
        self.ledger.claim_chunking(&request(file), OPENING).await.unwrap()
    }

    pub(crate) async fn try_claim_delivering(&self, file: FileId) -> Claim {
        self.ledger.claim_delivering(&request(file)).await.unwrap()
    }

    pub(crate) async fn claim(&self, file: FileId) -> ClaimedFile {
        taken(self.try_claim(file).await)
    }

    pub(crate) async fn claim_delivering(&self, file: FileId) -> ClaimedFile {
        taken(self.try_claim_delivering(file).await)
    }

    /// A file that is being chunked.
    pub(crate) async fn chunking(&self, size: u64) -> ClaimedFile {
        let file = self.prepared(size).await;
        self.claim(file).await
    }

    /// A file that is stored and waits for a finalise request.
    pub(crate) async fn resting(&self, content: &[u8]) -> FileId {
        let mut held = self.chunking(content.len() as u64).await;
        let stored = self.ledger.record_stored(&mut held, Digest::of(content)).await.unwrap();
        assert!(matches!(stored, StoredOutcome::Resting(_)), "{stored:?}");
        held.lease.file
    }

    /// A file that is stored and due to be delivered.
    pub(crate) async fn accepted(&self, content: &[u8]) -> FileId {
        let file = self.resting(content).await;
        let accepted = self.expect(file, &expectation(content)).await;
        assert!(matches!(accepted, ExpectationOutcome::Accepted(_)), "{accepted:?}");
        file
    }

    pub(crate) async fn delivering(&self, content: &[u8]) -> ClaimedFile {
        let file = self.accepted(content).await;
        self.claim_delivering(file).await
    }

    pub(crate) async fn delivered(&self, content: &[u8]) -> FileId {
        let held = self.delivering(content).await;
        self.ledger.record_delivered(&held.lease, &receipt(&held)).await.unwrap().unwrap();
        held.lease.file
    }

    pub(crate) async fn failed(&self) -> FileId {
        let held = self.chunking(3).await;
        self.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
        held.lease.file
    }

    pub(crate) async fn expect(&self, file: FileId, expectation: &Expectation) -> ExpectationOutcome {
        let complete = |_: &FileRecord| Ok::<_, Infallible>(expectation.clone());
        let Ok(expected) = self.ledger.record_expectation(file, complete).await.unwrap();
        expected
    }
}

pub(crate) fn by_id(file: FileId) -> Document {
    doc! { "_id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: file.as_bytes().to_vec() }) }
}

pub(crate) fn new_file(size: u64) -> NewFile {
    NewFile {
        id: FileId::generate(),
        source: Source { root: "/srv/in".into(), path: "a/b.bin".into(), size, mtime_ns: 1_700_000_000_123_456_789 },
        name: ObjectName::new("b.bin").unwrap(),
        media_type: "application/octet-stream".into(),
        metadata: BTreeMap::new(),
        user: "ada".into(),
        remote: None,
        idempotency: None,
    }
}

pub(crate) fn request(file: FileId) -> ClaimRequest<'static> {
    request_for(file, LEASE)
}

pub(crate) fn request_for(file: FileId, lease: Duration) -> ClaimRequest<'static> {
    ClaimRequest { file, worker: "worker-1", lease }
}

#[track_caller]
pub(crate) fn taken(claim: Claim) -> ClaimedFile {
    match claim {
        Claim::Taken(held) => *held,
        other => panic!("expected to get the file, found {other:?}"),
    }
}

pub(crate) fn expectation(content: &[u8]) -> Expectation {
    Expectation {
        sha256: Digest::of(content),
        size: None,
        chunks: None,
        name: ObjectName::new("b.bin").unwrap(),
        remote: "archive".into(),
    }
}

pub(crate) fn problem() -> Problem {
    Problem::new(contract::ProblemKind::SourceMissing, "expected a file, found none")
}

pub(crate) fn receipt(held: &ClaimedFile) -> Receipt {
    let (file, proven) = (&held.file, held.file.proven().unwrap());
    Receipt {
        file_id: file.id,
        source: ReceiptSource {
            path: file.source.path.clone(),
            name: file.name.to_string(),
            generation: file.generation,
        },
        sha256: proven.sha256,
        size: proven.split.size(),
        chunks: proven.split.count(),
        chunk_size: proven.split.chunk_size(),
        remote: ReceiptRemote {
            name: "archive".into(),
            kind: "http".into(),
            address: "http://127.0.0.1:9000/$bucket/b.bin".into(),
            object: ObjectName::new("b.bin").unwrap().into(),
            status: Some(201),
            etag: Some("\"$version.1\"".into()),
            version: Some("$1".into()),
            checksum: Some(RemoteChecksum { field: "repr-digest".into(), value: "$2".into() }),
            proof: "digest".into(),
            proves: Some(contract::RemoteProof::Digest.sentence().to_owned()),
        },
        bytes_sent: proven.split.size(),
        attempts: file.attempts.delivering,
        failures: Vec::new(),
        guarantee: "exactly-once".into(),
        begun_at: file.delivery.as_ref().unwrap().begun_at,
        delivered_at: held.lease.now(),
        signature: None,
    }
}

/// Bytes unlike any other test's, and unlike each other.
pub(crate) fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(len);
    bytes
}

/// Polls until `question` gives something.
pub(crate) async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("not so in time: {what}"))
}

/// Drops the database. Matters where the server is not ours.
struct Cleanup {
    uri: String,
    database: String,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if std::env::var_os(servers::MONGODB_URI).is_none() {
            return;
        }
        let (uri, database) = (self.uri.clone(), self.database.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = mongodb::Client::with_uri_str(uri).await.unwrap();
                client.database(&database).drop().await
            })
        });
        // A test that has failed already says more than a database that is left behind.
        let _ = dropping.join();
    }
}
