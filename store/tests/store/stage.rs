//! A store in this process with a database and a prefix of its own, and a sender of chunks that is not a chunker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use contract::{ChunkAnswer, ChunkHeader, ChunkNumber, ChunkReply, Digest, FileId, Role};
use futures_util::StreamExt;
use ledger::{Claim, ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, Layout, NewFile, Source};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use runtime::{Lifecycle, Service};
use settings::{Secret, Settings};

pub(crate) const MIB: u32 = 1024 * 1024;

/// The smallest chunks there are.
pub(crate) const KIB_64: u32 = 64 * 1024;

/// Generous: only something broken takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// So long that no test outlasts it.
pub(crate) const BUDGET_MS: u64 = 30_000;

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) service: Service,
    /// The connection of the sender.
    pub(crate) client: async_nats::Client,
    db: mongodb::Database,
    _cleanup: Cleanup,
}

/// How the chunks of a file are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    /// In documents of `chunks`.
    Children,
    /// In one document of `contents`.
    Embedded,
}

pub(crate) const BOTH: [Kept; 2] = [Kept::Children, Kept::Embedded];

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    pub(crate) async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings().await;
        change(&mut settings);
        let client = async_nats::connect(settings.nats.url()).await.unwrap();
        let mongodb = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
        let db = mongodb.database(&settings.mongodb.database);
        let cleanup = Cleanup::of(&settings);
        let service = start(settings).await;
        let stage = Self { service, client, db, _cleanup: cleanup };
        stage.until_stores_answer(1).await;
        stage
    }

    /// One more store with the same settings.
    pub(crate) async fn another_store(&self) -> Service {
        start((*self.service.settings).clone()).await
    }

    /// What every store reports about its endpoint for chunks (`$SRV.STATS`), by the name of the instance.
    pub(crate) async fn stats(&self, stores: usize) -> BTreeMap<String, serde_json::Value> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.unwrap();
        let subject = format!("$SRV.STATS.{}", self.service.names.service(Role::Store));
        self.client.publish_with_reply(subject, inbox, "".into()).await.unwrap();
        let mut stats = BTreeMap::new();
        while stats.len() < stores {
            let wait = tokio::time::timeout(Duration::from_millis(500), answers.next()).await;
            // No responders, or fewer than expected.
            let Ok(Some(answer)) = wait else { break };
            let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&answer.payload) else { break };
            let endpoints = answer["endpoints"].as_array().unwrap();
            if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint["name"] == "chunk-put") {
                stats.insert(answer["id"].as_str().unwrap().to_owned(), endpoint.clone());
            }
        }
        stats
    }

    /// How many chunks every store has answered, by the name of the instance.
    pub(crate) async fn answered(&self, stores: usize) -> BTreeMap<String, u64> {
        let stats = self.stats(stores).await.into_iter();
        stats.map(|(id, endpoint)| (id, endpoint["num_requests"].as_u64().unwrap())).collect()
    }

    pub(crate) async fn until_stores_answer(&self, stores: usize) {
        eventually("the stores take chunks", async || (self.stats(stores).await.len() == stores).then_some(())).await;
    }

    /// Waits until NATS knows that a store has stopped: until then nobody answers what NATS sends to it.
    pub(crate) async fn until_all_is_answered(&self) {
        eventually("all is answered", async || {
            for _ in 0..8 {
                let probe = async_nats::Request::new().timeout(Some(Duration::from_millis(500)));
                self.client.send_request(self.service.names.chunk_put(), probe).await.ok()?;
            }
            Some(())
        })
        .await;
    }

    /// A file as a gateway records it.
    pub(crate) async fn prepared(&self, size: usize) -> FileId {
        let new = NewFile {
            id: FileId::generate(),
            source: Source { root: "/srv/in".into(), path: "a".into(), size: size as u64, mtime_ns: 0 },
            name: contract::ObjectName::new("a").unwrap(),
            media_type: "application/octet-stream".into(),
            metadata: BTreeMap::new(),
            user: "ada".into(),
            remote: None,
            idempotency: None,
        };
        let id = new.id;
        self.service.ledger.create(new).await.unwrap();
        id
    }

    /// Claims a file like a chunker that is about to send its chunks.
    pub(crate) async fn claim(&self, file: FileId, kept: Kept, chunk_size: u32) -> ClaimedFile {
        let request = ClaimRequest { file, worker: "chunker-of-the-test", lease: LEASE };
        let embed_limit = if matches!(kept, Kept::Embedded) { 15 * u64::from(MIB) } else { 0 };
        let claim =
            self.service.ledger.claim_chunking(&request, GenerationOptions { chunk_size, embed_limit }).await.unwrap();
        let Claim::Taken(held) = claim else { panic!("expected to get the file, found {claim:?}") };
        self.open_content(&held.file).await;
        *held
    }

    pub(crate) async fn open_content(&self, file: &FileRecord) {
        if file.layout == Some(Layout::Embedded) && file.split().unwrap().count() > 1 {
            self.service.ledger.open_content(file.id, file.generation).await.unwrap();
        }
    }

    /// A file of `size` bytes that is being chunked into chunks of 64 KiB.
    pub(crate) async fn chunking(&self, size: usize, kept: Kept) -> ClaimedFile {
        let file = self.prepared(size).await;
        self.claim(file, kept, KIB_64).await
    }

    /// Makes the lease on a file expire.
    pub(crate) async fn end_lease(&self, file: FileId) {
        let end = vec![doc! { "$set": { "lease.until": "$$NOW" } }];
        let files = self.db.collection::<Document>("files");
        assert_eq!(files.update_one(by_id(file), end).await.unwrap().matched_count, 1);
    }

    /// Sends a chunk and waits for the answer.
    pub(crate) async fn put(&self, header: &ChunkHeader, data: &[u8]) -> ChunkReply {
        self.put_raw(headers(header), data).await
    }

    pub(crate) async fn put_raw(&self, headers: HeaderMap, data: &[u8]) -> ChunkReply {
        put_over(self.client.clone(), self.service.names.chunk_put(), headers, data.to_vec()).await
    }

    /// Sends many chunks at once and returns the answers in their order. Beyond a few dozen, the connection of a store
    /// that is short of cores drops some, and their sender waits in vain.
    pub(crate) async fn put_at_once(&self, chunks: &[(ChunkHeader, Vec<u8>)]) -> Vec<ChunkAnswer> {
        let send = |(header, data): &(ChunkHeader, Vec<u8>)| {
            let subject = self.service.names.chunk_put();
            tokio::spawn(put_over(self.client.clone(), subject, headers(header), data.clone()))
        };
        let sent: Vec<_> = chunks.iter().map(send).collect();
        let mut answers = Vec::new();
        for sent in sent {
            answers.push(sent.await.unwrap().answer);
        }
        answers
    }

    /// Everything stored of all files: the length of each chunk, by the key of its document and its number in it.
    pub(crate) async fn kept(&self) -> BTreeMap<(Vec<u8>, String), usize> {
        let mut kept = BTreeMap::new();
        let len = |chunk: &Document| match chunk.get("data") {
            Some(Bson::Binary(data)) => data.bytes.len(),
            other => panic!("expected bytes, found {other:?}"),
        };
        let key = |document: &Document| match document.get("_id") {
            Some(Bson::Binary(key)) => key.bytes.clone(),
            other => panic!("expected a key, found {other:?}"),
        };
        for collection in ["chunks", "contents"] {
            let mut cursor = self.db.collection::<Document>(collection).find(doc! {}).await.unwrap();
            while cursor.advance().await.unwrap() {
                let document = cursor.deserialize_current().unwrap();
                match document.get_document("c") {
                    Ok(chunks) => {
                        for (number, chunk) in chunks {
                            kept.insert((key(&document), number.clone()), len(chunk.as_document().unwrap()));
                        }
                    }
                    Err(_) => {
                        kept.insert((key(&document), String::new()), len(&document));
                    }
                }
            }
        }
        kept
    }

    /// The stored bytes of a file, chunk by chunk.
    pub(crate) async fn stored(&self, file: &FileRecord) -> Vec<Vec<u8>> {
        let (layout, count) = (file.layout.unwrap(), file.split().unwrap().count());
        let read =
            self.service.ledger.read_chunks(file.id, file.generation, layout, ChunkNumber(0), count).await.unwrap();
        read.into_iter().map(|chunk| chunk.data.to_vec()).collect()
    }
}

