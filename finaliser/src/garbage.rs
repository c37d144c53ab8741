//! Garbage collection at the remotes: removes staging files and aborts uploads that no delivery will continue.

use ledger::{AbandonedUpload, FileRecord};
use runtime::Service;

use crate::Finaliser;
use crate::remote::{MultipartUpload, Remote, RemoteError, StagingName};

/// The most staging files, and the most uploads of files that have ended, that are removed from a remote between two
/// pauses.
const AT_MOST: u16 = 256;

/// Collects garbage at all remotes, with pauses as long as a lease, until the process stops.
pub(crate) async fn run(finaliser: std::sync::Arc<Finaliser>) {
    let service = &finaliser.service;
    loop {
        let pause = service.settings.work.lease().mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
        for (name, destination) in &finaliser.remotes {
            let collected = tokio::select! {
                collected = collect(service, name, destination.remote.as_ref()) => collected,
                () = service.life.stopping() => return,
            };
            match collected {
                Ok(()) => {}
                Err(error @ RemoteError::Refused(_)) => {
                    tracing::warn!("what is left at the remote {name} was not all removed: {error}");
                }
                // The remote is down, and every delivery reports that.
                Err(error) => tracing::debug!("what is left at the remote {name} was not all removed: {error}"),
            }
        }
    }
}

/// Collects as much as it can: what cannot be removed stops nothing else. Returns the first failure.
async fn collect(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    let mut collected = abort_abandoned(service, name, remote).await;
    let mut removed = 0;
    for name in remote.staging_files().await? {
        if removed == AT_MOST {
            break;
        }
        if is_garbage(service, name).await {
            let done = remote.remove_staging_file(name).await;
            if done.is_ok() {
                tracing::info!(file = %name.file_id, epoch = %name.epoch, "removed what a delivery had left");
            }
            removed += 1;
            collected = collected.and(done);
        }
    }
    for upload in remote.old_uploads().await? {
        if !service.ledger.has_upload(&upload.id).await? {
            let done = remote.abort_upload(&upload).await;
            if done.is_ok() {
                tracing::info!(address = upload.address, "aborted an upload that no file has");
            }
            collected = collected.and(done);
        }
    }
    collected
}

/// Aborts the uploads of files that have ended, and then forgets them: a crash in between only repeats the first.
async fn abort_abandoned(service: &Service, name: &str, remote: &dyn Remote) -> Result<(), RemoteError> {
    let mut aborted = Ok(());
    for abandoned in service.ledger.abandoned_uploads(name, AT_MOST).await? {
        let AbandonedUpload { file, id, address } = &abandoned;
        let done = remote.abort_upload(&MultipartUpload { id: id.clone(), address: address.clone() }).await;
        if done.is_ok() {
            service.ledger.forget_abandoned_upload(&abandoned).await?;
            tracing::info!(%file, address, "aborted the upload of a file that has ended");
        }
        aborted = aborted.and(done);
    }
    aborted
}

/// Whether nobody writes the staging file any more: its file has a later claim, or has ended. The record is read after
/// the staging file was seen, so it shows the claim that wrote the staging file, or a later one. A file without a
/// record here belongs to another system that uses the same remote.
async fn is_garbage(service: &Service, name: StagingName) -> bool {
    match service.ledger.file(name.file_id).await {
        Ok(Some(FileRecord { state, epoch, .. })) => state.is_terminal() || epoch > name.epoch,
        Ok(None) | Err(_) => false,
    }
}
