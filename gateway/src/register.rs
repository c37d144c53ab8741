use std::time::Duration;

use runtime::{Service, status};

/// How long to wait before another try. A try fails only where the connection is closed for good or its queue is full.
const RETRY: Duration = Duration::from_secs(5);

/// Registers in the NATS services API. Never holds up the start: requests are taken while NATS is down, and what is
/// subscribed meanwhile takes effect when the connection is made.
pub(crate) async fn run(service: Service) {
    loop {
        match status::register(&service).await {
            Ok(()) => return service.life.stopping().await,
            Err(error) => tracing::warn!("not registered in the NATS services API; trying again: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = service.life.stopping() => return,
        }
    }
}
