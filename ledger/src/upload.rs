use contract::{Digest, FileId};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use crate::bson_form::{literal, to_bson};
use crate::filter::{by_id, terminal_states};
use crate::{FileRecord, Lease, Ledger, LedgerError};

/// An upload in parts that a remote keeps, so that the next holder of the file continues where the last one stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// What the remote calls it.
    pub id: String,
    /// The address of the file there, without secrets. The upload can be continued only at this address.
    pub address: String,
    /// Bytes of each part but the last.
    pub part_size: u64,
    /// The parts that the remote has, in the order in which they arrived. If a part number repeats, the last entry wins.
    #[serde(default)]
    pub parts: Vec<UploadedPart>,
}

/// An upload that nobody will continue: its file has ended, and the remote does not know that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedUpload {
    /// The file.
    pub file: FileId,
    /// What the remote calls the upload.
    pub id: String,
    /// Where it was begun.
    pub address: String,
}

/// A part that a remote has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedPart {
    /// Its number, from 1 on.
    pub number: u32,
    /// The remote's ETag of it; the request that completes the upload must repeat it.
    pub etag: String,
    /// SHA-256 of the bytes that were sent. The part counts only while MongoDB still gives back these bytes.
    pub sha256: Digest,
}

impl Ledger {
    /// Records an upload before its first part is sent. It replaces an earlier one. `false`: the lease was lost.
    ///
    /// Neither this nor the calls below change a state, so `version` stays.
    pub async fn record_upload(&self, lease: &Lease, upload: &Upload) -> Result<bool, LedgerError> {
        let set = doc! { "$set": { "delivery.upload": literal(to_bson(upload)?) } };
        self.change_upload("recording an upload", lease.filter(), vec![set]).await
    }

    /// Records a part that the remote has. `false`: the lease was lost, or the record has another upload.
    pub async fn record_part(&self, lease: &Lease, upload: &str, part: &UploadedPart) -> Result<bool, LedgerError> {
        let parts = doc! { "$concatArrays": ["$delivery.upload.parts", [literal(to_bson(part)?)]] };
        let set = doc! { "$set": { "delivery.upload.parts": parts } };
        self.change_upload("recording a part of an upload", with_upload(lease, upload), vec![set]).await
    }

    /// Forgets an upload that the remote no longer has. `false`: the lease was lost, or the record has another upload.
    pub async fn forget_upload(&self, lease: &Lease, upload: &str) -> Result<bool, LedgerError> {
        let unset = doc! { "$unset": "delivery.upload" };
        self.change_upload("forgetting an upload", with_upload(lease, upload), vec![unset]).await
    }

    /// Uploads to `remote` of files that have ended, at most `limit`.
    pub async fn abandoned_uploads(&self, remote: &str, limit: u16) -> Result<Vec<AbandonedUpload>, LedgerError> {
        let filter = doc! {
            "expectation.remote": remote, "delivery.upload.id": { "$exists": true }, "state": terminal_states(),
        };
        let files = self.files.clone();
        let found = self
            .run("looking for abandoned uploads", async move {
                let without = doc! { "delivery.upload.parts": 0 };
                files.find(filter).projection(without).limit(limit.into()).await?.try_collect::<Vec<_>>().await
            })
            .await?;
        let mut left = Vec::with_capacity(found.len());
        for record in found {
            let FileRecord { id: file, delivery, .. } = FileRecord::from_document(record)?;
            let upload = delivery.and_then(|delivery| delivery.upload);
            left.extend(upload.map(|Upload { id, address, .. }| AbandonedUpload { file, id, address }));
        }
        Ok(left)
    }

    /// Forgets an upload of a file that has ended, once the remote no longer has it. Changes nothing if the file was
    /// requeued meanwhile: the worker that continues the upload learns from the remote that it is gone.
    pub async fn forget_abandoned_upload(&self, left: &AbandonedUpload) -> Result<(), LedgerError> {
        let mut filter = by_id(left.file);
        filter.extend(doc! { "state": terminal_states(), "delivery.upload.id": &left.id });
        self.change_upload("forgetting an upload", filter, vec![doc! { "$unset": "delivery.upload" }]).await?;
        Ok(())
    }

    /// Whether any file's record has this upload, whichever remote it names: two remotes may share a folder.
    pub async fn has_upload(&self, upload: &str) -> Result<bool, LedgerError> {
        let filter = doc! { "delivery.upload.id": upload };
        let files = self.files.clone();
        let found = self.run("looking for an upload", async move { files.find_one(filter).await }).await?;
        Ok(found.is_some())
    }

    async fn change_upload(
        &self,
        operation: &'static str,
        filter: Document,
        pipeline: Vec<Document>,
    ) -> Result<bool, LedgerError> {
        let files = self.files.clone();
        let changed = self.run(operation, async move { files.update_one(filter, pipeline).await }).await?;
        Ok(changed.matched_count == 1)
    }
}

/// Selects the record while the lease holds and the record has that upload: a part of an older upload is useless.
fn with_upload(lease: &Lease, upload: &str) -> Document {
    let mut filter = lease.filter();
    filter.insert("delivery.upload.id", upload);
    filter
}
