use contract::{ChunkNumber, FileId, Generation};
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::options::Hint;

use crate::bson_form::{binary, chunk_key, content_key, owner_of};
use crate::{Layout, Ledger, LedgerError};

/// One step of a walk over content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedContent {
    /// The file whose content was looked at.
    pub file: FileId,
    /// Whether something of it was removed.
    pub removed: bool,
}

impl Ledger {
    /// Looks at the next file that has content in the collection of `layout`, after `after`, and removes generations of it
    /// that no longer count: those below the record's, and the record's own where it says that it is removed. `None`: there
    /// is no next file.
    ///
    /// Such content is left by a source that changed, by a requeue, and by a write that was late: the store's look at the
    /// record and its insert are not one step. The record is read after the content was seen, and its generation only ever
    /// grows, so what is lower now is dead for good; a higher one is never touched.
    pub async fn collect_garbage(
        &self,
        layout: Layout,
        after: Option<FileId>,
    ) -> Result<Option<CheckedContent>, LedgerError> {
        let Some((file, lowest)) = self.next_content(layout, after).await? else { return Ok(None) };
        let dead = self.file(file).await?.and_then(|record| {
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
        let collection = match layout {
            Layout::Children => self.chunks.clone(),
            Layout::Embedded => self.contents.clone(),
        };
        let key = |file, rest| match layout {
            Layout::Children => chunk_key(file, Generation(rest), ChunkNumber(rest)),
            Layout::Embedded => content_key(file, Generation(rest)),
        };
        // Behind every key of the file before. Between the least and the greatest key of this length are only keys of our form:
        // MongoDB compares binary values by their length first.
        let from = after.map_or_else(|| key(FileId::from_bytes([0; 16]), 0), |file| key(file, u32::MAX));
        let end = key(FileId::from_bytes([u8::MAX; 16]), u32::MAX);
        let filter = doc! { "_id": { "$gt": binary(from), "$lte": binary(end) } };
        let found: Option<RawDocumentBuf> = self
            .run("walking over content", async move {
                let ids = doc! { "_id": 1 };
                collection.find_one(filter).sort(ids.clone()).projection(ids.clone()).hint(Hint::Keys(ids)).await
            })
            .await?;
        let Some(found) = found else { return Ok(None) };
        let key = found.get_binary("_id").ok().and_then(|key| owner_of(key.bytes));
        let unreadable = || LedgerError::Unreadable {
            collection: if layout == Layout::Children { "chunks" } else { "contents" },
            detail: "an _id is not made of a file id and a generation".into(),
        };
        key.map(Some).ok_or_else(unreadable)
    }
}
