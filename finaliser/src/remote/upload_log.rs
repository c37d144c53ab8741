use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{Lease, Ledger, Upload, UploadedPart};

use super::{MultipartUpload, Remote, RemoteError};

/// How far an upload in parts is. Each step is in MongoDB before a request to the remote relies on it.
#[derive(Debug)]
pub struct UploadLog {
    record: Option<(Ledger, Lease)>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    upload: Option<Upload>,
    sent: u64,
}

impl UploadLog {
    /// A log in the record of a file, which can be written while the lease holds. `upload` is the upload that the claim
    /// found there.
    pub fn recorded(ledger: Ledger, lease: Lease, upload: Option<Upload>) -> Self {
        Self { record: Some((ledger, lease)), now: Mutex::new(Now { upload, sent: 0 }) }
    }

    /// A log in memory only.
    pub fn unrecorded(upload: Option<Upload>) -> Self {
        Self { record: None, now: Mutex::new(Now { upload, sent: 0 }) }
    }

    /// The current upload.
    pub fn current(&self) -> Option<Upload> {
        self.now().upload.clone()
    }

    /// Bytes of the parts that were sent under this claim.
    pub fn sent(&self) -> u64 {
        self.now().sent
    }

    /// Records a new upload, in the place of an earlier one.
    pub(super) async fn begin(&self, upload: Upload) -> Result<(), RemoteError> {
        if let Some((ledger, lease)) = &self.record {
            check(ledger.record_upload(lease, &upload).await?)?;
        }
        self.now().upload = Some(upload);
        Ok(())
    }

    /// Records a part of `len` bytes that the remote has.
    pub(super) async fn add_part(&self, upload: &str, part: UploadedPart, len: u64) -> Result<(), RemoteError> {
        if let Some((ledger, lease)) = &self.record {
            check(ledger.record_part(lease, upload, &part).await?)?;
        }
        let mut now = self.now();
        now.sent += len;
        if let Some(current) = now.upload.as_mut().filter(|current| current.id == upload) {
            current.parts.push(part);
        }
        Ok(())
    }

    /// Aborts the current upload, if there is one, and then forgets it: a crash in between only repeats the first.
    pub async fn give_up(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        let Some(Upload { id, address, .. }) = self.current() else { return Ok(()) };
        let upload = MultipartUpload { id, address };
        remote.abort_upload(&upload).await?;
        if let Some((ledger, lease)) = &self.record {
            check(ledger.forget_upload(lease, &upload.id).await?)?;
        }
        self.now().upload.take_if(|current| current.id == upload.id);
        Ok(())
    }

    /// The remote has completed the upload. The write that records the delivery removes it from the record.
    pub(super) fn complete(&self) {
        self.now().upload = None;
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ledger records nothing once the lease is lost.
fn check(recorded: bool) -> Result<(), RemoteError> {
    if recorded { Ok(()) } else { Err(RemoteError::Stopped) }
}
