use std::time::Duration;

use runtime::{Service, status};

/// How long to wait before the next try. A try fails only if the connection is closed for good or its queue is full.
const RETRY: Duration = Duration::from_secs(5);

/// Registers in the NATS services API, without holding up the start: the gateway accepts requests while NATS is down. A
/// subscription that is made before NATS is connected takes effect afterwards.
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
