use std::time::Duration;

use bus::Outcome;
use contract::ProblemKind;
use ledger::{Claim, ClaimedFile, FileRecord, Lease, LedgerError, NextGeneration, Problem, Source};

use super::retry;
use crate::Service;

/// The pause before the next try to hand a file back.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// One attempt at a phase of a file, from its claim to what the record says of its end.
#[derive(Debug)]
pub struct Attempt<'a> {
    service: &'a Service,
    /// The claimed file and the lease on it.
    pub held: ClaimedFile,
}

/// Why an attempt did not succeed, and so what becomes of the file.
#[derive(Debug)]
pub enum Failure {
    /// The lease was lost: the attempt writes nothing.
    Lost,
    /// The file goes to the next holder at once, and this attempt does not count.
    HandBack,
    /// NATS, the store or MongoDB was out of reach: the file goes back, and this attempt does not count.
    Outage(String),
    /// A caller asked to cancel, and the remote does not have the file.
    Cancelled,
    /// Another attempt may succeed.
    Later {
        /// What went wrong.
        problem: Problem,
        /// The most attempts, if that is fewer than the settings allow.
        attempts: Option<u32>,
        /// The pause that the remote asked for.
        at_least: Option<Duration>,
    },
    /// The source changed. It is read again, in a new generation, after a pause.
    Changed {
        /// What changed.
        problem: Problem,
        /// The source as it looks now.
        source: Source,
        /// Whether some of it was read before the change was noticed.
        was_read: bool,
    },
    /// No further attempt can succeed.
    Final(Problem),
}

impl From<LedgerError> for Failure {
    /// An error about a document belongs to the file, and its attempt counts. Only an outage counts no attempt.
    fn from(error: LedgerError) -> Self {
        let why = error.to_string();
        if error.is_refusal() {
            return Self::Final(Problem::new(ProblemKind::RecordRefused, why));
        }
        if error.is_corrupt_data() {
            let problem = Problem::new(ProblemKind::ContentWrong, why);
            return Self::Later { problem, attempts: None, at_least: None };
        }
        Self::Outage(why)
    }
}

impl<'a> Attempt<'a> {
    /// The attempt that a claim began, with its event announced. If the claim gave no file: the outcome for its hint.
    pub fn begin(service: &'a Service, claim: Result<Claim, LedgerError>) -> Result<Self, Outcome> {
        match claim {
            Ok(Claim::Taken(held)) => {
                service.announcer.announce(&held.file, None);
                Ok(Self { service, held: *held })
            }
            Ok(Claim::HeldByAnother { remaining }) => Err(Outcome::HeldByAnother(remaining)),
            Ok(Claim::NothingToDo) => Err(Outcome::Done),
            Err(error) => Err(Outcome::Outage(error.to_string())),
        }
    }

    /// The failure to end with if every allowed attempt died with its worker and left no reason. `doing` completes
    /// "attempts to", for example `read it`.
    pub fn exhausted(&self, doing: &str) -> Option<Failure> {
        let attempts = self.held.file.attempts();
        (attempts > self.service.settings.retry.attempts).then(|| {
            let detail = format!("{} attempts to {doing} were begun and none finished", attempts - 1);
            Failure::Final(Problem::new(ProblemKind::TooManyAttempts, detail))
        })
    }

    /// Commits what the failure means for the file, before its hint is answered.
    pub async fn fail(&self, failure: Failure) -> Outcome {
        let (ledger, lease) = (&self.service.ledger, &self.held.lease);
        let written = match failure {
            Failure::Lost => return Outcome::Lost,
            Failure::HandBack => return hand_back(self.service, lease).await,
            Failure::Outage(why) => return self.hand_back_after(why).await,
            Failure::Cancelled => {
                tracing::info!(file = %lease.file, "cancelled");
                ledger.record_cancelled(lease).await
            }
            Failure::Later { problem, attempts, at_least } => {
                let attempt = self.held.file.attempts();
                match self.delay(attempt, attempts, at_least) {
                    Some(delay) => return self.end(self.retry_later(&problem, delay).await).await,
                    None => self.give_up(&problem).await,
                }
            }
            Failure::Changed { problem, source, was_read } => {
                // Waiting until a source stands still counts no attempt; only the age of the phase ends the waiting.
                let counts = was_read || self.service.settings.files.settle_seconds == 0;
                let attempt = if counts { self.held.file.attempts() } else { 0 };
                match self.delay(attempt, None, None) {
                    Some(delay) => {
                        let next = NextGeneration { source, problem, delay, counts };
                        return self.end(self.read_again(&next).await).await;
                    }
                    None => self.give_up(&problem).await,
                }
            }
            Failure::Final(problem) => self.give_up(&problem).await,
        };
        self.end(written.map(|record| self.announced(record))).await
    }

