//! Removes what deliveries that broke off have left at the remotes, out of sight, under names of their own.

use runtime::{Service, retry};

use crate::Finaliser;
use crate::remote::{Leftover, Remote, RemoteError};

/// Leftovers of a remote looked at between two pauses at most.
const AT_MOST: usize = 256;

/// Tidies up, with pauses as long as a lease, until the process stops.
pub(crate) async fn run(finaliser: std::sync::Arc<Finaliser>) {
    let service = &finaliser.service;
    loop {
        let pause = service.settings.work.lease().mul_f64(0.5 + retry::jitter());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
        for (name, remote) in &finaliser.remotes {
            let tidied = tokio::select! {
                tidied = tidy(service, remote.as_ref()) => tidied,
                () = service.life.stopping() => return,
            };
            if let Err(error) = tidied {
                tracing::debug!("what is left at the remote {name} was not removed; later again: {error}");
            }
        }
    }
}

async fn tidy(service: &Service, remote: &dyn Remote) -> Result<(), RemoteError> {
    for leftover in remote.leftovers().await?.into_iter().take(AT_MOST) {
        if is_dead(service, leftover).await {
            remote.discard(leftover).await?;
            tracing::info!(file = %leftover.file_id, epoch = %leftover.epoch, "removed what a delivery had left");
        }
    }
    Ok(())
}

/// Whether nobody writes it any more: a later claim has the file, or it has ended. The record is read after the leftover was
/// seen, so a claim that began since is not met. A file that is not known here belongs to another system on the same remote.
async fn is_dead(service: &Service, leftover: Leftover) -> bool {
    match service.ledger.file(leftover.file_id).await {
        Ok(Some(record)) => record.state.is_terminal() || record.epoch > leftover.epoch,
        Ok(None) | Err(_) => false,
    }
}
