//! The one consume loop: a free slot, a pull, a handler, an answer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Batch;
use async_nats::jetstream::message::{AckKind, Acker};
use contract::{DeadLetter, FileId, Hint, Role, Step};
use futures_util::{FutureExt, StreamExt};
use ledger::Ledger;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Counters, Nats, NatsError, streams};

/// How long a pull waits for messages. A pull dies with its server, and nobody notices before this time is over.
const PULL: Duration = Duration::from_secs(3);

/// How long to leave NATS alone after a pull failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// A hint that NATS delivered, for as long as a handler works on it.
#[derive(Clone)]
pub struct Job {
    /// The file to look at.
    pub file: FileId,
    message: Arc<Acker>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({})", self.file)
    }
}

impl Job {
    /// Tells JetStream that the work goes on. If that fails, JetStream may deliver the message again.
    pub async fn still_alive(&self) {
        if let Err(error) = self.message.ack_with(AckKind::Progress).await {
            tracing::debug!(file = %self.file, "a sign of life was not sent: {error}");
        }
    }
}

/// How a handler ended with a hint. A retry is in the record by then.
#[derive(Debug)]
pub enum Outcome {
    /// The hint needs nothing more.
    Done,
    /// Another worker holds the file, at most for this long.
    HeldByAnother(Duration),
    /// The handler gave the file back for another worker, now.
    HandedBack,
    /// The handler lost its lease: the worker that holds the file now answers the hint.
    Lost,
    /// MongoDB or NATS was out of reach: the hint stays for later.
    Outage(String),
}

/// The hints of one step, and what the loop needs to take them.
#[derive(Debug, Clone)]
pub struct Hints {
    /// The step that the hints ask for.
    pub step: Step,
    /// How many hints are worked on at once.
    pub concurrency: usize,
    /// The service that dead letters name as the one that could not read the hint.
    pub role: Role,
    /// The control connection.
    pub nats: Nats,
    /// The truth. When the stream of hints is created again, everything in work becomes due there.
    pub ledger: Ledger,
    /// How long a lease lasts; JetStream waits a little longer for an acknowledgement.
    pub lease: Duration,
    /// Bytes of a chunk: a worker takes no hint while NATS takes no chunks.
    pub chunk_size: u32,
    /// Counts what the loop does.
    pub counters: Counters,
    /// Cancelled when the process must take nothing new.
    pub stopping: CancellationToken,
}

