//! What the chunker does with one hint.

use std::sync::Arc;

use bus::{Job, Outcome};
use contract::{Digest, ProblemKind, Step};
use ledger::{ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, LedgerError, Problem, StoredOutcome};
use runtime::work::{Attempt, Ended, Failure, Fence, Holding};
use sources::SourceError;

use crate::Chunker;
use crate::pass::{self, PassError};

/// Attempts at a source that is missing. More than one, because a share may be mounted late; few, because most such
/// sources never return.
const MISSING_ATTEMPTS: u32 = 3;

/// Claims the file and has it stored.
pub(crate) async fn handle(chunker: Arc<Chunker>, job: Job) -> Outcome {
    let service = &chunker.service;
    let request = ClaimRequest { file: job.file, worker: &service.worker, lease: service.settings.work.lease() };
    let claim = service.ledger.claim_chunking(&request, opening(&chunker)).await;
    let mut attempt = match Attempt::begin(service, claim) {
        Ok(attempt) => attempt,
        Err(outcome) => return outcome,
    };
    fail::fail_point!("chunker-after-claim", |_| std::process::abort());
    if let Some(failure) = attempt.exhausted("read it") {
        return attempt.fail(failure).await;
    }
    let holding = Holding::start(service, &attempt.held, &job);
    let fence = holding.fence().clone();
    match holding.run(service, store_or_cancel(&chunker, &mut attempt.held, &fence)).await {
        Ended::Finished(Ok(sha256)) => {
            let recorded = record_stored(&chunker, &mut attempt.held, sha256).await;
            attempt.end(recorded).await
        }
        Ended::Finished(Err(error)) => attempt.fail(failure(&attempt.held, error)).await,
        Ended::Lost => Outcome::Lost,
        Ended::HandBack => attempt.fail(Failure::HandBack).await,
    }
}

fn opening(chunker: &Chunker) -> GenerationOptions {
    let files = &chunker.service.settings.files;
    GenerationOptions { chunk_size: files.chunk_size, embed_limit: files.embed_limit }
}

/// [`store`], unless a caller asks to cancel. If a remote may have the file from an earlier generation, the work goes
/// on: only a finaliser can ask the remote.
async fn store_or_cancel(chunker: &Arc<Chunker>, held: &mut ClaimedFile, fence: &Fence) -> Result<Digest, PassError> {
    let cancellable = !held.file.may_be_at_remote();
    tokio::select! {
        biased;
        () = fence.cancel_requested(), if cancellable => Err(PassError::Cancelled),
        stored = store(chunker, held, fence) => stored,
    }
}

/// Reads the source and has it stored. If the source changed, `held` then shows it as it looks now.
async fn store(chunker: &Arc<Chunker>, held: &mut ClaimedFile, fence: &Fence) -> Result<Digest, PassError> {
    let read = read(chunker, &held.file, fence).await;
    if matches!(read, Err(PassError::Changed { .. })) {
        fence.check()?;
        let (_, now) = pass::open(chunker, &held.file).await?;
        pass::check_size(chunker, now.size)?;
        (held.file.source.size, held.file.source.mtime_ns) = (now.size, now.mtime_ns);
    }
    read
}

/// Reads the source, and reads it once more if only its change time changed meanwhile: the content is what both
/// readings found.
async fn read(chunker: &Arc<Chunker>, file: &FileRecord, fence: &Fence) -> Result<Digest, PassError> {
    // This generation can have chunks only if a chunker had claimed the file before.
    let resuming = file.epoch.0 > 1;
    let first = pass::run(chunker, file, fence, resuming).await?;
    if !first.touched {
        return Ok(first.sha256);
    }
    let second = pass::run(chunker, file, fence, true).await?;
    if first.sha256 != second.sha256 {
        let what = format!("its SHA-256 was {} and is {}", first.sha256, second.sha256);
        return Err(PassError::changed(what));
    }
    Ok(second.sha256)
}

/// Records the file as stored and announces what follows.
async fn record_stored(chunker: &Chunker, held: &mut ClaimedFile, sha256: Digest) -> Result<Outcome, LedgerError> {
    let announcer = &chunker.service.announcer;
    fail::fail_point!("chunker-before-stored", |_| std::process::abort());
    let recorded = chunker.service.ledger.record_stored(held, sha256).await?;
    fail::fail_point!("chunker-after-stored", |_| std::process::abort());
    match recorded {
        StoredOutcome::Resting(file) => announcer.announce(&file, None),
        StoredOutcome::Accepted(file) => announcer.announce(&file, Some(Step::Finalise)),
        StoredOutcome::Lost => return Ok(Outcome::Lost),
    }
    Ok(Outcome::Done)
}

/// What a failed pass means for the file.
fn failure(held: &ClaimedFile, error: PassError) -> Failure {
    let later =
        |kind, why: String, attempts| Failure::Later { problem: Problem::new(kind, why), attempts, at_least: None };
    match error {
        PassError::Lost(_) => Failure::Lost,
        PassError::Cancelled => Failure::Cancelled,
        PassError::Stale(why) => {
            // If another worker holds the file now, that worker answers for it. If we still hold it, the answer was not
            // true, and the next may be no better: so not at once.
            tracing::warn!(file = %held.file.id, "{why}");
            Failure::Outage(why)
        }
        PassError::Outage(why) => Failure::Outage(why),
        PassError::Ledger(error) => error.into(),
        PassError::Changed { what, was_read } => {
            let detail = format!("expected a source that stands still, found that {what}");
            let problem = Problem::new(ProblemKind::SourceChanged, detail);
            Failure::Changed { problem, source: held.file.source.clone(), was_read }
        }
        PassError::TooLarge(why) => Failure::Final(Problem::new(ProblemKind::FileTooLarge, why)),
        PassError::Source(error @ (SourceError::Missing { .. } | SourceError::UnknownRoot { .. })) => {
            later(ProblemKind::SourceMissing, error.to_string(), Some(MISSING_ATTEMPTS))
        }
        PassError::Source(error @ (SourceError::Unreadable { .. } | SourceError::Failing { .. })) => {
            later(ProblemKind::SourceUnreadable, error.to_string(), None)
        }
        // It was a regular file beneath its root when it was prepared.
        PassError::Source(error) => Failure::Final(Problem::new(ProblemKind::SourceChanged, error.to_string())),
        PassError::Unreadable(why) => later(ProblemKind::SourceUnreadable, why, None),
    }
}
