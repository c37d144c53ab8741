use std::time::Duration;

use contract::{FileId, State};
use mongodb::bson::doc;

use crate::filter::at_version;
use crate::transition::Transition;
use crate::{Ledger, LedgerError};

/// How long content stays once nothing more happens to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPeriods {
    /// After the delivery.
    pub delivered: Duration,
    /// After the file failed. Until its content is removed, it can be requeued without being read again.
    pub failed: Duration,
    /// After it was cancelled.
    pub cancelled: Duration,
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
    /// The record is marked first, then the content is removed: a requeue in between finds the mark and has the source read
    /// again. If the process dies half-way, `due_at` stays set, and the next sweep goes on.
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

    async fn no_longer_due(&self, file: FileId, version: i64) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let filter = at_version(file, version);
        let unset = doc! { "$unset": { "due_at": "", "hint_refusals": "" } };
        self.run("ending a retention", async move { files.update_one(filter, unset).await }).await?;
        Ok(())
    }
}
