//! A gateway in this process, with a database, a prefix and a source folder of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{Digest, FileId, ProblemKind, Role};
use ledger::{Claim, ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, NewUser, Problem, StoredOutcome};
use mongodb::bson::{Bson, Document, doc};
use runtime::StartError;
use runtime::{Lifecycle, Service};
use serde_json::json;
use settings::{DirectoryRemote, RemoteSettings, Secret, Settings};
use tempfile::TempDir;

use crate::call::Caller;

pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const SECRET: &str = "a secret of at least 32 bytes, for tests";

/// Generous: passed only by what is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    /// The user [`USER`].
    pub(crate) ada: Caller,
    /// Nobody.
    pub(crate) stranger: Caller,
    pub(crate) folder: TempDir,
    db: mongodb::Database,
    _cleanup: Cleanup,
}

/// Files by id, with what changes whenever anything of note does.
pub(crate) type Snapshot = BTreeMap<String, (i64, String)>;

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = settings(folder.path()).await;
        change(&mut settings);
        let cleanup = Cleanup::of(&settings);
        let service = start(settings).await.unwrap();
        let ledger = service.ledger.clone();
        assert!(ledger.add_user(&NewUser { username: USER, password: PASSWORD }).await.unwrap());
        let address = gateway::run(service.clone()).await.unwrap();
        let db = database(&service.settings).await;
        let stranger = Caller::stranger(address);
        let ada = stranger.log_in(USER, PASSWORD).await;
        Self { address, service, ada, stranger, folder, db, _cleanup: cleanup }
    }

    /// A further user, logged in.
    pub(crate) async fn another_user(&self, username: &str) -> Caller {
        assert!(self.service.ledger.add_user(&NewUser { username, password: PASSWORD }).await.unwrap());
        self.stranger.log_in(username, PASSWORD).await
    }

    /// The folder beneath which files may be read.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Writes a source file.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes and prepares a file; its id.
    pub(crate) async fn prepared(&self, path: &str, content: &[u8]) -> String {
        self.write(path, content);
        let answer = self.ada.prepare(&json!({ "file_path": path })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("file_id")
    }

    /// Writes and prepares a file, and does to its record what a chunker does that has stored it.
    pub(crate) async fn stored(&self, path: &str, content: &[u8]) -> String {
        let id = self.prepared(path, content).await;
        self.store(&id, content).await;
        id
    }

    pub(crate) async fn store(&self, id: &str, content: &[u8]) {
        let mut held = self.claim_chunking(id).await;
        let stored = self.service.ledger.record_stored(&mut held, Digest::of(content)).await.unwrap();
        assert!(!matches!(stored, StoredOutcome::Lost));
    }

    pub(crate) async fn claim_chunking(&self, id: &str) -> ClaimedFile {
        let request = ClaimRequest { file: id.parse().unwrap(), worker: "chunker-of-the-test", lease: LEASE };
        let opening = GenerationOptions { chunk_size: 1 << 20, embed_limit: 2 << 20 };
        taken(self.service.ledger.claim_chunking(&request, opening).await.unwrap())
    }

    pub(crate) async fn claim_delivering(&self, id: &str) -> ClaimedFile {
        let request = ClaimRequest { file: id.parse().unwrap(), worker: "finaliser-of-the-test", lease: LEASE };
        taken(self.service.ledger.claim_delivering(&request).await.unwrap())
    }

    /// Gives a file up as a chunker does.
    pub(crate) async fn fail(&self, id: &str) {
        let held = self.claim_chunking(id).await;
        let problem = Problem::new(ProblemKind::SourceChanged, "it grew while it was read");
        self.service.ledger.record_failed(&held.lease, &problem).await.unwrap().unwrap();
    }

    pub(crate) async fn record(&self, id: &str) -> FileRecord {
        self.service.ledger.file(id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// All files as they are now.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut cursor = self.db.collection::<Document>("files").find(doc! {}).await.unwrap();
        let mut files = Snapshot::new();
        while cursor.advance().await.unwrap() {
            let file = cursor.deserialize_current().unwrap();
            let Some(Bson::Binary(id)) = file.get("_id") else { panic!("no id in {file}") };
            let id = FileId::from_bytes(id.bytes.as_slice().try_into().unwrap());
            let state = file.get_str("state").unwrap().to_owned();
            files.insert(id.to_string(), (file.get_i64("version").unwrap(), state));
        }
        files
    }

    /// Asserts that nothing has changed since.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self, before: &Snapshot) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move { assert_eq!(&self.snapshot().await, before, "something changed before {caller}") }
    }

    /// Disables or enables a user, as an operator does.
    pub(crate) async fn disable(&self, username: &str, disabled: bool) {
        let users = self.db.collection::<Document>("users");
        let update = doc! { "$set": { "disabled": disabled } };
        assert_eq!(users.update_one(doc! { "username": username }, update).await.unwrap().matched_count, 1);
    }

    pub(crate) async fn remove_user(&self, username: &str) {
        let users = self.db.collection::<Document>("users");
        assert_eq!(users.delete_one(doc! { "username": username }).await.unwrap().deleted_count, 1);
    }
}

/// Settings for a gateway whose folder is `folder`: the source beneath it, two remotes, no default.
pub(crate) async fn settings(folder: &Path) -> Settings {
    let shared = servers::shared().await.unwrap();
    let mut settings = Settings::default();
    let unique = format!("t{:016x}", rand::random::<u64>());
    settings.nats.url = shared.nats_url().to_owned();
    settings.nats.prefix = unique.clone();
    settings.mongodb.uri = Secret::new(shared.mongodb_uri().to_owned());
    settings.mongodb.database = unique;
    settings.mongodb.pool_size = 4;
    settings.auth.jwt_secret = Some(Secret::new(SECRET.to_owned()));
    settings.gateway.listen = "127.0.0.1:0".parse().unwrap();
    settings.work.grace_ms = 2_000;
    let source = folder.join("source");
    std::fs::create_dir(&source).unwrap();
    settings.files.roots = vec![source];
    for name in ["archive", "mirror"] {
        let path = folder.join(name);
        settings.remotes.insert(name.to_owned(), RemoteSettings::Directory(DirectoryRemote::new(path)));
    }
    settings
}

pub(crate) async fn start(settings: Settings) -> Result<Service, StartError> {
    let life = Lifecycle::new(settings.work.grace());
    runtime::start(Role::Gateway, Arc::new(settings), life).await
}

pub(crate) async fn database(settings: &Settings) -> mongodb::Database {
    let client = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
    client.database(&settings.mongodb.database)
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

fn taken(claim: Claim) -> ClaimedFile {
    match claim {
        Claim::Taken(held) => *held,
        other => panic!("expected to get the file, found {other:?}"),
    }
}

/// Drops the database. Matters where the servers are not ours.
pub(crate) struct Cleanup {
    uri: String,
    database: String,
}

impl Cleanup {
    pub(crate) fn of(settings: &Settings) -> Self {
        let uri = settings.mongodb.uri().unwrap().expose().to_owned();
        Self { uri, database: settings.mongodb.database.clone() }
    }
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
