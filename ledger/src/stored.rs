use std::time::Duration;

use contract::{Digest, EventKind, Mismatch, Proven, State};
use mongodb::bson::{Bson, doc};

use crate::bson_form::now_plus;
use crate::hold::{progress_document, to_bson};
use crate::transition::Transition;
use crate::{ClaimedFile, FileRecord, Ledger, LedgerError, Problem, Progress};

/// How often the judgement is made again when a finalise request comes in between.
const TRIES: u32 = 8;

/// What became of a file whose chunks are all stored.
#[derive(Debug)]
pub enum StoredOutcome {
    /// It rests until a finalise request comes, or until the next one where the waiting one was wrong.
    Resting(Box<FileRecord>),
    /// The waiting expectation is met: due now. Publish the hint to finalise.
    Accepted(Box<FileRecord>),
    /// The lease was lost.
    Lost,
}

impl Ledger {
    /// Records that all chunks are stored and proved, and judges an expectation that is waiting, in one compare-and-set.
    pub async fn record_stored(&self, held: &mut ClaimedFile, sha256: Digest) -> Result<StoredOutcome, LedgerError> {
        let operation = "recording a file as stored";
        for _ in 0..TRIES {
            let (transition, accepted) = judged(&held.file, sha256, self.hint_push)?;
            let mut filter = held.lease.filter();
            filter.insert("version", held.file.version);
            filter.insert("state", State::Chunking.as_str());
            if let Some(file) = self.settle(operation, filter, transition).await? {
                let file = Box::new(file);
                return Ok(if accepted { StoredOutcome::Accepted(file) } else { StoredOutcome::Resting(file) });
            }
            match self.file(held.lease.file).await? {
                // The same version again: it is the lease that has run out.
                Some(file) if file.is_held_by(&held.lease) && file.version != held.file.version => held.file = file,
                _ => return Ok(StoredOutcome::Lost),
            }
        }
        Err(LedgerError::Contended { operation, tries: TRIES })
    }
}

fn judged(file: &FileRecord, sha256: Digest, hint_push: Duration) -> Result<(Transition, bool), LedgerError> {
    let split = file.split().ok_or_else(|| LedgerError::Unreadable {
        collection: "files",
        detail: format!("{} is being chunked without a chunk size", file.id),
    })?;
    let size = i64::try_from(split.size()).unwrap_or(i64::MAX);
    let detail = doc! { "size": size, "chunks": i64::from(split.count()), "sha256": sha256.to_string() };
    let progress = Progress { chunks_stored: split.count(), bytes_stored: split.size(), bytes_delivered: 0 };
    let transition = Transition::to(State::Stored)
        .set("sha256", sha256.to_string())
        .set("progress", progress_document(progress))
        .event(EventKind::Stored, State::Stored, Some(detail.into()))
        .unset(&["lease", "not_before", "hint_refusals"]);
    let verdict = file.expectation.as_ref().map(|expected| expected.judge(&Proven { sha256, split }));
    Ok(match verdict {
        None => (transition.unset(&["due_at", "error"]), false),
        Some(Ok(())) => {
            let remote = file.expectation.as_ref().map_or("", |expected| expected.remote.as_str());
            let accepted = transition.set_literal("remote", remote).set("due_at", now_plus(hint_push));
            (accepted.set("queued_at", "$$NOW").unset(&["error"]), true)
        }
        Some(Err(mismatch)) => (refused(transition, &mismatch)?, false),
    })
}

fn refused(transition: Transition, mismatch: &Mismatch) -> Result<Transition, LedgerError> {
    let problem: Bson = to_bson(&Problem::from(mismatch))?;
    Ok(transition
        .set_literal("error", problem.clone())
        .event(EventKind::Mismatch, State::Stored, Some(doc! { "error": problem }.into()))
        .unset(&["expectation", "due_at"]))
}

impl FileRecord {
    pub(crate) fn is_held_by(&self, lease: &crate::Lease) -> bool {
        self.epoch == lease.epoch && self.lease.as_ref().is_some_and(|field| field.owner == lease.owner)
    }
}
