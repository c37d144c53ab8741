//! What the chunker does with one hint.

use std::sync::Arc;

use contract::{Digest, ProblemKind, State, Step};
use ledger::{
    Claim, ClaimRequest, ClaimedFile, FileRecord, GenerationOptions, LedgerError, NextGeneration, Problem, Source,
    StoredOutcome,
};
use runtime::hold::{self, Ended, Fence, Holding};
use runtime::source::SourceError;
use runtime::{Job, Outcome, retry};

use crate::Chunker;
use crate::pass::{self, PassError};

/// How many readings of a source may be found changed before the file is given up.
const GENERATIONS: u32 = 3;

/// Attempts at a source that is not there. Few: mostly it stays away; some: a share may be mounted late.
const MISSING_ATTEMPTS: u32 = 3;

/// Claims the file and has it stored.
pub(crate) async fn handle(chunker: Arc<Chunker>, job: Job) -> Outcome {
    let service = &chunker.service;
    let request = ClaimRequest { file: job.file, worker: &service.worker, lease: service.settings.work.lease() };
    let mut held = match service.ledger.claim_chunking(&request, opening(&chunker)).await {
        Ok(Claim::Taken(held)) => held,
        Ok(Claim::HeldByAnother { remaining }) => return Outcome::Held(remaining),
        Ok(Claim::NothingToDo) => return Outcome::Done,
        Err(error) => return Outcome::Outage(error.to_string()),
    };
    fail::fail_point!("chunker-after-claim", |_| std::process::abort());
    service.announcer.announce(&held.file, None);
    if held.file.attempts.chunking > service.settings.retry.attempts {
        // The attempts before did not even come to say why: each ended with its worker.
        let detail =
            format!("{} attempts to read it were begun and none came to an end", held.file.attempts.chunking - 1);
        let problem = Problem::new(ProblemKind::TooManyAttempts, detail);
        return hold::settled(service, &held.lease, give_up(&chunker, &held, problem).await).await;
    }
    let holding = Holding::start(service, &held, &job);
    let settlement = match holding.run(service, store_or_cancel(&chunker, &mut held, &holding)).await {
        Ended::Lost => return Outcome::Lost,
        Ended::HandBack => return hold::hand_back(service, &held.lease).await,
        Ended::Finished(Ok(sha256)) => stored(&chunker, &mut held, sha256).await,
        Ended::Finished(Err(error)) => unstored(&chunker, &held, error).await,
    };
    hold::settled(service, &held.lease, settlement).await
}

fn opening(chunker: &Chunker) -> GenerationOptions {
    let files = &chunker.service.settings.files;
    GenerationOptions { chunk_size: files.chunk_size, embed_limit: files.embed_limit }
}

/// [`store`], unless somebody wants the file cancelled. One that a remote may have from a generation before goes on: only a
/// finaliser can ask there.
async fn store_or_cancel(
    chunker: &Arc<Chunker>,
    held: &mut ClaimedFile,
    holding: &Holding,
) -> Result<Digest, PassError> {
    let fence = holding.fence();
    let cancellable = !held.file.may_be_at_remote();
    tokio::select! {
        biased;
        () = fence.cancel_requested(), if cancellable => Err(PassError::Cancelled),
        stored = store(chunker, held, fence) => stored,
    }
}

/// Reads the source until one reading found it unchanged, each in a generation of its own.
async fn store(chunker: &Arc<Chunker>, held: &mut ClaimedFile, fence: &Fence) -> Result<Digest, PassError> {
    // Chunks of this generation can be there only if somebody had claimed the file before.
    let mut resuming = held.file.epoch.0 > 1;
    loop {
        let what = match pass::run(chunker, &held.file, fence, resuming).await {
            Err(PassError::Changed(what)) => what,
            ended => return ended,
        };
        fence.check()?;
        tracing::warn!(file = %held.file.id, generation = %held.file.generation, "the source changed: {what}");
        if held.file.source_changes + 1 >= GENERATIONS {
            return Err(PassError::Changed(what));
        }
        let (_, now) = pass::open(chunker, &held.file).await?;
        let source = Source { size: now.size, mtime_ns: now.mtime_ns, ..held.file.source.clone() };
        let next = NextGeneration { source, options: opening(chunker) };
        let begun = chunker.service.ledger.begin_generation(&held.lease, &next).await?;
        held.file = begun.ok_or(runtime::hold::LeaseLost)?;
        resuming = false;
    }
}

