//! What a service says about itself in the NATS services API.

use async_nats::service::ServiceExt;
use bus::NatsError;
use contract::Role;
use futures_util::StreamExt;
use serde::Serialize;

use crate::Service;

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
    /// Only of a gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    logins_failed: Option<u64>,
}

/// Registers a service without endpoints of its own, on its control connection.
pub async fn register(service: &Service) -> Result<(), NatsError> {
    let micro = register_on(service, service.nats.client()).await?;
    let life = service.life.clone();
    service.life.spawn("services API", async move {
        life.stopping().await;
        drop(micro);
    });
    Ok(())
}

/// Registers the service under `client` and answers its endpoint `status` until the process stops. The caller may
/// add endpoints to the result; the registration ends when it is dropped.
pub async fn register_on(
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
    // Each instance has a queue group of its own, so that a request reaches all instances and not only one.
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
    let counters = &service.counters;
    let status = Status {
        v: contract::MESSAGE_VERSION,
        role: service.role.as_str(),
        worker: &service.worker,
        version: env!("CARGO_PKG_VERSION"),
        ready: problems.is_empty(),
        problems,
        jobs_running: counters.jobs_running(),
        jobs_begun: counters.jobs_begun(),
        unreadable: counters.messages_unreadable(),
        logins_failed: (service.role == Role::Gateway).then(|| counters.logins_failed()),
    };
    // A struct of strings and numbers can always be written.
    serde_json::to_vec(&status).expect("a status is plain data")
}
