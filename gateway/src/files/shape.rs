use std::collections::BTreeMap;

use contract::{Digest, FileId, Generation, Split, State, Timestamp};
use ledger::{Failure, FileRecord, Problem};
use serde::Serialize;
use serde_json::Value;

/// A file as callers see it.
#[derive(Debug, Serialize)]
pub struct File {
    file_id: FileId,
    name: String,
    media_type: String,
    metadata: BTreeMap<String, String>,
    /// The path beneath the root.
    file_path: String,
    state: State,
    phase: &'static str,
    size: u64,
    chunks: Chunks,
    bytes: Bytes,
    sha256: Option<Digest>,
    remote: Option<String>,
    prepared_by: String,
    /// Who made the finalise request that waits or was accepted.
    finalised_by: Option<String>,
    attempts: u32,
    generation: Generation,
    holder: Option<String>,
    not_before: Option<Timestamp>,
    error: Option<Problem>,
    /// The last failed attempts to chunk or to deliver.
    failures: Vec<Failure>,
    receipt: Option<Value>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Chunks {
    total: Option<u32>,
    stored: u32,
}

#[derive(Debug, Serialize)]
struct Bytes {
    stored: u64,
    delivered: u64,
}

impl File {
    /// A record as callers see it. `chunk_size` is the configured one, for a file that no chunker has claimed yet.
    pub fn of(record: FileRecord, chunk_size: u32) -> Self {
        let split = record.split().or_else(|| Split::new(record.source.size, chunk_size));
        let (chunks, bytes) = progress(&record, split);
        let phase = match record.cancel_requested && !record.state.is_terminal() {
            true => "cancelling",
            false => phase(record.state, record.holder().is_some(), record.expectation.is_some()),
        };
        Self {
            phase,
            chunks,
            bytes,
            attempts: record.attempts(),
            holder: record.holder().map(str::to_owned),
            file_id: record.id,
            name: record.name.into(),
            media_type: record.media_type,
            metadata: record.metadata,
            file_path: record.source.path,
            state: record.state,
            size: record.source.size,
            sha256: record.sha256,
            remote: record.expectation.map(|expectation| expectation.remote).or(record.remote),
            prepared_by: record.user,
            finalised_by: record.finalised_by,
            generation: record.generation,
            not_before: record.not_before,
            error: record.error,
            failures: record.failures,
            receipt: record.receipt,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// What is happening to the file now. `waiting`: a worker must claim it again, perhaps not before `not_before`.
const fn phase(state: State, held: bool, accepted: bool) -> &'static str {
    match state {
        State::Prepared => "queued",
        State::Chunking | State::Delivering if !held => "waiting",
        State::Stored if accepted => "accepted",
        other => other.as_str(),
    }
}

/// How far the file has come. The figures of a finished phase are exact; those of the current phase are as old as the
/// last renewal of the lease.
fn progress(record: &FileRecord, split: Option<Split>) -> (Chunks, Bytes) {
    let total = split.map(|split| split.count());
    let (size, progress) = (record.source.size, record.progress);
    let (stored, bytes_stored) = match (record.state, total) {
        (State::Stored | State::Delivering | State::Delivered, Some(total)) => (total, size),
        _ => (progress.chunks_stored, progress.bytes_stored),
    };
    let delivered = if record.state == State::Delivered { size } else { progress.bytes_delivered };
    (Chunks { total, stored }, Bytes { stored: bytes_stored, delivered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_tells_what_is_happening() {
        for (state, held, accepted, expected) in [
            (State::Prepared, false, true, "queued"),
            (State::Chunking, true, false, "chunking"),
            (State::Chunking, false, true, "waiting"),
            (State::Stored, false, false, "stored"),
            (State::Stored, false, true, "accepted"),
            (State::Delivering, true, true, "delivering"),
            (State::Delivering, false, true, "waiting"),
            (State::Delivered, false, true, "delivered"),
            (State::Failed, false, true, "failed"),
            (State::Cancelled, false, false, "cancelled"),
        ] {
            assert_eq!(phase(state, held, accepted), expected, "{state} {held} {accepted}");
        }
    }
}
