use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{Lease, Ledger, Upload, UploadedPart};

use super::{KeptUpload, Remote, RemoteError};

/// How far an upload in parts is. What it says is in MongoDB before the remote is told anything that relies on it.
#[derive(Debug)]
pub struct UploadLog {
    kept: Option<(Ledger, Lease)>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    upload: Option<Upload>,
    sent: u64,
}

impl UploadLog {
    /// Kept in the record of the file for as long as the lease holds; `upload` is what the claim found there.
    pub fn kept(ledger: Ledger, lease: Lease, upload: Option<Upload>) -> Self {
        Self { kept: Some((ledger, lease)), now: Mutex::new(Now { upload, sent: 0 }) }
    }

    /// Kept nowhere but here.
    pub fn unkept(upload: Option<Upload>) -> Self {
        Self { kept: None, now: Mutex::new(Now { upload, sent: 0 }) }
    }

    /// The upload that is under way.
    pub fn known(&self) -> Option<Upload> {
        self.now().upload.clone()
    }

    /// Bytes of the parts that were sent under this claim.
    pub fn sent(&self) -> u64 {
        self.now().sent
    }

    /// Begins an upload, in the place of one that there was.
    pub(super) async fn begin(&self, upload: Upload) -> Result<(), RemoteError> {
        if let Some((ledger, lease)) = &self.kept {
            ours(ledger.record_upload(lease, &upload).await?)?;
        }
        self.now().upload = Some(upload);
        Ok(())
    }

    /// The remote has a part, of `len` bytes.
    pub(super) async fn part(&self, upload: &str, part: UploadedPart, len: u64) -> Result<(), RemoteError> {
        if let Some((ledger, lease)) = &self.kept {
            ours(ledger.record_part(lease, upload, &part).await?)?;
        }
        let mut now = self.now();
        now.sent += len;
        if let Some(known) = now.upload.as_mut().filter(|known| known.id == upload) {
            known.parts.push(part);
        }
        Ok(())
    }

    /// Has the remote drop the upload that is under way, if there is one, and forgets it.
    pub async fn give_up(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        let Some(Upload { id, address, .. }) = self.known() else { return Ok(()) };
        let upload = KeptUpload { id, address };
        // What is left of it must go before it is forgotten.
        remote.abort(&upload).await?;
        self.forget(&upload.id).await
    }

    async fn forget(&self, upload: &str) -> Result<(), RemoteError> {
        if let Some((ledger, lease)) = &self.kept {
            ours(ledger.forget_upload(lease, upload).await?)?;
        }
        self.now().upload.take_if(|known| known.id == upload);
        Ok(())
    }

    /// The remote has put the parts together. The record says so together with the delivery.
    pub(super) fn complete(&self) {
        self.now().upload = None;
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ours(recorded: bool) -> Result<(), RemoteError> {
    if recorded { Ok(()) } else { Err(RemoteError::Stopped) }
}
