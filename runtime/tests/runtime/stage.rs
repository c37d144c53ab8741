//! A service in this process with a database and a prefix of its own.

use std::ops::Deref;
use std::time::Instant;

use async_nats::jetstream::stream::Info;
use bus::{Hinted, Job, Outcome};
use contract::{Cause, Event, FileId, ProblemKind, Role, Step};
use ledger::{Claim, ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, Problem};
use runtime::Service;
use settings::Settings;
use testing::{Sandbox, messages, new_file, taken, until, within};
use tokio::sync::{mpsc, oneshot};

pub(crate) struct Stage {
    pub(crate) service: Service,
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
        Self::set_with(|_| {}).await
    }

    /// A service whose streams are there.
    pub(crate) async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let sandbox = Sandbox::with(|settings| {
            settings.work.lease_ms = 1_000;
            settings.work.sweep_ms = 100;
            change(settings);
        });
        Self::on(sandbox.await).await
    }

    /// One more service like this.
    pub(crate) async fn another(&self) -> Self {
        Self::on(Sandbox::of(self.settings.clone()).await).await
    }

    async fn on(sandbox: Sandbox) -> Self {
        let stage = Self { service: sandbox.start(Role::Chunker).await.unwrap(), sandbox };
        until("the streams are there", async || {
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
        let new = new_file(3);
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
        taken(self.try_claim(file).await)
    }

    /// Claims the file and fails it.
    pub(crate) async fn fail(&self, file: FileId) {
        let (held, problem) = (self.claim(file).await, Problem::new(ProblemKind::SourceMissing, ""));
        self.service.ledger.record_failed(&held.lease, &problem).await.unwrap().unwrap();
    }

    pub(crate) async fn record(&self, file: FileId) -> FileRecord {
        self.service.ledger.file(file).await.unwrap().unwrap()
    }

    pub(crate) async fn stream(&self, name: &str) -> Info {
        self.service.nats.jetstream().get_stream(name).await.unwrap().get_info().await.unwrap()
    }

    /// Messages of a stream, oldest first: subject and payload.
    pub(crate) async fn messages(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let messages = messages(&async_nats::connect(&self.settings.nats.url).await.unwrap(), name).await.unwrap();
        messages.into_iter().map(|message| (message.subject.to_string(), message.payload.to_vec())).collect()
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
        until(&format!("{expected:?} hints"), async || (self.hints().await == expected).then_some(())).await;
    }

    /// The last hint is done, and none is left.
    pub(crate) async fn end_with(&self, last: Delivered) {
        last.becomes(Outcome::Done);
        self.until_hints_are((0, 0)).await;
        self.stop().await;
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
    within(delivered.recv()).await.expect("a consumer that runs")
}
