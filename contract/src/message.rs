use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    CHUNK_SIZE_MIN, ChunkNumber, Digest, Epoch, EventKind, FileId, Generation, ObjectName, Role, State, Timestamp,
    one_line,
};

/// The version of all messages. A reader refuses any other.
pub const MESSAGE_VERSION: u8 = 1;

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not the JSON of this message.
    #[error("expected a message of version {MESSAGE_VERSION} as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("expected a message of version {MESSAGE_VERSION}, found version {0}")]
    Version(u8),
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], version: impl Fn(&T) -> u8) -> Result<T, MessageError> {
    let message: T = serde_json::from_slice(bytes)?;
    match version(&message) {
        MESSAGE_VERSION => Ok(message),
        other => Err(MessageError::Version(other)),
    }
}

fn write(message: &impl Serialize) -> Vec<u8> {
    // Only a map with keys that are not strings, or a Serialize implementation that fails, cannot be written; no
    // message has one.
    serde_json::to_vec(message).expect("messages are plain data")
}

/// Why a hint was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A caller asked for it.
    Request,
    /// The previous step is done.
    Progress,
    /// The file was overdue.
    Sweep,
}

/// "Look at this file." The subject says which step may be due. Losing, repeating or delaying a hint does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    v: u8,
    /// The file to look at.
    pub file_id: FileId,
    /// Why it was published; for people.
    pub cause: Cause,
}

impl Hint {
    /// A hint to look at `file_id`.
    pub const fn new(file_id: FileId, cause: Cause) -> Self {
        Self { v: MESSAGE_VERSION, file_id, cause }
    }

    /// The hint as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }

    /// Reads a hint.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        read(bytes, |hint: &Self| hint.v)
    }
}

/// What happened to a file, for other systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    v: u8,
    /// `FILE:VERSION`, also the message's `Nats-Msg-Id`: an event that is published again keeps its id.
    pub id: String,
    /// What happened.
    pub event: EventKind,
    /// To which file.
    pub file_id: FileId,
    /// The version of the record that this change made. Grows from event to event of a file, with gaps.
    pub version: i64,
    /// When, by MongoDB's clock.
    pub at: Timestamp,
    /// The state of the file after it.
    pub state: State,
    /// The file's own name.
    pub name: String,
    /// Details: size and hash for `stored`, the error for `failed` and `mismatch`, the receipt for `delivered`. If they
    /// would make the event larger than [`Event::MAX_BYTES`], `omitted_bytes` says how large they are.
    #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
    pub detail: serde_json::Value,
    /// The user whose request made the file known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prepared_by: Option<String>,
    /// The user whose finalise request counted when this happened, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finalised_by: Option<String>,
}

impl Event {
    /// The most bytes of an event as JSON. NATS takes a chunk of the least chunk size and its headers wherever a
    /// service is ready, so it takes an event as well.
    pub const MAX_BYTES: usize = CHUNK_SIZE_MIN as usize;

    /// The event of the change that made `version` of the record of `file_id`. The details are left out if the event
    /// would be too large: an event that NATS does not take would hold up all later ones of its file.
    pub fn new(
        file_id: FileId,
        version: i64,
        event: EventKind,
        state: State,
        at: Timestamp,
        name: ObjectName,
        detail: serde_json::Value,
    ) -> Self {
        Self {
            v: MESSAGE_VERSION,
            id: format!("{file_id}:{version}"),
            event,
            file_id,
            version,
            at,
            state,
            name: name.into(),
            detail,
            prepared_by: None,
            finalised_by: None,
        }
        .bounded()
    }

    /// The same event with the users who asked for it.
    #[must_use]
    pub fn asked_by(self, prepared_by: String, finalised_by: Option<String>) -> Self {
        Self { prepared_by: Some(prepared_by), finalised_by, ..self }.bounded()
    }

    fn bounded(mut self) -> Self {
        if self.to_json().len() > Self::MAX_BYTES {
            let omitted = serde_json::to_vec(&self.detail).map_or(0, |detail| detail.len());
            self.detail = serde_json::json!({ "omitted_bytes": omitted });
        }
        self
    }

    /// The event as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }

    /// Reads an event.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        read(bytes, |event: &Self| event.v)
    }
}

/// A message that a worker could not read, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    v: u8,
    /// Who could not read it.
    pub worker: String,
    /// The subject it came on.
    pub subject: String,
    /// Why it could not be read.
    pub reason: String,
    /// Its payload, or the beginning of it and `…`; bytes that are not UTF-8 are replaced.
    pub payload: String,
}

impl DeadLetter {
    /// The most bytes of the payload and characters of the reason that are kept. A message of Waybill's own is smaller;
    /// quoted as JSON, these fit wherever an [event](Event::MAX_BYTES) fits.
    const KEPT_BYTES: usize = 8 * 1024;
    const REASON_CHARS: usize = 1000;

    /// The dead letter of a message that `role` could not read.
    pub fn new(role: Role, subject: &str, reason: &str, payload: &[u8]) -> Self {
        let (kept, rest) = payload.split_at_checked(Self::KEPT_BYTES).unwrap_or((payload, &[]));
        let mut payload = String::from_utf8_lossy(kept).into_owned();
        if !rest.is_empty() {
            payload.push('…');
        }
        Self {
            v: MESSAGE_VERSION,
            worker: role.as_str().to_owned(),
            subject: subject.to_owned(),
            reason: one_line(reason, Self::REASON_CHARS),
            payload,
        }
    }

    /// The dead letter as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }

    /// Reads a dead letter.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        read(bytes, |letter: &Self| letter.v)
    }
}

