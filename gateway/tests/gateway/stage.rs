//! A gateway in this process, with a database, a prefix and a source folder of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{Digest, FileId, ProblemKind, Role};
use ledger::{ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, NewUser, Problem, StoredOutcome};
use mongodb::bson::{Bson, Document, doc};
use runtime::Service;
use settings::{DirectoryRemote, RemoteSettings, Secret, Settings};
use tempfile::TempDir;
use testing::{Api, Sandbox, taken};

pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const SECRET: &str = "a secret of at least 32 bytes, for tests";

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    /// The user [`USER`].
    pub(crate) ada: Api,
    /// Nobody.
    pub(crate) stranger: Api,
    pub(crate) folder: TempDir,
    sandbox: Sandbox,
}

impl Deref for Stage {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// Files by id, with what changes whenever anything of note does.
pub(crate) type Snapshot = BTreeMap<String, (i64, String)>;

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let sandbox = sandbox(folder.path(), change).await;
        let service = sandbox.start(Role::Gateway).await.unwrap();
        assert!(service.ledger.add_user(&NewUser { username: USER, password: PASSWORD }).await.unwrap());
        let address = gateway::run(service.clone()).await.unwrap();
        let stranger = Api::new(&format!("http://{address}"));
        let ada = stranger.logged_in(USER, PASSWORD).await;
        Self { address, service, ada, stranger, folder, sandbox }
    }

    /// A further user, logged in.
    pub(crate) async fn another_user(&self, username: &str) -> Api {
        assert!(self.service.ledger.add_user(&NewUser { username, password: PASSWORD }).await.unwrap());
        self.stranger.logged_in(username, PASSWORD).await
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
        self.ada.prepare(path).await.expect(201).file_id()
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
        let mut cursor = self.files().find(doc! {}).await.unwrap();
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

/// A sandbox with the settings of a gateway whose folder is `folder`: the source beneath it, two remotes, no default.
pub(crate) async fn sandbox(folder: &Path, change: impl FnOnce(&mut Settings)) -> Sandbox {
    let source = folder.join("source");
    std::fs::create_dir(&source).unwrap();
    let sandbox = Sandbox::with(|settings| {
        settings.auth.jwt_secret = Some(Secret::new(SECRET.to_owned()));
        settings.gateway.listen = "127.0.0.1:0".parse().unwrap();
        settings.work.grace_ms = 2_000;
        settings.files.roots = vec![source];
        for name in ["archive", "mirror"] {
            let path = folder.join(name);
            settings.remotes.insert(name.to_owned(), RemoteSettings::Directory(DirectoryRemote::new(path)));
        }
        change(settings);
    });
    sandbox.await
}
