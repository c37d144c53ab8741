use std::time::Duration;

use contract::{EventKind, FileId, ProblemKind, State};
use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};

use crate::bson_form::{millis, to_bson};
use crate::filter::{at_version, by_id, terminal_states};
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError, Problem};

/// How long content stays once nothing more happens to its file, and how long the record stays after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPeriods {
    /// While nobody finalises the stored file. Then it fails, and its content is removed.
    pub stored: Duration,
    /// After the delivery.
    pub delivered: Duration,
    /// After the file failed. Until its content is removed, it can be requeued without being read again.
    pub failed: Duration,
    /// After it was cancelled.
    pub cancelled: Duration,
    /// How long the record stays after the content was removed; `None`: for ever.
    pub record: Option<Duration>,
}

impl RetentionPeriods {
    /// How long content stays in a terminal state; zero for any other.
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
    /// Removes the content of a file whose retention is over. `false`: the file was requeued meanwhile and keeps its
    /// content.
    ///
    /// The record is marked first, then the content is removed: a requeue in between finds the mark and has the source
    /// read again. If the process dies half-way, `due_at` stays set, and the next sweep goes on.
    pub async fn remove_content(&self, file: FileId) -> Result<bool, LedgerError> {
        let Some(record) = self.durable_file(file).await?.filter(|record| record.state.is_terminal()) else {
            return Ok(false);
        };
        let mut version = record.version;
        if record.content_removed != Some(record.generation) {
            let mark = Transition::default().set("content_removed", i64::from(record.generation.0));
            let marked = mark.commit(self, "marking content as removed", at_version(file, version)).await?;
            let Some(marked) = marked else { return Ok(false) };
            version = marked.version;
        }
        fail::fail_point!("content-after-mark", |_| std::process::abort());
        self.delete_content(file, record.generation).await?;
        self.no_longer_due(file, version).await?;
        Ok(true)
    }

    /// Gives up a file that has rested for its whole retention without a finalise request; its content is due to be
    /// removed. `None`: the file was finalised, cancelled or read again meanwhile, or its rest is not over.
    pub async fn end_rest(&self, file: FileId) -> Result<Option<FileRecord>, LedgerError> {
        let Some(record) = self.file(file).await?.filter(FileRecord::rests) else { return Ok(None) };
        // A resting file has come to rest when its record last changed.
        let end = doc! { "$add": ["$updated_at", millis(self.retention.stored)] };
        let mut over = at_version(file, record.version);
        over.insert("$expr", doc! { "$lte": [end.clone(), "$$NOW"] });
        let detail = format!(
            "expected a finalise request within {} s after the file was stored, found none; requeue it or prepare it again",
            self.retention.stored.as_secs()
        );
        let error = to_bson(&Problem::new(ProblemKind::NotFinalised, detail))?;
        let ended = Transition::end(State::Failed, self.retention)
            .set_literal("error", error.clone())
            .set("due_at", "$$NOW")
            .event(EventKind::Failed, State::Failed, Some(doc! { "error": error }.into()))
            .commit(self, "giving up a file that nobody finalised", over)
            .await?;
        if ended.is_none() {
            // The setting was raised since the file came to rest.
            let files = self.relaxed_files();
            let filter = at_version(file, record.version);
            let later = vec![doc! { "$set": { "due_at": end } }];
            self.run("postponing a due time", async move { files.update_one(filter, later).await }).await?;
        }
        Ok(ended)
    }

    /// Deletes the oldest records, at most `limit`, of files that have ended and whose content was removed so long ago
    /// as the settings say. Returns how many. A record stays as long as it has events to publish or an upload to abort.
    ///
    /// Content is deleted once more before its record: without the record, nobody could tell that it no longer counts.
    /// A requeue in between begins a higher generation, which stays, as does the record.
    pub async fn delete_old_records(&self, limit: u16) -> Result<usize, LedgerError> {
        let Some(keep) = self.retention.record else { return Ok(0) };
        let before = DateTime::from_millis(self.now().await?.timestamp_millis() - millis(keep));
        let done_with = doc! {
            "content_removed": { "$exists": true },
            "updated_at": { "$lt": before },
            "state": terminal_states(),
            "due_at": { "$exists": false },
            "outbox.0": { "$exists": false },
            "delivery.upload": { "$exists": false },
        };
        let (files, filter) = (self.files.clone(), done_with.clone());
        let old: Vec<Document> = self
            .run("looking for old records", async move {
                let find = files.find(filter).sort(doc! { "updated_at": 1 }).limit(limit.into());
                find.await?.try_collect().await
            })
            .await?;
        let mut deleted = 0;
        for FileRecord { id: file, generation, .. } in
            old.into_iter().filter_map(|old| FileRecord::from_document(old).ok())
        {
            self.delete_content(file, generation).await?;
            let (files, mut filter) = (self.files.clone(), done_with.clone());
            filter.extend(by_id(file));
            let gone = self.run("deleting an old record", async move { files.delete_one(filter).await }).await?;
            deleted += usize::from(gone.deleted_count > 0);
        }
        Ok(deleted)
    }

    async fn no_longer_due(&self, file: FileId, version: i64) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let filter = at_version(file, version);
        let unset = doc! { "$unset": { "due_at": "", "hint_refusals": "" } };
        self.run("ending a retention", async move { files.update_one(filter, unset).await }).await?;
        Ok(())
    }
}
