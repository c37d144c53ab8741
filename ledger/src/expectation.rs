use std::time::Duration;

use contract::{Expectation, FileId, Mismatch, State};

use crate::bson_form::{by_id, now_plus};
use crate::hold::to_bson;
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError};

/// How often a request is judged again when the record changes in between.
const TRIES: u32 = 8;

/// What became of a finalise request.
#[derive(Debug)]
pub enum ExpectationOutcome {
    /// Recorded; judged when the file is stored.
    Waiting(Box<FileRecord>),
    /// Met, and due now: publish the hint to finalise.
    Accepted(Box<FileRecord>),
    /// The same request was taken before; nothing changed.
    Already(Box<FileRecord>),
    /// Not what is stored; nothing changed.
    Refused(Mismatch),
    /// Another request was accepted before; nothing changed.
    Another(Box<FileRecord>),
    /// The file is failed or cancelled; nothing changed.
    Ended(Box<FileRecord>),
    /// No such file.
    Unknown,
}

impl Ledger {
    /// Takes the expectation of a finalise request that was checked in itself.
    ///
    /// `complete` makes the expectation for the record that is found: a request that names neither remote nor file name
    /// takes them from there. It may refuse, and then nothing changes.
    pub async fn record_expectation<E>(
        &self,
        file: FileId,
        complete: impl Fn(&FileRecord) -> Result<Expectation, E>,
    ) -> Result<Result<ExpectationOutcome, E>, LedgerError> {
        let operation = "recording a finalise request";
        for _ in 0..TRIES {
            let Some(record) = self.file(file).await? else { return Ok(Ok(ExpectationOutcome::Unknown)) };
            let expectation = match complete(&record) {
                Ok(expectation) => expectation,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let (transition, accepted) = match decide(record, &expectation, self.hint_push)? {
                Decision::Answer(answer) => return Ok(Ok(answer)),
                Decision::Write { version, transition, accepted } => {
                    let mut filter = by_id(file);
                    filter.insert("version", version);
                    (self.settle(operation, filter, transition).await?, accepted)
                }
            };
            if let Some(record) = transition.map(Box::new) {
                return Ok(Ok(if accepted {
                    ExpectationOutcome::Accepted(record)
                } else {
                    ExpectationOutcome::Waiting(record)
                }));
            }
        }
        Err(LedgerError::Contended { operation, tries: TRIES })
    }
}

enum Decision {
    Answer(ExpectationOutcome),
    Write { version: i64, transition: Transition, accepted: bool },
}

fn decide(record: FileRecord, expectation: &Expectation, hint_push: Duration) -> Result<Decision, LedgerError> {
    let same = record.expectation.as_ref().is_some_and(|known| known.asks_the_same_as(expectation));
    let another = record.expectation.is_some() && !same;
    let judged = record.proven().map(|proven| expectation.judge(&proven));
    let answer =
        |answer: fn(Box<FileRecord>) -> ExpectationOutcome, record| Ok(Decision::Answer(answer(Box::new(record))));
    match record.state {
        State::Failed | State::Cancelled => answer(ExpectationOutcome::Ended, record),
        State::Stored | State::Delivering | State::Delivered if another => answer(ExpectationOutcome::Another, record),
        State::Prepared | State::Chunking => {
            // Even the same request is written again: its size and chunks may differ, and they are checked later.
            if same && record.expectation.as_ref() == Some(expectation) {
                return answer(ExpectationOutcome::Already, record);
            }
            let transition = Transition::default().set_literal("expectation", to_bson(expectation)?);
            Ok(Decision::Write { version: record.version, transition, accepted: false })
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
                    .set_literal("remote", expectation.remote.as_str())
                    .set("due_at", now_plus(hint_push))
                    .set("queued_at", "$$NOW")
                    .unset(&["error", "not_before", "hint_refusals"]);
                Ok(Decision::Write { version: record.version, transition, accepted: true })
            }
        },
    }
}
