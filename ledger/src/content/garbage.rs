use contract::{ChunkNumber, FileId, Generation};
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::options::Hint;

use super::key::{chunk_key, content_key, generation_in, key_of};
use crate::bson_form::binary;
use crate::{Layout, Ledger, LedgerError};

/// One step of garbage collection: a file that has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedContent {
    /// The file.
    pub file: FileId,
    /// Whether some of its content was removed.
    pub removed: bool,
}

impl Ledger {
    /// Looks at the next file after `after` that has content in the collection of `layout`, and removes the generations
    /// that no longer count: those below the record's, and the record's own if the record says that it is removed.
    /// `None`: there is no next file.
    ///
    /// Such content is left by a source that changed, by a requeue, and by a late write: the store reads the record and
    /// writes the chunk in two steps. The record is read after the content was seen, and its generation only ever
    /// grows, so a generation below it is dead for good; one above it is never touched.
    pub async fn collect_garbage(
        &self,
        layout: Layout,
        after: Option<FileId>,
    ) -> Result<Option<CheckedContent>, LedgerError> {
        let Some((file, lowest)) = self.next_content(layout, after).await? else { return Ok(None) };
        let dead = self.durable_file(file).await?.and_then(|record| {
            if record.content_removed == Some(record.generation) {
                return Some(record.generation);
            }
            record.generation.0.checked_sub(1).map(Generation)
        });
        let removed = match dead {
            Some(last) if lowest <= last => {
                self.delete_content(file, last).await?;
                true
            }
            _ => false,
        };
        Ok(Some(CheckedContent { file, removed }))
    }

    /// The next file with content, and its lowest generation, by the index alone.
    async fn next_content(
        &self,
        layout: Layout,
        after: Option<FileId>,
    ) -> Result<Option<(FileId, Generation)>, LedgerError> {
        let collection = self.content_collection(layout);
        let key = |file, rest| match layout {
            Layout::Children => chunk_key(file, Generation(rest), ChunkNumber(rest)),
            Layout::Embedded => content_key(file, Generation(rest)),
        };
        // After every key of the previous file. Only keys of our form lie between the least and the greatest key of
        // this length.
        let from = after.map_or_else(|| key(FileId::from_bytes([0; 16]), 0), |file| key(file, u32::MAX));
        let end = key(FileId::from_bytes([u8::MAX; 16]), u32::MAX);
        let filter = doc! { "_id": { "$gt": binary(from), "$lte": binary(end) } };
        let found: Option<RawDocumentBuf> = self
            .run("looking for content that no longer counts", async move {
                let ids = doc! { "_id": 1 };
                collection.find_one(filter).sort(ids.clone()).projection(ids.clone()).hint(Hint::Keys(ids)).await
            })
            .await?;
        let Some(found) = found else { return Ok(None) };
        let unreadable = || LedgerError::Unreadable {
            collection: if layout == Layout::Children { "chunks" } else { "contents" },
            detail: "an _id is not made of a file id and a generation".into(),
        };
        key_of(&found).ok().and_then(generation_in).map(Some).ok_or_else(unreadable)
    }
}
