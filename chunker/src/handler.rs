//! What the chunker does with one hint.

use std::sync::Arc;

use contract::{Digest, State, Step};
use ledger::{
    Claim, ClaimRequest, FileRecord, Held, LedgerError, NextGeneration, Opening, Problem, Source, Stored, StoredOutcome,
};
use runtime::hold::{Ended, Holding};
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
    service.announcer.announce(&held.file, None);
    if held.file.attempts.chunking > service.settings.retry.attempts {
        // The attempts before did not even come to say why: each ended with its worker.
        let detail =
            format!("{} attempts to read it were begun and none came to an end", held.file.attempts.chunking - 1);
        let problem = Problem::new("too-many-attempts", "Every attempt broke off", detail);
        return give_up(&chunker, &held, problem).await.unwrap_or_else(|error| Outcome::Outage(error.to_string()));
    }
    let holding = Holding::start(service, &held.lease, held.file.progress, &job);
    let ended = holding.run(service, store(&chunker, &mut held, &holding)).await;
    let settled = match ended {
        Ended::Lost => return Outcome::Lost,
        Ended::HandBack => hand_back(&chunker, &held).await,
        Ended::Finished(Ok(sha256)) => stored(&chunker, &mut held, sha256).await,
        Ended::Finished(Err(error)) => unstored(&chunker, &held, error).await,
    };
    settled.unwrap_or_else(|error| Outcome::Outage(error.to_string()))
}

fn opening(chunker: &Chunker) -> Opening {
    let files = &chunker.service.settings.files;
    Opening { chunk_size: files.chunk_size, embed_limit: files.embed_limit }
}

/// Reads the source until one reading found it unchanged, each in a generation of its own.
async fn store(chunker: &Arc<Chunker>, held: &mut Held, holding: &Holding) -> Result<Digest, PassError> {
    let fence = holding.fence();
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
        let next = NextGeneration { source, opening: opening(chunker) };
        let begun = chunker.service.ledger.begin_generation(&held.lease, &next).await?;
        held.file = begun.ok_or(runtime::hold::LeaseLost)?;
        resuming = false;
    }
}

async fn stored(chunker: &Chunker, held: &mut Held, sha256: Digest) -> Result<Outcome, LedgerError> {
    let announcer = &chunker.service.announcer;
    match chunker.service.ledger.stored(held, Stored { sha256 }).await? {
        StoredOutcome::Resting(file) => announcer.announce(&file, None),
        StoredOutcome::Accepted(file) => announcer.announce(&file, Some(Step::Finalise)),
        StoredOutcome::Lost => return Ok(Outcome::Lost),
    }
    Ok(Outcome::Done)
}

async fn hand_back(chunker: &Chunker, held: &Held) -> Result<Outcome, LedgerError> {
    let back = chunker.service.ledger.hand_back(&held.lease).await?;
    Ok(if back.is_some() { Outcome::HandedBack } else { Outcome::Lost })
}

/// Commits what a failed attempt means for the file, before the hint is answered.
async fn unstored(chunker: &Chunker, held: &Held, error: PassError) -> Result<Outcome, LedgerError> {
    let limit = chunker.service.settings.retry.attempts;
    match error {
        PassError::Lost(_) => Ok(Outcome::Lost),
        PassError::Stale(why) => {
            // If the record is no longer ours, whoever has it answers for it. If it still is, the store looked before it was.
            tracing::warn!(file = %held.file.id, "{why}");
            hand_back(chunker, held).await
        }
        PassError::Outage(why) => {
            hand_back(chunker, held).await?;
            Ok(Outcome::Outage(why))
        }
        PassError::Changed(what) => {
            let title = "The source changed while it was read";
            let detail = format!("{GENERATIONS} readings did not agree; in the last one, {what}");
            give_up(chunker, held, Problem::new("source-changed", title, detail)).await
        }
        PassError::Source(error @ (SourceError::Missing { .. } | SourceError::UnknownRoot { .. })) => {
            let problem = Problem::new("source-missing", "The source is not there", error.to_string());
            again(chunker, held, problem, MISSING_ATTEMPTS.min(limit)).await
        }
        PassError::Source(error @ (SourceError::Unreadable { .. } | SourceError::Failing { .. })) => {
            let problem = Problem::new("source-unreadable", "The source cannot be read", error.to_string());
            again(chunker, held, problem, limit).await
        }
        PassError::Source(error) => {
            let problem = Problem::new("source-changed", "The source is no file that may be read", error.to_string());
            give_up(chunker, held, problem).await
        }
        PassError::Unreadable(why) => {
            let problem = Problem::new("source-unreadable", "The source cannot be read", why);
            again(chunker, held, problem, limit).await
        }
    }
}

async fn again(chunker: &Chunker, held: &Held, problem: Problem, limit: u32) -> Result<Outcome, LedgerError> {
    let attempt = held.file.attempts.chunking;
    if attempt >= limit {
        return give_up(chunker, held, problem).await;
    }
    let service = &chunker.service;
    let delay = retry::delay(&service.settings.retry, attempt, retry::jitter(), None);
    tracing::warn!(file = %held.file.id, attempt, ?delay, "{}; trying again later", problem.detail);
    settled(service.ledger.retry_later(&held.lease, &problem, delay).await?, chunker)
}

async fn give_up(chunker: &Chunker, held: &Held, problem: Problem) -> Result<Outcome, LedgerError> {
    tracing::error!(file = %held.file.id, kind = problem.kind, "given up: {}", problem.detail);
    settled(chunker.service.ledger.fail(&held.lease, &problem).await?, chunker)
}

fn settled(record: Option<FileRecord>, chunker: &Chunker) -> Result<Outcome, LedgerError> {
    let Some(record) = record else { return Ok(Outcome::Lost) };
    debug_assert!(matches!(record.state, State::Failed | State::Chunking));
    chunker.service.announcer.announce(&record, None);
    Ok(Outcome::Done)
}
