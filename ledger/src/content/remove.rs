use contract::{ChunkNumber, FileId, Generation};
use futures_util::TryStreamExt;
use mongodb::bson::doc;

use super::key::{chunk_key, content_key, key_of};
use crate::bson_form::binary;
use crate::{Ledger, LedgerError};

/// Chunks removed by one command: at 4 MiB a chunk MongoDB frees 1 GiB, well within the operation timeout.
const BATCH: usize = 256;

impl Ledger {
    /// Deletes all content of a file up to and including a generation. The call may be repeated, and each command is
    /// bounded.
    pub(crate) async fn delete_content(&self, file: FileId, last: Generation) -> Result<(), LedgerError> {
        // The fault is here, not where the record is marked: otherwise garbage collection would still remove the
        // content.
        fail::fail_point!("break-retention", |_| Ok(()));
        let first = Generation(0);
        let range = doc! { "$gte": binary(content_key(file, first)), "$lte": binary(content_key(file, last)) };
        let contents = self.contents.clone();
        self.run("removing content", async move { contents.delete_many(doc! { "_id": range }).await }).await?;
        let from = binary(chunk_key(file, first, ChunkNumber(0)));
        let end = binary(chunk_key(file, Generation(last.0.saturating_add(1)), ChunkNumber(0)));
        let all = doc! { "_id": { "$gte": from.clone(), "$lt": end } };
        loop {
            let (chunks, filter, from) = (self.chunks.clone(), all.clone(), from.clone());
            let deleted = self
                .run("removing chunks", async move {
                    let ids = doc! { "_id": 1 };
                    let batch = chunks.find(filter).sort(ids.clone()).projection(ids).limit(BATCH as i64).await?;
                    let batch: Vec<_> = batch.try_collect().await?;
                    if let Some(last) = batch.last() {
                        let last = binary(key_of(last)?.to_vec());
                        chunks.delete_many(doc! { "_id": { "$gte": from, "$lte": last } }).await?;
                    }
                    Ok(batch.len())
                })
                .await?;
            if deleted < BATCH {
                return Ok(());
            }
            fail::fail_point!("content-half-removed", |_| std::process::abort());
        }
    }
}