/// The headers of a chunk request. The payload is the chunk, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The file.
    pub file_id: FileId,
    /// Which reading of its source.
    pub generation: Generation,
    /// The claim of the chunker that sends it.
    pub epoch: Epoch,
    /// The chunk's position.
    pub number: ChunkNumber,
    /// SHA-256 of the payload.
    pub sha256: Digest,
    /// How many milliseconds the sender will wait, counted from when it sent the chunk. A budget, not a clock time:
    /// clocks differ.
    pub budget_ms: u64,
}

/// Headers that do not make a chunk request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChunkHeaderError {
    /// A header is missing.
    #[error("expected the header {0}, found none")]
    Missing(&'static str),
    /// A header has an invalid value.
    #[error("expected the header {name} to be valid, found {found:?}")]
    Value {
        /// Its name.
        name: &'static str,
        /// The first characters of what it holds.
        found: String,
    },
}

impl ChunkHeader {
    const VERSION: &'static str = "Waybill-Version";
    const FILE: &'static str = "Waybill-File";
    const GENERATION: &'static str = "Waybill-Generation";
    const EPOCH: &'static str = "Waybill-Epoch";
    const NUMBER: &'static str = "Waybill-Chunk";
    const SHA256: &'static str = "Waybill-Sha256";
    const BUDGET: &'static str = "Waybill-Budget-Ms";

    /// Names and values to send.
    pub fn to_pairs(&self) -> [(&'static str, String); 7] {
        [
            (Self::VERSION, MESSAGE_VERSION.to_string()),
            (Self::FILE, self.file_id.to_string()),
            (Self::GENERATION, self.generation.to_string()),
            (Self::EPOCH, self.epoch.to_string()),
            (Self::NUMBER, self.number.to_string()),
            (Self::SHA256, self.sha256.to_string()),
            (Self::BUDGET, self.budget_ms.to_string()),
        ]
    }

    /// Reads the headers; `get` looks up the value of one.
    pub fn from_lookup<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> Result<Self, ChunkHeaderError> {
        fn value<'a, T: FromStr>(
            get: &impl Fn(&'static str) -> Option<&'a str>,
            name: &'static str,
        ) -> Result<T, ChunkHeaderError> {
            let text = get(name).ok_or(ChunkHeaderError::Missing(name))?;
            text.parse().map_err(|_| ChunkHeaderError::Value { name, found: text.chars().take(80).collect() })
        }
        let version: u8 = value(&get, Self::VERSION)?;
        if version != MESSAGE_VERSION {
            return Err(ChunkHeaderError::Value { name: Self::VERSION, found: version.to_string() });
        }
        Ok(Self {
            file_id: value(&get, Self::FILE)?,
            generation: value(&get, Self::GENERATION)?,
            epoch: value(&get, Self::EPOCH)?,
            number: value(&get, Self::NUMBER)?,
            sha256: value(&get, Self::SHA256)?,
            budget_ms: value(&get, Self::BUDGET)?,
        })
    }
}

/// The store's answer to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkAnswer {
    /// A majority has journaled it.
    Ok,
    /// The same chunk was stored already.
    Duplicate,
    /// No room now: wait and send it again.
    Busy,
    /// It does not match its headers or the record: send it again.
    Corrupt,
    /// Another chunk is stored under this number: the source changed.
    Conflict,
    /// No such file.
    UnknownFile,
    /// The file is not being chunked, or not by this claim or in this generation: stop and read the record again.
    Stale,
}

/// The reply to a chunk request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkReply {
    v: u8,
    /// What became of the chunk.
    pub answer: ChunkAnswer,
    /// What was expected and what was found, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

impl ChunkReply {
    /// A reply without a reason.
    pub const fn new(answer: ChunkAnswer) -> Self {
        Self { v: MESSAGE_VERSION, answer, detail: None }
    }

    /// A reply that says why.
    pub fn because(answer: ChunkAnswer, detail: impl Into<String>) -> Self {
        Self { v: MESSAGE_VERSION, answer, detail: Some(detail.into()) }
    }

    /// The reply as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        write(self)
    }

    /// Reads a reply.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        read(bytes, |reply: &Self| reply.v)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, detail: serde_json::Value) -> Event {
        let (id, at) = (FileId::from_bytes([255; 16]), Timestamp::from_millis(0));
        let name = ObjectName::new(name).unwrap();
        Event::new(id, i64::MIN, EventKind::Delivering, State::Delivering, at, name, detail)
    }

    #[test]
    fn details_that_are_too_large_are_left_out_and_the_event_says_so() {
        let name = "\u{1}".repeat(ObjectName::MAX_BYTES);
        let empty = event(&name, serde_json::json!({ "text": "" })).to_json().len();
        for (length, fits) in [(0, true), (1, true), (2, false), (4_000_000, false)] {
            let text = "x".repeat((Event::MAX_BYTES - empty - 1) * usize::from(length > 0) + length);
            let event = event(&name, serde_json::json!({ "text": text }));
            assert!(event.to_json().len() <= Event::MAX_BYTES);
            assert_eq!(event.detail.get("text").is_some(), fits, "{length}");
            assert_eq!(event.detail["omitted_bytes"].as_u64(), (!fits).then_some(text.len() as u64 + 11), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_unreadable_message_makes_a_dead_letter_that_fits(payload: Vec<u8>, reason: String, times in 1_usize..9_000) {
            let letter = DeadLetter::new(Role::Chunker, "waybill.prepare.x", &reason.repeat(times), &payload.repeat(times));
            prop_assert!(letter.to_json().len() <= Event::MAX_BYTES);
        }
    }
}
