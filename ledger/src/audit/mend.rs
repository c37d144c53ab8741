use contract::{FileId, Generation, State, Step};
use mongodb::bson::{Document, doc};

use crate::bson_form::by_id;
use crate::{Ledger, LedgerError};

impl Ledger {
    /// Makes a file due now, unless it changed since `version`, or somebody holds it, or there is nothing to do with it. `Some`:
    /// publish this hint.
    pub async fn make_due(&self, file: FileId, version: i64) -> Result<Option<Step>, LedgerError> {
        let mut filter = free(file, version);
        let by_itself = [State::Prepared, State::Chunking, State::Delivering].map(State::as_str).to_vec();
        let of_stored = doc! { "state": State::Stored.as_str(), "expectation": { "$exists": true } };
        filter.insert("$or", vec![doc! { "state": { "$in": by_itself } }, of_stored]);
        let files = self.files.clone();
        let due = vec![doc! { "$set": { "due_at": "$$NOW" } }, doc! { "$unset": "hint_refusals" }];
        let made = self
            .run("making a file due", async move {
                files.find_one_and_update(filter, due).projection(doc! { "state": 1 }).await
            })
            .await?;
        Ok(made.map(|before| match before.get_str("state") {
            Ok(state) if state == State::Prepared.as_str() || state == State::Chunking.as_str() => Step::Prepare,
            _ => Step::Finalise,
        }))
    }

    /// Deletes what is stored of a file up to this generation, if the record's is higher or calls it removed, and nobody holds
    /// the file. `false`: nothing was deleted.
    ///
    /// A record's generation never falls, so what was lower at the look is lower for ever.
    pub async fn remove_unreachable(&self, file: FileId, generation: Generation) -> Result<bool, LedgerError> {
        let files = self.files.clone();
        let number = i64::from(generation.0);
        let mut filter = by_id(file);
        let removed = doc! { "content_removed": number, "generation": number };
        filter.insert("$or", vec![doc! { "generation": { "$gt": number } }, removed]);
        filter.insert("$expr", doc! { "$lte": ["$lease.until", "$$NOW"] });
        let unreachable =
            self.run("looking at a file's generation", async move {
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

/// The record at this version, held by nobody, and not told to wait.
fn free(file: FileId, version: i64) -> Document {
    let mut filter = by_id(file);
    filter.insert("version", version);
    // A missing field is less than every date.
    filter.insert(
        "$expr",
        doc! { "$and": [{ "$lte": ["$lease.until", "$$NOW"] }, { "$lte": ["$not_before", "$$NOW"] }] },
    );
    filter
}
