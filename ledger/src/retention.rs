use std::time::Duration;

use contract::{ChunkNumber, FileId, Generation, State};
use mongodb::bson::doc;

use crate::bson_form::{binary, by_id, chunk_key, content_key};
use crate::content::key_of;
use crate::transition::Transition;
use crate::{Ledger, LedgerError};

/// Chunks removed by one command: at 4 MiB a chunk MongoDB frees 1 GiB, well within the operation timeout.
const BATCH: i64 = 256;

/// How long content stays once nothing more happens to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPeriods {
    /// After the delivery.
    pub delivered: Duration,
    /// After the file was given up; until then it can be requeued without being read again.
    pub failed: Duration,
    /// After it was cancelled.
    pub cancelled: Duration,
}

impl RetentionPeriods {
    /// How long content stays in a state that ends a file; no time in any other.
    pub(crate) const fn of(self, state: State) -> Duration {
        match state {
            State::Delivered => self.delivered,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
            State::Prepared | State::Chunking | State::Stored | State::Delivering => Duration::ZERO,
        }
    }
}

impl Ledger {
    /// Removes the content of a file whose retention is over. Nothing happens to a file that goes on meanwhile.
    ///
    /// First the record says so, then the content goes: a requeue that comes in between finds the mark and reads the source
    /// again. Whoever dies half-way leaves `due_at` set, and the next sweep goes on.
    pub async fn remove_content(&self, file: FileId) -> Result<bool, LedgerError> {
        let Some(record) = self.file(file).await?.filter(|record| record.state.is_terminal()) else { return Ok(false) };
        let mut version = record.version;
        if record.content_removed != Some(record.generation) {
            let mut filter = by_id(file);
            filter.insert("version", version);
            let mark = Transition::default().set("content_removed", i64::from(record.generation.0));
            let Some(marked) = self.settle("marking content as removed", filter, mark).await? else { return Ok(false) };
            version = marked.version;
        }
        fail::fail_point!("content-after-mark", |_| std::process::abort());
        self.delete_content(file, record.generation).await?;
        self.no_longer_due(file, version).await?;
        Ok(true)
    }

    async fn no_longer_due(&self, file: FileId, version: i64) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let mut filter = by_id(file);
        filter.insert("version", version);
        let unset = doc! { "$unset": { "due_at": "", "hint_refusals": "" } };
        self.run("ending a retention", async move { files.update_one(filter, unset).await }).await?;
        Ok(())
    }

    /// Deletes all content of a file up to and including a generation. Repeatable, and bounded in what one command does.
    pub(crate) async fn delete_content(&self, file: FileId, last: Generation) -> Result<(), LedgerError> {
        // Here, not where the record is marked: the walk would remove it all the same.
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
                    let mut found = chunks.find(filter).sort(ids.clone()).projection(ids).limit(BATCH).await?;
                    let (mut count, mut last) = (0, None);
                    while found.advance().await? {
                        last = Some(key_of(found.current())?);
                        count += 1;
                    }
                    if let Some(last) = last {
                        chunks.delete_many(doc! { "_id": { "$gte": from, "$lte": binary(last) } }).await?;
                    }
                    Ok(count)
                })
                .await?;
            if deleted < BATCH {
                return Ok(());
            }
            fail::fail_point!("content-half-removed", |_| std::process::abort());
        }
    }
}
