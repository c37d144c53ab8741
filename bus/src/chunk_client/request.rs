use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use contract::{ChunkAnswer, ChunkHeader, ChunkReply};

use super::{Chunk, PassId};
use crate::Nats;

/// The store's answer to one request, or its silence.
pub(super) enum Answer {
    /// The chunk is stored, by this request or an earlier one.
    Stored,
    /// The store has no room now.
    Busy,
    /// No answer came.
    Silent,
    /// The chunk or the answer was damaged in transit.
    Corrupt(String),
    /// Other bytes are stored under the number.
    Conflict(String),
    /// The store takes no chunks of this pass.
    Stale(String),
}

/// Sends one chunk and waits for the answer, for at most `timeout`.
pub(super) async fn ask(nats: &Nats, pass: PassId, chunk: &Chunk, timeout: Duration) -> Answer {
    let header = ChunkHeader {
        file_id: pass.file,
        generation: pass.generation,
        epoch: pass.epoch,
        number: chunk.number,
        sha256: chunk.sha256,
        budget_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in header.to_pairs() {
        headers.insert(name, value.as_str());
    }
    let request = Request::new().headers(headers).payload(chunk.data.clone()).timeout(Some(timeout));
    let mut connects = nats.connects();
    connects.mark_unchanged();
    let sent = nats.client().send_request(nats.names().chunk_put(), request);
    let replied = tokio::select! {
        // The timeout covers all of it: while NATS is away, even handing over the request waits.
        replied = tokio::time::timeout(timeout, sent) => replied,
        // An answer that was in flight on the previous connection never arrives.
        _ = connects.changed() => return Answer::Silent,
    };
    let replied = match replied {
        Ok(Ok(message)) => ChunkReply::from_json(&message.payload),
        Ok(Err(error)) => {
            if error.kind() != RequestErrorKind::NoResponders {
                tracing::debug!(chunk = %header.number, "a chunk request failed: {error}");
            }
            return Answer::Silent;
        }
        Err(_) => return Answer::Silent,
    };
    match replied {
        Ok(ChunkReply { answer, detail, .. }) => {
            let why = detail.unwrap_or_else(|| "the store gave no reason".into());
            match answer {
                ChunkAnswer::Ok | ChunkAnswer::Duplicate => Answer::Stored,
                ChunkAnswer::Busy => Answer::Busy,
                ChunkAnswer::Corrupt => Answer::Corrupt(why),
                ChunkAnswer::Conflict => Answer::Conflict(why),
                ChunkAnswer::UnknownFile | ChunkAnswer::Stale => Answer::Stale(why),
            }
        }
        Err(error) => Answer::Corrupt(format!("the store's answer cannot be read: {error}")),
    }
}