async fn stored(chunker: &Chunker, held: &mut ClaimedFile, sha256: Digest) -> Result<Outcome, LedgerError> {
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

/// Commits what a failed attempt means for the file, before the hint is answered.
async fn unstored(chunker: &Chunker, held: &ClaimedFile, error: PassError) -> Result<Outcome, LedgerError> {
    let service = &chunker.service;
    let limit = service.settings.retry.attempts;
    match error {
        PassError::Lost(_) => Ok(Outcome::Lost),
        PassError::Cancelled => {
            tracing::info!(file = %held.file.id, "cancelled");
            settled(service.ledger.record_cancelled(&held.lease).await?, chunker)
        }
        PassError::Stale(why) => {
            // If the record is no longer ours, whoever has it answers for it. If it still is, the store looked before it was.
            tracing::warn!(file = %held.file.id, "{why}");
            Ok(hold::hand_back(service, &held.lease).await)
        }
        PassError::Outage(why) => Ok(match hold::hand_back(service, &held.lease).await {
            Outcome::HandedBack => Outcome::Outage(why),
            other => other,
        }),
        PassError::Changed(what) => {
            let detail = format!("{GENERATIONS} readings did not agree; in the last one, {what}");
            give_up(chunker, held, Problem::new(ProblemKind::SourceChanged, detail)).await
        }
        PassError::Source(error @ (SourceError::Missing { .. } | SourceError::UnknownRoot { .. })) => {
            let problem = Problem::new(ProblemKind::SourceMissing, error.to_string());
            again(chunker, held, problem, MISSING_ATTEMPTS.min(limit)).await
        }
        PassError::Source(error @ (SourceError::Unreadable { .. } | SourceError::Failing { .. })) => {
            let problem = Problem::new(ProblemKind::SourceUnreadable, error.to_string());
            again(chunker, held, problem, limit).await
        }
        PassError::Source(error) => {
            let problem = Problem::new(ProblemKind::SourceChanged, error.to_string());
            give_up(chunker, held, problem).await
        }
        PassError::Unreadable(why) => {
            let problem = Problem::new(ProblemKind::SourceUnreadable, why);
            again(chunker, held, problem, limit).await
        }
    }
}

async fn again(chunker: &Chunker, held: &ClaimedFile, problem: Problem, limit: u32) -> Result<Outcome, LedgerError> {
    let (service, attempt) = (&chunker.service, held.file.attempts.chunking);
    let queued = held.file.queued_at.unwrap_or(held.file.created_at);
    if attempt >= limit || retry::is_last(&service.settings.retry, attempt, queued, held.lease.now()) {
        return give_up(chunker, held, problem).await;
    }
    let delay = retry::delay(&service.settings.retry, attempt, retry::jitter(), None);
    tracing::warn!(file = %held.file.id, attempt, ?delay, "{}; trying again later", problem.detail);
    let committed = service.ledger.record_retry(&held.lease, &problem, delay).await?;
    fail::fail_point!("retry-after-commit", |_| std::process::abort());
    settled(committed, chunker)
}

async fn give_up(chunker: &Chunker, held: &ClaimedFile, problem: Problem) -> Result<Outcome, LedgerError> {
    tracing::error!(file = %held.file.id, kind = problem.uri, "given up: {}", problem.detail);
    settled(chunker.service.ledger.record_failed(&held.lease, &problem).await?, chunker)
}

fn settled(record: Option<FileRecord>, chunker: &Chunker) -> Result<Outcome, LedgerError> {
    let Some(record) = record else { return Ok(Outcome::Lost) };
    debug_assert!(matches!(record.state, State::Failed | State::Cancelled | State::Chunking));
    chunker.service.announcer.announce(&record, None);
    Ok(Outcome::Done)
}
