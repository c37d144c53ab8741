use contract::{Event, EventKind, FileId, State, Timestamp};
use mongodb::bson::doc;
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use serde::Deserialize;

use crate::bson_form::{by_id, moment};
use crate::{FileRecord, Ledger, LedgerError};

/// An event as a transition left it in the record.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OutboxEntry {
    version: i64,
    event: EventKind,
    state: State,
    #[serde(deserialize_with = "moment::deserialize")]
    at: Timestamp,
    #[serde(default)]
    detail: serde_json::Value,
}

/// The events of a file that are not known to be published, oldest first.
///
/// Whoever publishes them does so one by one, each after the one before was acknowledged; so the first occurrences of a
/// file's events are in order, whoever published them. Repetitions are possible.
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
            let OutboxEntry { version, event, state, at, detail } = entry.clone();
            Event::new(self.id, version, event, state, at, self.name.to_string(), detail)
        };
        Outbox { file: self.id, events: self.outbox.iter().map(event).collect() }
    }
}

impl Ledger {
    /// Takes the events up to `version` out of a file's outbox: all of them were acknowledged by NATS.
    ///
    /// Written with `w: 1`: losing a pop in a failover repeats events, and that is allowed.
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

    /// The records, written with `w: 1`: for what may be lost in a failover at the cost of repeated work.
    pub(crate) fn relaxed_files(&self) -> mongodb::Collection<mongodb::bson::Document> {
        let relaxed = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        self.db.collection_with_options("files", CollectionOptions::builder().write_concern(relaxed).build())
    }
}
