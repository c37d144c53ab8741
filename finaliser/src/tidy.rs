//! Removes what deliveries that broke off have left at the remotes, out of sight, under names of their own.

use runtime::{Service, retry};

use crate::Finaliser;
use crate::remote::{AsideName, KeptUpload, Remote, RemoteError};

/// Leftovers of a remote, of each kind, looked at between two pauses at most.
const AT_MOST: u16 = 256;

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
                tidied = tidy(service, name, remote.as_ref()) => tidied,
                () = service.life.stopping() => return,
            };
            if let Err(error) = tidied {
                tracing::debug!("what is left at the remote {name} was not removed; later again: {error}");
            }
        }
    }
}

async fn tidy(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    abort_left(service, name, remote).await?;
    for leftover in remote.leftovers().await?.into_iter().take(AT_MOST.into()) {
        if is_dead(service, leftover).await {
            remote.discard(leftover).await?;
            tracing::info!(file = %leftover.file_id, epoch = %leftover.epoch, "removed what a delivery had left");
        }
    }
    for upload in remote.old_uploads().await?.into_iter().take(AT_MOST.into()) {
        if !service.ledger.has_upload(name, &upload.id).await? {
            remote.abort(&upload).await?;
            tracing::info!(address = upload.address, "aborted an upload that no file has");
        }
    }
    Ok(())
}

/// Aborts the uploads of files that have ended. Aborted first, then forgotten: dying between the two only repeats the first.
async fn abort_left(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    for left in service.ledger.left_uploads(name, AT_MOST).await? {
        remote.abort(&KeptUpload { id: left.id.clone(), address: left.address.clone() }).await?;
        service.ledger.forget_left_upload(&left).await?;
        tracing::info!(file = %left.file, "aborted the upload of a file that has ended");
    }
    Ok(())
}

/// Whether nobody writes it any more: a later claim has the file, or it has ended. The record is read after the leftover was
/// seen, so a claim that began since is not met. A file that is not known here belongs to another system on the same remote.
async fn is_dead(service: &Service, leftover: AsideName) -> bool {
    match service.ledger.file(leftover.file_id).await {
        Ok(Some(record)) => record.state.is_terminal() || record.epoch > leftover.epoch,
        Ok(None) | Err(_) => false,
    }
}