async fn put_over(client: async_nats::Client, subject: String, headers: HeaderMap, data: Vec<u8>) -> ChunkReply {
    let request = async_nats::Request::new().headers(headers).payload(data.into()).timeout(Some(DEADLINE));
    let answer = client.send_request(subject, request).await.unwrap();
    ChunkReply::from_json(&answer.payload).unwrap()
}

/// The header of a chunk as an honest chunker writes it.
pub(crate) fn header(file: &FileRecord, number: u32, data: &[u8]) -> ChunkHeader {
    ChunkHeader {
        file_id: file.id,
        generation: file.generation,
        epoch: file.epoch,
        number: ChunkNumber(number),
        sha256: Digest::of(data),
        budget_ms: BUDGET_MS,
    }
}

pub(crate) fn headers(header: &ChunkHeader) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in header.to_pairs() {
        map.insert(name, value.as_str());
    }
    map
}

/// All chunks of a file, as an honest chunker sends them.
pub(crate) fn chunks_of(file: &FileRecord, content: &[u8]) -> Vec<(ChunkHeader, Vec<u8>)> {
    let chunk_size = file.chunk_size.unwrap() as usize;
    content.chunks(chunk_size).zip(0..).map(|(data, number)| (header(file, number, data), data.to_vec())).collect()
}

