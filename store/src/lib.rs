//! Checks chunks and persists them.
//!
//! A chunk comes as a core NATS request, and no stream holds it: until our reply, the source file is its durable copy.
//! So we reply only after a majority has journaled the write, and answer `busy` at once to a chunk that cannot be taken
//! in now.

mod admission;
mod garbage;
mod handler;
mod writer;

use std::sync::Arc;

use async_nats::service::endpoint::Endpoint;
use bus::{Nats, NatsError, Use};
use contract::{ChunkAnswer, ChunkReply};
use futures_util::{FutureExt, StreamExt};
use runtime::{Service, StartError, status};
use tokio::sync::Semaphore;

/// The queue group in which all stores share the chunks.
const QUEUE_GROUP: &str = "store";

/// The most chunks that are taken in at once, however small they are.
const CHUNKS_AT_ONCE: usize = 1024;

/// Starts the store's tasks.
pub async fn run(service: Service) -> Result<(), StartError> {
    let data =
        Nats::open(&service.settings.nats, &service.names, &service.worker, Use::Data, service.life.stopping_token())
            .await?;
    let handler = Arc::new(handler::Handler::start(&service));
    let task = take_chunks(service.clone(), data, handler);
    service.life.spawn("chunks", task);
    service.life.spawn("garbage collection", garbage::collect(service.clone()));
    Ok(())
}

/// Takes chunks from the moment that NATS lets them through until the process stops.
async fn take_chunks(service: Service, data: Nats, handler: Arc<handler::Handler>) {
    // A registered store gets chunks, so it registers only once NATS lets payloads of their size through.
    tokio::select! {
        () = data.wait_until_payloads_fit(service.settings.files.chunk_size) => {}
        () = service.life.stopping() => return,
    }
    let (_micro, mut endpoint) = match register(&service, &data).await {
        Ok(registered) => registered,
        Err(error) => {
            service.life.fail(error.to_string());
            return;
        }
    };
    let left_alone = async {
        service.life.stopping().await;
        data.lost().await;
    };
    tokio::select! {
        () = answer_chunks(&service, &data, &mut endpoint, &handler) => {}
        // Nobody hears an answer now, and the chunkers send their chunks again.
        () = left_alone => tracing::debug!("NATS is away at the end; the last answers are not sent"),
    }
}

/// Answers chunks until the process stops; then waits for those in flight.
async fn answer_chunks(service: &Service, data: &Nats, endpoint: &mut Endpoint, handler: &Arc<handler::Handler>) {
    let permits = Arc::new(Semaphore::new(CHUNKS_AT_ONCE));
    loop {
        let request = tokio::select! {
            request = endpoint.next() => request,
            () = service.life.stopping() => break,
        };
        let Some(request) = request else { break };
        // This loop never waits for room: a chunk that cannot be taken in now is answered `busy`.
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            reply(request, ChunkReply::new(ChunkAnswer::Busy)).await;
            continue;
        };
        let arrived = std::time::Instant::now();
        let handler = handler.clone();
        tokio::spawn(async move {
            let answer = handler.handle(&request.message, arrived).await;
            if let Some(answer) = answer {
                reply(request, answer).await;
            }
            drop(permit);
        });
    }
    if let Err(error) = endpoint.stop().await {
        tracing::debug!("unsubscribing from chunks failed: {error}");
    }
    // Chunks that came before the unsubscription took effect: their senders need not wait for a timeout.
    while let Some(Some(request)) = endpoint.next().now_or_never() {
        reply(request, ChunkReply::new(ChunkAnswer::Busy)).await;
    }
    let all = u32::try_from(CHUNKS_AT_ONCE).unwrap_or(u32::MAX);
    drop(permits.acquire_many(all).await);
    if let Err(error) = data.client().flush().await {
        tracing::debug!("the last answers may not have been sent: {error}");
    }
}

async fn register(service: &Service, data: &Nats) -> Result<(async_nats::service::Service, Endpoint), NatsError> {
    let micro = status::register_on(service, data.client()).await?;
    let subject = service.names.chunk_put();
    let endpoint = micro.endpoint_builder().name("chunk-put").queue_group(QUEUE_GROUP).add(&subject).await;
    let endpoint =
        endpoint.map_err(|e| NatsError::Make { what: format!("the endpoint {subject}"), why: e.to_string() })?;
    Ok((micro, endpoint))
}

async fn reply(request: async_nats::service::Request, answer: ChunkReply) {
    if let Err(error) = request.respond(Ok(answer.to_json().into())).await {
        tracing::debug!("an answer was not sent; the chunker will send the chunk again: {error}");
    }
}
