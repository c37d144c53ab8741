use contract::{Digest, FileId, State};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use crate::bson_form::{by_id, literal};
use crate::hold::to_bson;
use crate::{FileRecord, Lease, Ledger, LedgerError};

/// An upload in parts that a remote keeps for us, so that whoever holds the file next goes on where the last one stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// What the remote calls it.
    pub id: String,
    /// The address of the file there, without secrets: at another address it is of no use.
    pub address: String,
    /// Bytes of each part but the last.
    pub part_size: u64,
    /// The parts that the remote has, in the order in which they were done. Of a number that comes twice the later counts.
    #[serde(default)]
    pub parts: Vec<UploadedPart>,
}

/// An upload that nobody will go on with: its file has ended, and the remote was not told, or did not hear it.
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
    /// Its place, from 1 on.
    pub number: u32,
    /// What the remote wants to hear of it at the end.
    pub etag: String,
    /// SHA-256 of what was sent. A part counts only for bytes with this hash, whatever MongoDB gives back by then.
    pub sha256: Digest,
}

impl Ledger {
    /// Records an upload before its first part is sent, in the place of one that there was.
    ///
    /// Neither this nor the calls below change a state, so `version` stays.
    pub async fn record_upload(&self, lease: &Lease, upload: &Upload) -> Result<bool, LedgerError> {
        let set = doc! { "$set": { "delivery.upload": literal(to_bson(upload)?) } };
        self.change_upload("recording an upload", lease.filter(), vec![set]).await
    }

    /// Records a part that the remote has.
    pub async fn record_part(&self, lease: &Lease, upload: &str, part: &UploadedPart) -> Result<bool, LedgerError> {
        let parts = doc! { "$concatArrays": ["$delivery.upload.parts", [literal(to_bson(part)?)]] };
        let set = doc! { "$set": { "delivery.upload.parts": parts } };
        self.change_upload("recording a part of an upload", of(lease, upload), vec![set]).await
    }

    /// Forgets an upload that the remote does not have any more.
    pub async fn forget_upload(&self, lease: &Lease, upload: &str) -> Result<bool, LedgerError> {
        let unset = doc! { "$unset": "delivery.upload" };
        self.change_upload("forgetting an upload", of(lease, upload), vec![unset]).await
    }

    /// Uploads to `remote` of files that were given up or cancelled, some of them where there are many.
    pub async fn abandoned_uploads(&self, remote: &str, most: u16) -> Result<Vec<AbandonedUpload>, LedgerError> {
        let filter = doc! {
            "expectation.remote": remote, "delivery.upload.id": { "$exists": true }, "state": { "$in": ended() },
        };
        let files = self.files.clone();
        let found = self
            .run("looking for uploads that were left", async move {
                let without = doc! { "delivery.upload.parts": 0 };
                files.find(filter).projection(without).limit(most.into()).await?.try_collect::<Vec<_>>().await
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

    /// Forgets an upload of a file that has ended, once the remote does not have it any more. If the file was requeued
    /// meanwhile, whoever goes on with the upload learns that from the remote.
    pub async fn forget_abandoned_upload(&self, left: &AbandonedUpload) -> Result<(), LedgerError> {
        let mut filter = by_id(left.file);
        filter.extend(doc! { "state": { "$in": ended() }, "delivery.upload.id": &left.id });
        self.change_upload("forgetting an upload", filter, vec![doc! { "$unset": "delivery.upload" }]).await?;
        Ok(())
    }

    /// Whether any file's record has this upload, to whichever remote: two may lie in one folder.
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

fn ended() -> Vec<&'static str> {
    State::ALL.into_iter().filter(|state| state.is_terminal()).map(State::as_str).collect()
}

/// The record as long as it has that upload; what came of an older one is of no use.
fn of(lease: &Lease, upload: &str) -> Document {
    let mut filter = lease.filter();
    filter.insert("delivery.upload.id", upload);
    filter
}
