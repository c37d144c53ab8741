//! A service in this process with a database and a prefix of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Info;
use bus::Hinted;
use bus::{Job, Outcome};
use contract::{Cause, Event, FileId, Role, Step};
use ledger::{Claim, ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, NewFile, Source};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use runtime::{Lifecycle, Service};
use settings::{Secret, Settings};
use tokio::sync::{mpsc, oneshot};

/// Generous: passed only by what is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) service: Service,
    db: mongodb::Database,
    _cleanup: Cleanup,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    /// A service whose streams are there.
    pub(crate) async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let shared = servers::shared().await.unwrap();
        let mut settings = Settings::default();
        let unique = format!("t{:016x}", rand::random::<u64>());
        settings.nats.url = shared.nats_url().to_owned();
        settings.nats.prefix = unique.clone();
        settings.mongodb.uri = Secret::new(shared.mongodb_uri().to_owned());
        settings.mongodb.database = unique;
        settings.mongodb.pool_size = 8;
        settings.work.lease_ms = 1_000;
        settings.work.sweep_ms = 100;
        change(&mut settings);
        Self::of(settings).await
    }

    pub(crate) async fn of(settings: Settings) -> Self {
        let client = mongodb::Client::with_uri_str(settings.mongodb.uri().unwrap().expose()).await.unwrap();
        let db = client.database(&settings.mongodb.database);
        let cleanup = Cleanup { settings: settings.clone() };
        let life = Lifecycle::new(settings.work.grace());
        let service = runtime::start(Role::Chunker, Arc::new(settings), life).await.unwrap();
        let stage = Self { service, db, _cleanup: cleanup };
        eventually("the streams are there", async || {
            let names = &stage.service.names;
            for name in [names.work_stream(), names.events_stream(), names.dead_stream()] {
                stage.service.nats.jetstream().get_stream(name).await.ok()?;
            }
            Some(())
        })
        .await;
        stage
    }

    /// Takes hints to prepare, `concurrency` at once; what becomes of each, the test says.
    pub(crate) fn take_hints(&self, concurrency: usize) -> mpsc::Receiver<Delivered> {
        let (deliver, delivered) = mpsc::channel(64);
        let handle = move |job: Job| {
            let deliver = deliver.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                // A test that has ended wants no more of them.
                let _ = deliver.send(Delivered { at: Instant::now(), job, answer }).await;
                answered.await.expect("a handler that breaks down")
            }
        };
        let taking = self.service.hints(Step::Prepare, concurrency).consume(handle);
        self.service.life.spawn("hints", taking);
        delivered
    }

    pub(crate) async fn hint(&self, file: FileId) -> Hinted {
        self.service.nats.hint(Step::Prepare, file, Cause::Request).await.unwrap()
    }

    pub(crate) async fn prepared(&self) -> FileId {
        let new = NewFile {
            id: FileId::generate(),
            source: Source { root: "/srv/in".into(), path: "a".into(), size: 3, mtime_ns: 0 },
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

    pub(crate) async fn try_claim(&self, file: FileId) -> Claim {
        let lease = self.service.settings.work.lease();
        let request = ClaimRequest { file, worker: &self.service.worker, lease };
        let opening = GenerationOptions { chunk_size: 1 << 20, embed_limit: 2 << 20 };
        self.service.ledger.claim_chunking(&request, opening).await.unwrap()
    }

    pub(crate) async fn claim(&self, file: FileId) -> ClaimedFile {
        match self.try_claim(file).await {
            Claim::Taken(held) => *held,
            other => panic!("expected to get the file, found {other:?}"),
        }
    }

    pub(crate) async fn record(&self, file: FileId) -> FileRecord {
        self.service.ledger.file(file).await.unwrap().unwrap()
    }

    /// How many milliseconds a date of the record is away by MongoDB's clock; `None` where it has no such date.
    pub(crate) async fn ms_until(&self, file: FileId, field: &str) -> Option<i64> {
        let away = doc! { "$subtract": [format!("${field}"), "$$NOW"] };
        let look = vec![doc! { "$match": by_id(file) }, doc! { "$project": { "ms": away } }];
        let mut cursor = self.db.collection::<Document>("files").aggregate(look).await.unwrap();
        assert!(cursor.advance().await.unwrap(), "there is no file {file}");
        cursor.deserialize_current().unwrap().get_i64("ms").ok()
    }

    /// Sets a date of the record to so many milliseconds ago by MongoDB's clock: what waiting does, without the waiting.
    pub(crate) async fn set_ago(&self, file: FileId, field: &str, ms: i64) {
        let set = vec![doc! { "$set": { field: { "$subtract": ["$$NOW", ms] } } }];
        let files = self.db.collection::<Document>("files");
        assert_eq!(files.update_one(by_id(file), set).await.unwrap().matched_count, 1);
    }

    pub(crate) async fn stream(&self, name: &str) -> Info {
        self.service.nats.jetstream().get_stream(name).await.unwrap().get_info().await.unwrap()
    }

    /// Messages of a stream, oldest first: subject and payload.
    pub(crate) async fn messages(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let stream = self.service.nats.jetstream().get_stream(name).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            // What was taken out leaves a gap.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                messages.push((message.subject.to_string(), message.payload.to_vec()));
            }
        }
        messages
    }

    /// The events that were published, oldest first.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let messages = self.messages(&self.service.names.events_stream()).await;
        let read = |(subject, payload): &(String, Vec<u8>)| {
            let event = Event::from_json(payload).unwrap();
            assert_eq!(*subject, self.service.names.event(event.file_id, event.event));
            event
        };
        messages.iter().map(read).collect()
    }

    /// How many hints are there, and how many of them are out with a worker.
    pub(crate) async fn hints(&self) -> (u64, usize) {
        let stream = self.service.nats.jetstream().get_stream(self.service.names.work_stream()).await.unwrap();
        let messages = stream.get_info().await.unwrap().state.messages;
        let consumer = stream.consumer_info(Step::Prepare.role().as_str()).await;
        (messages, consumer.map_or(0, |info| info.num_ack_pending))
    }

    pub(crate) async fn until_hints_are(&self, expected: (u64, usize)) {
        eventually(&format!("{expected:?} hints"), async || (self.hints().await == expected).then_some(())).await;
    }

    pub(crate) async fn stop(&self) {
        self.service.life.stop();
        self.service.life.ended().await.unwrap();
    }
}

/// A hint that has reached the handler.
pub(crate) struct Delivered {
    pub(crate) at: Instant,
    pub(crate) job: Job,
    answer: oneshot::Sender<Outcome>,
}

impl Delivered {
    /// What the handler makes of it.
    pub(crate) fn becomes(self, outcome: Outcome) {
        self.answer.send(outcome).expect("the handler waits");
    }

    /// Has the handler panic.
    pub(crate) fn breaks_down(self) {
        drop(self.answer);
    }
}

pub(crate) async fn next(delivered: &mut mpsc::Receiver<Delivered>) -> Delivered {
    tokio::time::timeout(DEADLINE, delivered.recv()).await.expect("a hint in time").expect("a consumer that runs")
}

pub(crate) fn by_id(file: FileId) -> Document {
    doc! { "_id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: file.as_bytes().to_vec() }) }
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

/// Drops the database and the streams. Matters where the servers are not ours.
struct Cleanup {
    settings: Settings,
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
