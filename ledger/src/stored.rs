use std::time::Duration;

use contract::{Digest, EventKind, Mismatch, Proven, State};
use mongodb::bson::{Bson, doc};

use crate::bson_form::{now_plus, to_bson};
use crate::contention::Tries;
use crate::transition::Transition;
use crate::{ClaimedFile, FileRecord, Ledger, LedgerError, Problem, Progress};

/// What became of a file whose chunks are all stored.
#[derive(Debug)]
pub enum StoredOutcome {
    /// It rests until a finalise request comes. If an expectation was waiting, it did not match and was dropped.
    Resting(Box<FileRecord>),
    /// The waiting expectation is met, and the file is due now. Publish the hint to finalise.
    Accepted(Box<FileRecord>),
    /// The lease was lost.
    Lost,
}

impl Ledger {
    /// Records that all chunks are stored and proved, and judges an expectation that is waiting, in one
    /// compare-and-set.
    pub async fn record_stored(&self, claimed: &mut ClaimedFile, sha256: Digest) -> Result<StoredOutcome, LedgerError> {
        let operation = "recording a file as stored";
        let mut tries = Tries::of(operation);
        loop {
            tries.begin()?;
            let (transition, outcome) = judged(&claimed.file, sha256, self.hint_push, self.retention.stored)?;
            let mut filter = claimed.lease.filter();
            filter.extend(doc! { "version": claimed.file.version, "state": State::Chunking.as_str() });
            if let Some(file) = transition.commit(self, operation, filter).await? {
                return Ok(outcome(Box::new(file)));
            }
            match self.confirmed_file(claimed.lease.file).await? {
                // If the version is unchanged, the write failed because the lease had expired.
                Some(file) if file.is_claimed_by(&claimed.lease) && file.version != claimed.file.version => {
                    claimed.file = file;
                }
                _ => return Ok(StoredOutcome::Lost),
            }
        }
    }
}

type Outcome = fn(Box<FileRecord>) -> StoredOutcome;

/// `rest`: how long the file waits for a finalise request.
fn judged(
    file: &FileRecord,
    sha256: Digest,
    hint_push: Duration,
    rest: Duration,
) -> Result<(Transition, Outcome), LedgerError> {
    let split = file.split().ok_or_else(|| LedgerError::Unreadable {
        collection: "files",
        detail: format!("{} is being chunked without a chunk size", file.id),
    })?;
    let size = i64::try_from(split.size()).unwrap_or(i64::MAX);
    let detail = doc! { "size": size, "chunks": i64::from(split.count()), "sha256": sha256.to_string() };
    let progress = Progress { chunks_stored: split.count(), bytes_stored: split.size(), bytes_delivered: 0 };
    let transition = Transition::to(State::Stored)
        .set("sha256", sha256.to_string())
        .set("progress", progress.to_document())
        .event(EventKind::Stored, State::Stored, Some(detail.into()))
        .unset(&["lease", "not_before", "hint_refusals"]);
    let Some(expectation) = &file.expectation else {
        return Ok((transition.set("due_at", now_plus(rest)).unset(&["error"]), StoredOutcome::Resting));
    };
    Ok(match expectation.judge(&Proven { sha256, split }) {
        Ok(()) => {
            let due = transition.set("due_at", now_plus(hint_push)).set("queued_at", "$$NOW").unset(&["error"]);
            (due.set_literal("remote", expectation.remote.as_str()), StoredOutcome::Accepted)
        }
        Err(mismatch) => (refused(transition, &mismatch)?.set("due_at", now_plus(rest)), StoredOutcome::Resting),
    })
}

fn refused(transition: Transition, mismatch: &Mismatch) -> Result<Transition, LedgerError> {
    let problem: Bson = to_bson(&Problem::from(mismatch))?;
    Ok(transition
        .set_literal("error", problem.clone())
        .event(EventKind::Mismatch, State::Stored, Some(doc! { "error": problem }.into()))
        .unset(&["expectation", "finalised_by"]))
}
