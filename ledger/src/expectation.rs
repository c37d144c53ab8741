use std::time::Duration;

use contract::{Expectation, FileId, Mismatch, State};

use crate::bson_form::{now_plus, to_bson};
use crate::contention::Tries;
use crate::filter::at_version;
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError};

/// What became of a finalise request.
#[derive(Debug)]
pub enum ExpectationOutcome {
    /// Recorded; judged when the file is stored.
    Waiting(Box<FileRecord>),
    /// Met, and due now: publish the hint to finalise.
    Accepted(Box<FileRecord>),
    /// The same request was recorded before; nothing changed.
    Already(Box<FileRecord>),
    /// The stored file is not what the request expects; nothing changed.
    Refused(Mismatch),
    /// Another request was accepted before, or one of another user is waiting; nothing changed.
    Another(Box<FileRecord>),
    /// The file is failed or cancelled; nothing changed.
    Ended(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Records the expectation of a finalise request that `user` made: it waits until the file is stored, or is judged
    /// now if it is. A user may replace an own request that is waiting, but nobody else's.
    ///
    /// `complete` makes the expectation from the request and the record, which supplies a remote or a file name that
    /// the request does not give. If it refuses, nothing changes.
    pub async fn record_expectation<E>(
        &self,
        file: FileId,
        user: &str,
        complete: impl Fn(&FileRecord) -> Result<Expectation, E>,
    ) -> Result<Result<ExpectationOutcome, E>, LedgerError> {
        let operation = "recording a finalise request";
        let mut tries = Tries::of(operation);
        loop {
            tries.begin()?;
            let Some(record) = self.confirmed_file(file).await? else { return Ok(Ok(ExpectationOutcome::Unknown)) };
            let expectation = match complete(&record) {
                Ok(expectation) => expectation,
                Err(refusal) => return Ok(Err(refusal)),
            };
            match decide(record, user, &expectation, self.hint_push)? {
                Decision::Answer(answer) => return Ok(Ok(answer)),
                Decision::Write { version, transition, outcome } => {
                    if let Some(record) = transition.commit(self, operation, at_version(file, version)).await? {
                        return Ok(Ok(outcome(Box::new(record))));
                    }
                }
            }
        }
    }
}

enum Decision {
    Answer(ExpectationOutcome),
    Write { version: i64, transition: Transition, outcome: fn(Box<FileRecord>) -> ExpectationOutcome },
}

fn decide(
    record: FileRecord,
    user: &str,
    expectation: &Expectation,
    hint_push: Duration,
) -> Result<Decision, LedgerError> {
    let same = record.expectation.as_ref().is_some_and(|known| known.asks_the_same_as(expectation));
    let another = record.expectation.is_some() && !same;
    let judged = record.proven().map(|proven| expectation.judge(&proven));
    let answer =
        |answer: fn(Box<FileRecord>) -> ExpectationOutcome, record| Ok(Decision::Answer(answer(Box::new(record))));
    match record.state {
        State::Failed | State::Cancelled => answer(ExpectationOutcome::Ended, record),
        State::Stored | State::Delivering | State::Delivered if another => answer(ExpectationOutcome::Another, record),
        State::Prepared | State::Chunking => {
            // A request with the same remote, name and hash may give another size or number of chunks; those are judged
            // later.
            if record.expectation.as_ref() == Some(expectation) {
                return answer(ExpectationOutcome::Already, record);
            }
            if record.finalised_by.as_deref().is_some_and(|first| first != user) {
                return answer(ExpectationOutcome::Another, record);
            }
            let transition = Transition::default()
                .set_literal("expectation", to_bson(expectation)?)
                .set_literal("finalised_by", user);
            Ok(Decision::Write { version: record.version, transition, outcome: ExpectationOutcome::Waiting })
        }
        State::Stored | State::Delivering | State::Delivered => match judged {
            Some(Err(mismatch)) => Ok(Decision::Answer(ExpectationOutcome::Refused(mismatch))),
            None => Err(LedgerError::Unreadable {
                collection: "files",
                detail: format!("{} is {} without a hash", record.id, record.state),
            }),
            Some(Ok(())) if same => answer(ExpectationOutcome::Already, record),
            Some(Ok(())) => {
                let transition = Transition::default()
                    .set_literal("expectation", to_bson(expectation)?)
                    .set_literal("finalised_by", user)
                    .set_literal("remote", expectation.remote.as_str())
                    .set("due_at", now_plus(hint_push))
                    .set("queued_at", "$$NOW")
                    .unset(&["error", "not_before", "hint_refusals"]);
                Ok(Decision::Write { version: record.version, transition, outcome: ExpectationOutcome::Accepted })
            }
        },
    }
}