impl Hints {
    /// Takes hints until the process stops; then waits for the running handlers.
    pub async fn consume<F, Fut>(self, handle: F)
    where
        F: Fn(Job) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let all = u32::try_from(self.concurrency).unwrap_or(u32::MAX);
        while !self.stopping.is_cancelled() {
            if let Err(why) = self.pull(&slots, &handle).await {
                tracing::warn!("{why}");
                tokio::select! {
                    () = tokio::time::sleep(AFTER_FAILURE) => {}
                    () = self.stopping.cancelled() => break,
                }
            }
        }
        drop(slots.acquire_many(all).await);
    }

    /// Pulls and hands out until something fails or the process stops.
    async fn pull<F, Fut>(&self, slots: &Arc<Semaphore>, handle: &F) -> Result<(), String>
    where
        F: Fn(Job) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let mut connects = self.nats.connects();
        let consumer = tokio::select! {
            consumer = self.consumer() => consumer?,
            () = self.stopping.cancelled() => return Ok(()),
        };
        loop {
            connects.mark_unchanged();
            let mut permits = tokio::select! {
                permits = free_slots(slots, self.concurrency) => permits,
                () = self.stopping.cancelled() => return Ok(()),
            };
            let mut batch = open_batch(&consumer, permits.len()).await?;
            loop {
                let next = tokio::select! {
                    next = batch.next() => next,
                    // The pull died with the connection.
                    _ = connects.changed() => None,
                    () = self.stopping.cancelled() => {
                        give_back(batch).await;
                        return Ok(());
                    }
                };
                match next {
                    Some(Ok(message)) => {
                        let Some(permit) = permits.pop() else { break };
                        self.clone().spawn(message, permit, handle.clone());
                    }
                    Some(Err(error)) => return Err(format!("pulling hints to {} failed: {error}", self.step.as_str())),
                    None => break,
                }
            }
            if let Some(problem) = self.nats.problem(self.chunk_size) {
                return Err(problem);
            }
        }
    }

    /// The consumer of the step, once NATS takes our payloads and has our streams.
    async fn consumer(&self) -> Result<PullConsumer, String> {
        self.nats.wait_until_payloads_fit(self.chunk_size).await;
        streams::make_streams(&self.nats, &self.ledger).await.map_err(|e| e.to_string())?;
        streams::consumer(&self.nats, self.step, self.lease).await.map_err(|e| e.to_string())
    }

    /// Runs the handler on a task of its own and answers the message.
    fn spawn<F, Fut>(self, message: async_nats::jetstream::Message, permit: OwnedSemaphorePermit, handle: F)
    where
        F: Fn(Job) -> Fut + Send + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        tokio::spawn(async move {
            let (message, acker) = message.split();
            let acker = Arc::new(acker);
            match self.read(&message) {
                Ok(file) => {
                    let running = self.counters.job();
                    // If a handler panics, the hint must still be answered: it is answered as after an outage.
                    let handled = tokio::spawn(handle(Job { file, message: acker.clone() })).await;
                    drop(running);
                    let outcome =
                        handled.unwrap_or_else(|panic| Outcome::Outage(format!("a handler broke down: {panic}")));
                    self.answer_outcome(&acker, file, outcome).await;
                }
                Err(reason) => self.bury(&acker, &message, reason).await,
            }
            drop(permit);
        });
    }

    /// Reads which file a hint is about. The subject and the body must name the same file.
    fn read(&self, message: &async_nats::Message) -> Result<FileId, String> {
        let hint = Hint::from_json(&message.payload).map_err(|e| e.to_string())?;
        let subject = self.nats.names().hint(self.step, hint.file_id);
        if message.subject.as_str() != subject {
            return Err(format!("expected the subject {subject}, found {:?}", message.subject));
        }
        Ok(hint.file_id)
    }

    async fn answer_outcome(&self, message: &Acker, file: FileId, outcome: Outcome) {
        let kind = match outcome {
            Outcome::Done => AckKind::Ack,
            Outcome::HeldByAnother(remaining) => AckKind::Nak(Some(remaining)),
            Outcome::HandedBack => AckKind::Nak(None),
            Outcome::Lost => return,
            Outcome::Outage(why) => {
                tracing::warn!(%file, "{why}; the hint comes again");
                AckKind::Nak(Some((self.lease / 4).mul_f64(0.5 + rand::random::<f64>() / 2.0)))
            }
        };
        answer(message, kind).await;
    }

    /// Makes an unreadable message a dead letter, then ends it.
    async fn bury(&self, acker: &Acker, message: &async_nats::Message, reason: String) {
        tracing::warn!(subject = %message.subject, "a message cannot be read: {reason}");
        self.counters.unreadable();
        let letter = DeadLetter::new(self.role, &message.subject, &reason, &message.payload);
        let mut kept = self.nats.dead(self.role, &letter).await;
        if matches!(kept, Err(NatsError::NoStream { .. }))
            && streams::make_streams(&self.nats, &self.ledger).await.is_ok()
        {
            kept = self.nats.dead(self.role, &letter).await;
        }
        match kept {
            Ok(()) => answer(acker, AckKind::Term).await,
            // The message is not ended, because it was not kept: it comes again.
            Err(error) => tracing::warn!("an unreadable message was not kept; it comes again: {error}"),
        }
    }
}

async fn free_slots(slots: &Arc<Semaphore>, concurrency: usize) -> Vec<OwnedSemaphorePermit> {
    let mut permits = Vec::with_capacity(concurrency);
    // The semaphore is never closed.
    if let Ok(first) = slots.clone().acquire_owned().await {
        permits.push(first);
    }
    while let Ok(more) = slots.clone().try_acquire_owned() {
        permits.push(more);
    }
    permits
}

async fn open_batch(consumer: &PullConsumer, size: usize) -> Result<Batch, String> {
    // No heartbeat: with one, this batch loses a wake-up in async-nats 0.51.
    let batch = consumer.batch().max_messages(size).expires(PULL).messages().await;
    batch.map_err(|e| format!("asking NATS for hints failed: {e}"))
}

/// Gives back the messages that arrived while the process began to stop.
async fn give_back(mut batch: Batch) {
    while let Some(Some(Ok(message))) = batch.next().now_or_never() {
        answer(&message.split().1, AckKind::Nak(None)).await;
    }
}

async fn answer(message: &Acker, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!("an answer to a hint was not sent; the hint comes again: {error}");
    }
}
