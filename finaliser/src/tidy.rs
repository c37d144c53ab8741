//! Removes what deliveries that broke off have left at the remotes, out of sight, under names of their own.

use runtime::Service;

use crate::Finaliser;
use crate::remote::{AsideName, KeptUpload, Remote, RemoteError};

/// Leftovers of a remote, of each kind, removed between two pauses at most.
const AT_MOST: u16 = 256;

/// Tidies up, with pauses as long as a lease, until the process stops.
pub(crate) async fn run(finaliser: std::sync::Arc<Finaliser>) {
    let service = &finaliser.service;
    loop {
        let pause = service.settings.work.lease().mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
        for (name, remote) in &finaliser.remotes {
            let tidied = tokio::select! {
                tidied = tidy(service, name, remote.as_ref()) => tidied,
                () = service.life.stopping() => return,
            };
            match tidied {
                Ok(()) => {}
                Err(error @ RemoteError::Refused(_)) => {
                    tracing::warn!("what is left at the remote {name} was not all removed: {error}");
                }
                // It is down, and every delivery says so.
                Err(error) => tracing::debug!("what is left at the remote {name} was not all removed: {error}"),
            }
        }
    }
}

/// Tidies as far as it can: what cannot be removed stops nothing else. Returns the first failure.
async fn tidy(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    let mut tidied = abort_left(service, name, remote).await;
    let mut removed = 0;
    for leftover in remote.leftovers().await? {
        if removed == AT_MOST {
            break;
        }
        if is_dead(service, leftover).await {
            let done = remote.discard(leftover).await;
            if done.is_ok() {
                tracing::info!(file = %leftover.file_id, epoch = %leftover.epoch, "removed what a delivery had left");
            }
            removed += 1;
            tidied = tidied.and(done);
        }
    }
    for upload in remote.old_uploads().await? {
        if !service.ledger.has_upload(&upload.id).await? {
            let done = remote.abort(&upload).await;
            if done.is_ok() {
                tracing::info!(address = upload.address, "aborted an upload that no file has");
            }
            tidied = tidied.and(done);
        }
    }
    tidied
}

/// Aborts the uploads of files that have ended. Aborted first, then forgotten: dying between the two only repeats the first.
async fn abort_left(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    let mut aborted = Ok(());
    for left in service.ledger.abandoned_uploads(name, AT_MOST).await? {
        let done = remote.abort(&KeptUpload { id: left.id.clone(), address: left.address.clone() }).await;
        if done.is_ok() {
            service.ledger.forget_abandoned_upload(&left).await?;
            tracing::info!(file = %left.file, address = left.address, "aborted the upload of a file that has ended");
        }
        aborted = aborted.and(done);
    }
    aborted
}

/// Whether nobody writes it any more: a later claim has the file, or it has ended. The record is read after the leftover was
/// seen, so a claim that began since is not met. A file that is not known here belongs to another system on the same remote.
async fn is_dead(service: &Service, leftover: AsideName) -> bool {
    match service.ledger.file(leftover.file_id).await {
        Ok(Some(record)) => record.state.is_terminal() || record.epoch > leftover.epoch,
        Ok(None) | Err(_) => false,
    }
}
