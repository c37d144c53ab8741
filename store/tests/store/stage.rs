//! A store in this process with a database and a prefix of its own, and a sender of chunks that is not a chunker.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use async_nats::HeaderMap;
use contract::{ChunkAnswer, ChunkHeader, ChunkNumber, ChunkReply, Digest, FileId, Role};
use futures_util::StreamExt;
use ledger::{ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, Layout};
use mongodb::bson::{Bson, Document, doc};
use runtime::Service;
use settings::Settings;
use testing::{DEADLINE, MIB, Sandbox, new_file, taken, until};

/// The smallest chunks there are.
pub(crate) const KIB_64: u32 = 64 * 1024;

/// So long that no test outlasts it.
pub(crate) const BUDGET_MS: u64 = 30_000;

const LEASE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) service: Service,
    /// The connection of the sender.
    pub(crate) client: async_nats::Client,
    sandbox: Sandbox,
}

impl Deref for Stage {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
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
        let sandbox = Sandbox::with(change).await;
        let client = async_nats::connect(sandbox.settings.nats.url()).await.unwrap();
        let stage = Self { service: start(&sandbox).await, client, sandbox };
        stage.until_stores_answer(1).await;
        stage
    }

    /// One more store with the same settings.
    pub(crate) async fn another_store(&self) -> Service {
        start(&self.sandbox).await
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
        until("the stores take chunks", async || (self.stats(stores).await.len() == stores).then_some(())).await;
    }

    /// Waits until NATS knows that a store has stopped: until then nobody answers what NATS sends to it.
    pub(crate) async fn until_all_is_answered(&self) {
        until("all is answered", async || {
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
        let new = new_file(size as u64);
        let id = new.id;
        self.service.ledger.create(new).await.unwrap();
        id
    }

    /// Claims a file like a chunker that is about to send its chunks.
    pub(crate) async fn claim(&self, file: FileId, kept: Kept, chunk_size: u32) -> ClaimedFile {
        let request = ClaimRequest { file, worker: "chunker-of-the-test", lease: LEASE };
        let embed_limit = if matches!(kept, Kept::Embedded) { 15 * u64::from(MIB) } else { 0 };
        let options = GenerationOptions { chunk_size, embed_limit };
        let held = taken(self.service.ledger.claim_chunking(&request, options).await.unwrap());
        self.open_content(&held.file).await;
        held
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

/// Asserts what was answered, and that the reason contains `why`.
#[track_caller]
pub(crate) fn assert_refused(reply: &ChunkReply, answer: ChunkAnswer, why: &str) {
    let detail = reply.detail.as_deref().unwrap_or_default();
    assert!(reply.answer == answer && detail.contains(why), "expected {answer:?} with {why:?}, found {reply:?}");
}

async fn start(sandbox: &Sandbox) -> Service {
    let service = sandbox.start(Role::Store).await.unwrap();
    store::run(service.clone()).await.unwrap();
    service
}
