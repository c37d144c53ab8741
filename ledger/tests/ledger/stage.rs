//! A ledger with a database of its own, and ways to bring files where a test needs them.

use std::convert::Infallible;
use std::ops::Deref;
use std::time::Duration;

use contract::{ChunkNumber, Digest, Expectation, FileId, Generation, ObjectName};
use ledger::{
    Claim, ClaimRequest, ClaimedFile, ExpectationOutcome, FileRecord, GenerationOptions, Ledger, LedgerOptions,
    NewChunk, NextGeneration, Problem, RetentionPeriods, Source, StoredOutcome,
};
use settings::BlockCompressor;
use testing::{DEADLINE, MIB, Sandbox, new_file, taken};

/// So long that no test sees its end, unless it makes it.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) const OPENING: GenerationOptions = GenerationOptions { chunk_size: MIB, embed_limit: 2 * MIB as u64 };

/// As with the default lease.
pub(crate) const HINT_PUSH: Duration = Duration::from_secs(15);

pub(crate) const RETENTION: RetentionPeriods = RetentionPeriods {
    stored: Duration::from_secs(400),
    delivered: Duration::from_secs(100),
    failed: Duration::from_secs(200),
    cancelled: Duration::from_secs(300),
    record: Some(Duration::from_secs(5_000)),
};

/// What connects to the database of a sandbox.
pub(crate) fn options(sandbox: &Sandbox) -> LedgerOptions {
    LedgerOptions {
        uri: sandbox.settings.mongodb.uri().unwrap().expose().to_owned(),
        database: sandbox.settings.mongodb.database.clone(),
        app_name: "ledger-test".into(),
        pool_size: 32,
        operation_timeout: DEADLINE,
        server_selection_timeout: Duration::from_secs(10),
        block_compressor: BlockCompressor::None,
        hint_push: HINT_PUSH,
        settle: Duration::ZERO,
        retention: RETENTION,
    }
}

pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    sandbox: Sandbox,
}

impl Deref for Stage {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::with_settle(Duration::ZERO).await
    }

    /// Where sources must stand still for so long before they are read.
    pub(crate) async fn with_settle(settle: Duration) -> Self {
        let sandbox = Sandbox::new().await;
        let options = LedgerOptions { settle, ..options(&sandbox) };
        Self { ledger: Ledger::connect(&options).await.unwrap(), sandbox }
    }

    /// The ledger as another process has it.
    pub(crate) async fn another_ledger(&self) -> Ledger {
        Ledger::connect(&options(&self.sandbox)).await.unwrap()
    }

    pub(crate) async fn record(&self, file: FileId) -> FileRecord {
        self.ledger.file(file).await.unwrap().unwrap()
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
        self.ledger.record_delivered(&held.lease, &testing::receipt(&held)).await.unwrap().unwrap();
        held.lease.file
    }

    pub(crate) async fn failed(&self) -> FileId {
        let held = self.chunking(3).await;
        self.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
        held.lease.file
    }

    pub(crate) async fn expect(&self, file: FileId, expectation: &Expectation) -> ExpectationOutcome {
        self.expect_of("ada", file, expectation).await
    }

    pub(crate) async fn expect_of(&self, user: &str, file: FileId, expectation: &Expectation) -> ExpectationOutcome {
        let complete = |_: &FileRecord| Ok::<_, Infallible>(expectation.clone());
        let Ok(expected) = self.ledger.record_expectation(file, user, complete).await.unwrap();
        expected
    }
}

pub(crate) fn request(file: FileId) -> ClaimRequest<'static> {
    request_for(file, LEASE)
}

pub(crate) fn request_for(file: FileId, lease: Duration) -> ClaimRequest<'static> {
    ClaimRequest { file, worker: "worker-1", lease }
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

/// Another reading of this source, at once, after a failed attempt.
pub(crate) fn next_generation(source: Source) -> NextGeneration {
    NextGeneration { source, problem: problem(), delay: Duration::ZERO, counts: true }
}

/// A chunk whose hash is right.
pub(crate) fn chunk(file: FileId, generation: Generation, number: u32, data: Vec<u8>) -> NewChunk {
    NewChunk { file, generation, number: ChunkNumber(number), sha256: Digest::of(&data), data: data.into() }
}
