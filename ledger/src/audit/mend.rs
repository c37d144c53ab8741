use contract::{FileId, Generation, Step};
use mongodb::bson::doc;

use crate::filter::{at_version, by_id, waits_for_worker};
use crate::lease::{free_to_claim, lease_is_free};
use crate::record::state_in;
use crate::{Ledger, LedgerError};

impl Ledger {
    /// Makes a file due now, unless it has changed since `version`, somebody holds it, or there is nothing to do.
    /// `Some`: publish the hint to take this step.
    pub async fn make_due(&self, file: FileId, version: i64) -> Result<Option<Step>, LedgerError> {
        let mut filter = at_version(file, version);
        filter.insert("$expr", free_to_claim());
        filter.extend(waits_for_worker());
        let files = self.files.clone();
        let due = vec![doc! { "$set": { "due_at": "$$NOW" } }, doc! { "$unset": "hint_refusals" }];
        let before = self
            .run("making a file due", async move {
                files.find_one_and_update(filter, due).projection(doc! { "state": 1 }).await
            })
            .await?;
        let Some(before) = before else { return Ok(None) };
        Ok(state_in(&before)?.next_step())
    }

    /// Deletes the content of a file up to this generation, if the record's generation is higher or is marked as
    /// removed, and nobody holds the file. `false`: nothing was deleted.
    ///
    /// A record's generation never falls, so a generation that is below it stays below it.
    pub async fn remove_unreachable(&self, file: FileId, generation: Generation) -> Result<bool, LedgerError> {
        let files = self.files.clone();
        let number = i64::from(generation.0);
        let mut filter = by_id(file);
        let removed = doc! { "content_removed": number, "generation": number };
        filter.insert("$or", vec![doc! { "generation": { "$gt": number } }, removed]);
        filter.insert("$expr", lease_is_free());
        let unreachable =
            self.run("reading a file's generation", async move {
                files.find_one(filter).projection(doc! { "_id": 1 }).await
            })
            .await?;
        if unreachable.is_none() {
            return Ok(false);
        }
        self.delete_content(file, generation).await?;
        Ok(true)
    }
}
