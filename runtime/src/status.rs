//! What a service says about itself in the NATS services API, and how much it has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::service::ServiceExt;
use futures_util::StreamExt;
use serde::Serialize;

use crate::nats::NatsError;
use crate::service::Service;

/// How much a service has done since it started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicU64,
    jobs: AtomicU64,
    unreadable: AtomicU64,
}

/// A job that is counted as running until this is dropped.
#[derive(Debug)]
pub struct Running(Counters);

impl Counters {
    /// Counts a job that begins.
    pub fn job(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.jobs.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// Counts a message that could not be read.
    pub fn unreadable(&self) {
        self.0.unreadable.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer of the endpoint `status`.
#[derive(Debug, Serialize)]
struct Status<'a> {
    v: u8,
    role: &'a str,
    worker: &'a str,
    version: &'a str,
    ready: bool,
    problems: Vec<String>,
    jobs_running: u64,
    jobs_begun: u64,
    unreadable: u64,
}

/// Registers the service under `client` and answers its endpoint `status` until the process stops. More endpoints may be
/// added to what is returned; it ends when dropped.
pub async fn register(
    service: &Service,
    client: &async_nats::Client,
) -> Result<async_nats::service::Service, NatsError> {
    let name = service.names.service(service.role);
    let failed = |e: async_nats::Error| NatsError::Make { what: format!("the service {name}"), why: e.to_string() };
    let micro = client
        .service_builder()
        .description(service.role.description())
        .metadata([("worker".to_owned(), service.worker.clone())].into())
        .start(&name, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(failed)?;
    // A queue group of its own: a request reaches every instance, not one of them.
    let status = micro.endpoint_builder().name("status").queue_group(&service.worker);
    let mut requests = status.add(service.names.status(service.role)).await.map_err(failed)?;
    let answering = service.clone();
    service.life.spawn("status", async move {
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = answering.life.stopping() => return,
            };
            let Some(request) = request else { return };
            let answer = status_of(&answering).await;
            if let Err(error) = request.respond(Ok(answer.into())).await {
                tracing::debug!("a status was not sent: {error}");
            }
        }
    });
    Ok(micro)
}

async fn status_of(service: &Service) -> Vec<u8> {
    let problems = service.problems().await;
    let counts = &service.counters.0;
    let status = Status {
        v: contract::MESSAGE_VERSION,
        role: service.role.as_str(),
        worker: &service.worker,
        version: env!("CARGO_PKG_VERSION"),
        ready: problems.is_empty(),
        problems,
        jobs_running: counts.running.load(Ordering::Relaxed),
        jobs_begun: counts.jobs.load(Ordering::Relaxed),
        unreadable: counts.unreadable.load(Ordering::Relaxed),
    };
    // A struct of strings and numbers can always be written.
    serde_json::to_vec(&status).expect("a status is plain data")
}
