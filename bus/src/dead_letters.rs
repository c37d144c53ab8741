//! The stream of dead letters: messages that no worker could read; for `waybill dead`.

use async_nats::jetstream::stream::RawMessageErrorKind;
use contract::{DeadLetter, Timestamp};

use crate::streams::find_stream;
use crate::{Nats, NatsError};

/// What the stream of dead letters holds.
#[derive(Debug)]
pub struct DeadLetters {
    /// How many messages it holds.
    pub total: u64,
    /// The newest of them, newest first.
    pub newest: Vec<StoredMessage>,
}

/// A message of the stream.
#[derive(Debug)]
pub struct StoredMessage {
    /// Its number in the stream.
    pub sequence: u64,
    /// When it was published.
    pub at: Timestamp,
    /// The dead letter; or what another program published there.
    pub letter: Result<DeadLetter, NotADeadLetter>,
}

/// A message of the stream that is no dead letter.
#[derive(Debug)]
pub struct NotADeadLetter {
    /// The subject it was published on.
    pub subject: String,
    /// Why it is no dead letter.
    pub why: String,
    /// Its payload; bytes that are not UTF-8 are replaced.
    pub payload: String,
}

/// Reads the newest `limit` messages, one by one by their sequence, without a consumer. `None`: there is no stream.
pub async fn newest(nats: &Nats, limit: usize) -> Result<Option<DeadLetters>, NatsError> {
    let name = nats.names().dead_stream();
    let Some(stream) = find_stream(nats, &name).await? else { return Ok(None) };
    let state = &stream.cached_info().state;
    let mut newest = Vec::new();
    // A deleted message leaves a gap; the count tells when no more messages come before it.
    let wanted = usize::try_from(state.messages).unwrap_or(usize::MAX).min(limit);
    let mut sequence = state.last_sequence;
    while newest.len() < wanted && sequence >= state.first_sequence.max(1) {
        match stream.get_raw_message(sequence).await {
            Ok(message) => newest.push(StoredMessage {
                sequence,
                at: timestamp(message.time.unix_timestamp_nanos()),
                letter: DeadLetter::from_json(&message.payload).map_err(|error| NotADeadLetter {
                    subject: message.subject.to_string(),
                    why: error.to_string(),
                    payload: String::from_utf8_lossy(&message.payload).into_owned(),
                }),
            }),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {}
            Err(error) => {
                return Err(NatsError::Read { what: format!("message {sequence} of {name}"), why: error.to_string() });
            }
        }
        sequence -= 1;
    }
    Ok(Some(DeadLetters { total: state.messages, newest }))
}

fn timestamp(nanos: i128) -> Timestamp {
    // A stream's times lie far within an i64 of milliseconds.
    Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}