/// Bytes unlike those of another seed.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Asserts what was answered, and that the reason contains `why`.
#[track_caller]
pub(crate) fn assert_refused(reply: &ChunkReply, answer: ChunkAnswer, why: &str) {
    let detail = reply.detail.as_deref().unwrap_or_default();
    assert!(reply.answer == answer && detail.contains(why), "expected {answer:?} with {why:?}, found {reply:?}");
}

async fn settings() -> Settings {
    let shared = servers::shared().await.unwrap();
    let mut settings = Settings::default();
    let unique = format!("t{:016x}", rand::random::<u64>());
    settings.nats.url = shared.nats_url().to_owned();
    settings.nats.prefix = unique.clone();
    settings.mongodb.uri = Secret::new(shared.mongodb_uri().to_owned());
    settings.mongodb.database = unique;
    settings.mongodb.pool_size = 8;
    settings
}

async fn start(settings: Settings) -> Service {
    let life = Lifecycle::new(settings.work.grace());
    let service = runtime::start(Role::Store, Arc::new(settings), life).await.unwrap();
    store::run(service.clone()).await.unwrap();
    service
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

fn by_id(file: FileId) -> Document {
    doc! { "_id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: file.as_bytes().to_vec() }) }
}

/// Drops the database and the streams. Matters where the servers are not ours.
struct Cleanup {
    settings: Settings,
}

impl Cleanup {
    fn of(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let given = |name| std::env::var_os(name).is_some();
        let (nats, mongodb) = (given(servers::NATS_URL), given(servers::MONGODB_URI));
        if !nats && !mongodb {
            return;
        }
        let settings = self.settings.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if mongodb {
                    let client = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
                    client.database(&settings.mongodb.database).drop().await.unwrap();
                }
                if nats {
                    let client = async_nats::connect(settings.nats.url()).await.unwrap();
                    let jetstream = async_nats::jetstream::new(client);
                    for stream in contract::StreamSpec::all(&contract::Names::new(&settings.nats.prefix).unwrap()) {
                        // It may never have been made.
                        let _ = jetstream.delete_stream(stream.name).await;
                    }
                }
            });
        });
        // A test that has failed already says more than what is left behind.
        let _ = dropping.join();
    }
}
