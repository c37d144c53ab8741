//! The one consume loop: a free slot, a pull, a handler, an answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::{AckKind, Acker};
use contract::{DeadLetter, FileId, Hint, Step};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::nats::NatsError;
use crate::service::Service;
use crate::{retry, streams, sweep};

/// How long a pull waits for messages. A pull dies with its server, so a long one would be a long silence.
const PULL: Duration = Duration::from_secs(3);

/// How long to leave NATS alone after a pull failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// A hint that was delivered, while it is worked on.
#[derive(Clone)]
pub struct Job {
    /// The file to look at.
    pub file: FileId,
    message: Arc<Acker>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.file)
    }
}

impl Job {
    /// Tells JetStream that the work goes on. A failure only means that the message may be delivered again.
    pub(crate) async fn still_alive(&self) {
        if let Err(error) = self.message.ack_with(AckKind::Progress).await {
            tracing::debug!(file = %self.file, "a sign of life was not sent: {error}");
        }
    }
}

/// What a handler made of a hint. A retry is a fact of the record by then.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing more to do with this hint.
    Done,
    /// Another has the file, for at most so long.
    Held(Duration),
    /// Handed back for another worker, now.
    HandedBack,
    /// The lease was lost: whoever has it answers for the hint.
    Lost,
    /// MongoDB or NATS could not be reached: the hint stays for later.
    Outage(String),
}

/// Takes the hints of `step`, up to `concurrency` at once, until the process stops; then waits for those under way.
pub async fn consume<F, Fut>(service: Service, step: Step, concurrency: usize, handle: F)
where
    F: Fn(Job) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(concurrency));
    let all = u32::try_from(concurrency).unwrap_or(u32::MAX);
    while !service.life.is_stopping() {
        if let Err(why) = pull(&service, step, &slots, concurrency, &handle).await {
            tracing::warn!("{why}");
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAILURE) => {}
                () = service.life.stopping() => break,
            }
        }
    }
    drop(slots.acquire_many(all).await);
}

/// Pulls and hands out until something fails or the process stops.
async fn pull<F, Fut>(
    service: &Service,
    step: Step,
    slots: &Arc<Semaphore>,
    concurrency: usize,
    handle: &F,
) -> Result<(), String>
where
    F: Fn(Job) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let mut connects = service.nats.connects();
    let consumer = tokio::select! {
        consumer = consumer(service, step) => consumer?,
        () = service.life.stopping() => return Ok(()),
    };
    loop {
        connects.mark_unchanged();
        let mut permits = tokio::select! {
            permits = free_slots(slots, concurrency) => permits,
            () = service.life.stopping() => return Ok(()),
        };
        let mut batch = open_batch(&consumer, permits.len()).await?;
        loop {
            let next = tokio::select! {
                next = batch.next() => next,
                // A pull that was under way died with the connection.
                _ = connects.changed() => None,
                () = service.life.stopping() => {
                    give_back(batch).await;
                    return Ok(());
                }
            };
            match next {
                Some(Ok(message)) => {
                    let Some(permit) = permits.pop() else { break };
                    spawn(service.clone(), step, message, permit, handle.clone());
                }
                Some(Err(error)) => return Err(format!("pulling hints to {} failed: {error}", step.as_str())),
                None => break,
            }
        }
        if let Some(problem) = service.nats.problem(service.settings.files.chunk_size) {
            return Err(problem);
        }
    }
}

/// The consumer of `step`, once NATS takes our payloads and has our streams.
async fn consumer(service: &Service, step: Step) -> Result<PullConsumer, String> {
    service.wait_until_payloads_fit().await;
    sweep::make_streams(service).await.map_err(|e| e.to_string())?;
    streams::consumer(&service.nats, step, service.settings.work.lease()).await.map_err(|e| e.to_string())
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

async fn open_batch(
    consumer: &PullConsumer,
    size: usize,
) -> Result<async_nats::jetstream::consumer::pull::Batch, String> {
    // No heartbeat: with one, this batch loses a wake-up in async-nats 0.51.
    let batch = consumer.batch().max_messages(size).expires(PULL).messages().await;
    batch.map_err(|e| format!("asking NATS for hints failed: {e}"))
}

/// Gives back what came in while the process began to stop.
async fn give_back(mut batch: async_nats::jetstream::consumer::pull::Batch) {
    while let Some(Some(Ok(message))) = batch.next().now_or_never() {
        answer(&message.split().1, AckKind::Nak(None)).await;
    }
}

fn spawn<F, Fut>(
    service: Service,
    step: Step,
    message: async_nats::jetstream::Message,
    permit: OwnedSemaphorePermit,
    handle: F,
) where
    F: Fn(Job) -> Fut + Send + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    tokio::spawn(async move {
        let (message, acker) = message.split();
        let acker = Arc::new(acker);
        match read(&service, step, &message) {
            Ok(file) => {
                let running = service.counters.job();
                // A panic in a handler must not take the hint with it: it is answered like an outage.
                let handled = tokio::spawn(handle(Job { file, message: acker.clone() })).await;
                drop(running);
                let outcome = handled.unwrap_or_else(|panic| Outcome::Outage(format!("a handler broke down: {panic}")));
                settle(&service, &acker, file, outcome).await;
            }
            Err(reason) => bury(&service, &acker, &message, reason).await,
        }
        drop(permit);
    });
}

/// A hint is what its subject says and its body says, and both must say the same.
fn read(service: &Service, step: Step, message: &async_nats::Message) -> Result<FileId, String> {
    let hint = Hint::from_json(&message.payload).map_err(|e| e.to_string())?;
    let subject = service.names.hint(step, hint.file_id);
    if message.subject.as_str() != subject {
        return Err(format!("expected the subject {subject}, found {}", message.subject));
    }
    Ok(hint.file_id)
}

async fn settle(service: &Service, message: &Acker, file: FileId, outcome: Outcome) {
    let kind = match outcome {
        Outcome::Done => AckKind::Ack,
        Outcome::Held(remaining) => AckKind::Nak(Some(remaining)),
        Outcome::HandedBack => AckKind::Nak(None),
        Outcome::Lost => return,
        Outcome::Outage(why) => {
            tracing::warn!(%file, "{why}; the hint comes again");
            let lease = service.settings.work.lease();
            AckKind::Nak(Some((lease / 4).mul_f64(0.5 + retry::jitter() / 2.0)))
        }
    };
    answer(message, kind).await;
}

async fn answer(message: &Acker, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!("an answer to a hint was not sent; the hint comes again: {error}");
    }
}

/// Puts a message that cannot be read where people find it, then ends it.
async fn bury(service: &Service, acker: &Acker, message: &async_nats::Message, reason: String) {
    tracing::warn!(subject = %message.subject, "a message cannot be read: {reason}");
    service.counters.unreadable();
    let letter = DeadLetter::new(service.role, &message.subject, &reason, &message.payload);
    let mut kept = service.nats.dead(service.role, &letter).await;
    if matches!(kept, Err(NatsError::NoStream { .. })) && sweep::make_streams(service).await.is_ok() {
        kept = service.nats.dead(service.role, &letter).await;
    }
    match kept {
        Ok(()) => answer(acker, AckKind::Term).await,
        // Not kept, so not ended: it comes again.
        Err(error) => tracing::warn!("an unreadable message was not kept; it comes again: {error}"),
    }
}