    /// Ends the attempt with the outcome that was written. If MongoDB does not take what was to be written, the file
    /// fails. If it did not answer, the write may or may not have happened: then the file is handed back if it is still
    /// ours.
    pub async fn end(&self, written: Result<Outcome, LedgerError>) -> Outcome {
        let mut error = match written {
            Ok(outcome) => return outcome,
            Err(error) => error,
        };
        if error.is_refusal() {
            let problem = Problem::new(ProblemKind::RecordRefused, error.to_string());
            match self.give_up(&problem).await {
                Ok(record) => return self.announced(record),
                Err(again) => error = again,
            }
        }
        self.hand_back_after(error.to_string()).await
    }

    /// Hands the file back because something was out of reach. The hint comes again after a pause, not at once.
    async fn hand_back_after(&self, why: String) -> Outcome {
        match hand_back(self.service, &self.held.lease).await {
            Outcome::HandedBack => Outcome::Outage(why),
            other => other,
        }
    }

    /// How long to wait after attempt number `attempt`; `None` if this was the last.
    fn delay(&self, attempt: u32, attempts: Option<u32>, at_least: Option<Duration>) -> Option<Duration> {
        let (settings, file) = (&self.service.settings.retry, &self.held.file);
        let queued = file.queued_at.unwrap_or(file.created_at);
        let last = attempts.is_some_and(|most| attempt >= most)
            || retry::is_last(settings, attempt, queued, self.held.lease.now());
        (!last).then(|| retry::delay(settings, attempt, rand::random(), at_least))
    }

    /// Commits a retry. Nothing is announced: a retry makes no event, and the sweep publishes the hint when the time
    /// has come.
    async fn retry_later(&self, problem: &Problem, delay: Duration) -> Result<Outcome, LedgerError> {
        let (file, attempt) = (self.held.file.id, self.held.file.attempts());
        tracing::warn!(%file, attempt, ?delay, "{}; trying again later", problem.detail);
        let record = self.service.ledger.record_retry(&self.held.lease, problem, delay).await?;
        fail::fail_point!("retry-after-commit", |_| std::process::abort());
        Ok(record.map_or(Outcome::Lost, |_| Outcome::Done))
    }

    /// As [`Self::retry_later`], in a new generation.
    async fn read_again(&self, next: &NextGeneration) -> Result<Outcome, LedgerError> {
        let (file, attempt) = (self.held.file.id, self.held.file.attempts());
        tracing::warn!(%file, attempt, "{}; reading it again later", next.problem.detail);
        let record = self.service.ledger.begin_generation(&self.held.lease, next).await?;
        fail::fail_point!("retry-after-commit", |_| std::process::abort());
        Ok(record.map_or(Outcome::Lost, |_| Outcome::Done))
    }

    async fn give_up(&self, problem: &Problem) -> Result<Option<FileRecord>, LedgerError> {
        tracing::error!(file = %self.held.file.id, kind = problem.uri, "given up: {}", problem.detail);
        self.service.ledger.record_failed(&self.held.lease, problem).await
    }

    fn announced(&self, record: Option<FileRecord>) -> Outcome {
        let Some(record) = record else { return Outcome::Lost };
        self.service.announcer.announce(&record, None);
        Outcome::Done
    }
}

/// Frees a file for the next holder, due now, and gives the attempt back: nobody is to blame. Waits until MongoDB
/// answers: without MongoDB no other file could use the slot.
pub async fn hand_back(service: &Service, lease: &Lease) -> Outcome {
    loop {
        let error = match service.ledger.hand_back(lease).await {
            Ok(Some(_)) => return Outcome::HandedBack,
            Ok(None) => return Outcome::Lost,
            // MongoDB answers, and will answer the same: the lease ends by itself.
            Err(error) if error.is_refusal() || error.is_corrupt_data() => return Outcome::Outage(error.to_string()),
            Err(error) => error,
        };
        tracing::debug!(file = %lease.file, "a file was not handed back yet: {error}");
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_TRIES.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
            () = service.life.handing_back() => return Outcome::Outage(error.to_string()),
        }
    }
}
