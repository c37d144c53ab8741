use contract::{Event, EventKind, FileId, State, Timestamp};
use mongodb::bson::doc;
use serde::Deserialize;

use crate::bson_form::moment;
use crate::filter::by_id;
use crate::{FileRecord, Ledger, LedgerError};

/// An event in a record, as a transition wrote it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OutboxEntry {
    version: i64,
    event: EventKind,
    state: State,
    #[serde(deserialize_with = "moment::deserialize")]
    at: Timestamp,
    #[serde(default)]
    detail: serde_json::Value,
    finalised_by: Option<String>,
}

/// The events of a file that are not known to be published, oldest first.
///
/// A publisher sends each event after NATS has acknowledged the one before. So the first occurrences of a file's events
/// are in order, even if several publishers are at work. Events may be repeated.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The file.
    pub file: FileId,
    /// Its events.
    pub events: Vec<Event>,
}

impl FileRecord {
    /// The events of this record that are not known to be published.
    pub fn outbox(&self) -> Outbox {
        let event = |entry: &OutboxEntry| {
            let OutboxEntry { version, event, state, at, detail, finalised_by } = entry.clone();
            let event = Event::new(self.id, version, event, state, at, self.name.clone(), detail);
            event.asked_by(self.user.clone(), finalised_by)
        };
        Outbox { file: self.id, events: self.outbox.iter().map(event).collect() }
    }
}

impl Ledger {
    /// Removes the events up to `version` from a file's outbox: NATS has acknowledged all of them.
    ///
    /// Written with `w: 1`: losing this in a failover only repeats events.
    pub async fn pop_outbox(&self, file: FileId, version: i64) -> Result<(), LedgerError> {
        let files = self.relaxed_files();
        let rest = doc! { "$filter": {
            "input": { "$ifNull": ["$outbox", []] },
            "cond": { "$gt": ["$$this.version", version] },
        } };
        let empty = doc! { "$eq": [{ "$size": "$outbox" }, 0] };
        let pipeline = vec![
            doc! { "$set": { "outbox": rest } },
            doc! { "$set": { "outbox_at": { "$cond": [empty, "$$REMOVE", "$outbox_at"] } } },
        ];
        self.run("emptying an outbox", async move { files.update_one(by_id(file), pipeline).await }).await?;
        Ok(())
    }
}
