//! What is published: hints, events and dead letters.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use contract::{Cause, DeadLetter, Event, FileId, Hint, Role, Step};

use crate::{Nats, NatsError};

/// What became of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hinted {
    /// It is in the stream.
    Published,
    /// The stream already has one for the file, or is full. `due_at` brings the next one.
    Refused,
}

impl Nats {
    /// Publishes the hint to take `step` with a file.
    pub async fn hint(&self, step: Step, file: FileId, cause: Cause) -> Result<Hinted, NatsError> {
        let subject = self.names().hint(step, file);
        let message = PublishMessage::build().payload(Hint::new(file, cause).to_json().into());
        match self.publish(&subject, message).await {
            Ok(_) => Ok(Hinted::Published),
            Err(NatsError::Publish { source, .. }) if is_refusal(&source) => Ok(Hinted::Refused),
            Err(error) => Err(error),
        }
    }

    /// Publishes an event. JetStream drops a repetition by its id within the duplicate window.
    ///
    /// Anybody who may publish can guess the id and use it first. So an event that JetStream calls a repetition is
    /// compared with the message that it repeats, and is published without an id if that is another one.
    pub async fn event(&self, event: &Event) -> Result<(), NatsError> {
        fail::fail_point!("break-outbox", |_| Ok(()));
        let subject = self.names().event(event.file_id, event.event);
        let payload = Bytes::from(event.to_json());
        let with_id = PublishMessage::build().payload(payload.clone()).message_id(&event.id);
        let ack = self.publish(&subject, with_id).await?;
        if !ack.duplicate || self.has(&ack, &subject, &payload).await? {
            return Ok(());
        }
        tracing::error!(
            id = event.id,
            "NATS has another message under the id of this event; publishing it without one"
        );
        self.publish(&subject, PublishMessage::build().payload(payload)).await.map(drop)
    }

    /// Whether the stream has this message where the acknowledgement says.
    async fn has(&self, ack: &PublishAck, subject: &str, payload: &[u8]) -> Result<bool, NatsError> {
        let failed = |why: String| NatsError::Read { what: format!("message {} of {}", ack.sequence, ack.stream), why };
        let stream = self.jetstream().get_stream_no_info(&ack.stream).await.map_err(|e| failed(e.to_string()))?;
        match stream.get_raw_message(ack.sequence).await {
            Ok(there) => Ok(there.subject.as_str() == subject && there.payload == payload),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Publishes a message that no worker can read, with the reason.
    pub(crate) async fn dead(&self, role: Role, letter: &DeadLetter) -> Result<(), NatsError> {
        let message = PublishMessage::build().payload(letter.to_json().into());
        self.publish(&self.names().dead(role), message).await.map(drop)
    }

    async fn publish(&self, subject: &str, message: PublishMessage) -> Result<PublishAck, NatsError> {
        let failed = |source: PublishError| match source.kind() {
            PublishErrorKind::StreamNotFound => NatsError::NoStream { subject: subject.to_owned() },
            _ => NatsError::Publish { subject: subject.to_owned(), source },
        };
        let ack = self.jetstream().send_publish(subject.to_owned(), message).await.map_err(failed)?;
        ack.await.map_err(failed)
    }
}

/// Whether JetStream refused the message because of the limits of the stream (10077): the stream already has one for
/// the subject, or is full.
fn is_refusal(error: &PublishError) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<jetstream::Error>());
    source.is_some_and(|source| source.error_code() == ErrorCode::STREAM_STORE_FAILED)
}
