//! Sends chunks to the store, a window of them at once.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use contract::{ChunkAnswer, ChunkHeader, ChunkReply, Epoch, FileId, Generation};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runtime::hold::Fence;
use runtime::retry;
use tokio::sync::mpsc;

use crate::Chunker;
use crate::pass::PassError;
use crate::reader::Piece;
use crate::window::Window;

/// How long no store may take any chunk of a file before the file is handed back.
const SILENCE: Duration = Duration::from_secs(60);

/// `corrupt` answers to one chunk in a row before the connection is made anew.
const CORRUPT_IN_A_ROW: u32 = 3;

/// Whose chunks are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addressee {
    pub(crate) file: FileId,
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
}

/// Sends the chunks of one pass.
pub(crate) struct Sender<'a> {
    chunker: &'a Chunker,
    addressee: Addressee,
    fence: Fence,
    window: Window,
    last_taken: Instant,
}

/// A chunk under way.
struct Sending {
    piece: Piece,
    corrupt: u32,
    tries: u32,
}

/// What became of one request.
enum Answer {
    Taken,
    Busy,
    Silent,
    Corrupt(Option<String>),
    Conflict(Option<String>),
    Stale(Option<String>),
}

impl<'a> Sender<'a> {
    pub(crate) fn new(chunker: &'a Chunker, addressee: Addressee, fence: Fence, chunk_size: u32) -> Self {
        let window = Window::new(chunker.service.settings.chunker.window, chunk_size);
        Self { chunker, addressee, fence, window, last_taken: Instant::now() }
    }

    /// Sends all pieces that come through the channel. Every one of them is stored when this returns.
    pub(crate) async fn send_all(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), PassError> {
        let mut under_way = FuturesUnordered::new();
        let mut more = true;
        let (chunker, addressee) = (self.chunker, self.addressee);
        loop {
            tokio::select! {
                biased;
                Some((sending, answer)) = under_way.next(), if !under_way.is_empty() => {
                    if let Some((again, pause)) = self.judge(sending, answer).await? {
                        self.fence.check()?;
                        under_way.push(request(chunker, addressee, again, pause));
                    }
                }
                piece = pieces.recv(), if more && under_way.len() < self.window.size() => match piece {
                    Some(piece) => {
                        self.fence.check()?;
                        fail::fail_point!("chunker-before-chunk", |_| std::process::abort());
                        let sending = Sending { piece, corrupt: 0, tries: 0 };
                        under_way.push(request(chunker, addressee, sending, Duration::ZERO));
                    }
                    None => more = false,
                },
                else => return Ok(()),
            }
        }
    }

    /// Decides what an answer means: done (`None`), or again after a pause.
    async fn judge(&mut self, mut sending: Sending, answer: Answer) -> Result<Option<(Sending, Duration)>, PassError> {
        sending.tries += 1;
        match answer {
            Answer::Taken => {
                fail::fail_point!("chunker-after-chunk", |_| std::process::abort());
                self.window.grow();
                self.last_taken = Instant::now();
                let len = sending.piece.data.len() as u64;
                self.fence.note_progress(|progress| {
                    progress.chunks_stored += 1;
                    progress.bytes_stored += len;
                });
                self.chunker.memory.put_back(sending.piece.data);
                return Ok(None);
            }
            Answer::Busy => {
                self.window.shrink();
                // Somebody is there: slowness is no silence.
                self.last_taken = Instant::now();
            }
            Answer::Silent => {
                self.window.shrink();
                if self.last_taken.elapsed() > SILENCE {
                    return Err(PassError::Outage(format!("no store took a chunk for {SILENCE:?}")));
                }
            }
            Answer::Corrupt(detail) => {
                sending.corrupt += 1;
                tracing::warn!(file = %self.addressee.file, chunk = %sending.piece.number, "corrupt: {}", said(detail));
                if sending.corrupt.is_multiple_of(CORRUPT_IN_A_ROW) {
                    self.reconnect(sending.corrupt).await?;
                }
            }
            Answer::Conflict(detail) => return Err(PassError::Changed(said(detail))),
            Answer::Stale(detail) => return Err(PassError::Stale(said(detail))),
        }
        let pause = Duration::from_millis(10 << sending.tries.min(6)).mul_f64(retry::jitter());
        Ok(Some((sending, pause)))
    }

    /// The bytes are damaged on their way: another connection may take another way.
    async fn reconnect(&self, corrupt: u32) -> Result<(), PassError> {
        if corrupt > CORRUPT_IN_A_ROW {
            return Err(PassError::Outage(format!("a chunk reached the store damaged {corrupt} times in a row")));
        }
        let reconnected = self.chunker.data.client().force_reconnect().await;
        reconnected.map_err(|e| PassError::Outage(format!("the connection for chunks cannot be made anew: {e}")))
    }
}

fn said(detail: Option<String>) -> String {
    detail.unwrap_or_else(|| "the store gave no reason".into())
}

/// Sends one chunk, after a pause, and waits for its answer.
async fn request(chunker: &Chunker, addressee: Addressee, sending: Sending, pause: Duration) -> (Sending, Answer) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let timeout = Duration::from_millis(chunker.service.settings.chunker.chunk_timeout_ms);
    let header = ChunkHeader {
        file_id: addressee.file,
        generation: addressee.generation,
        epoch: addressee.epoch,
        number: sending.piece.number,
        sha256: sending.piece.sha256,
        budget_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let answer = ask(chunker, &header, sending.piece.data.clone(), timeout).await;
    (sending, answer)
}

async fn ask(chunker: &Chunker, header: &ChunkHeader, data: Bytes, timeout: Duration) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in header.to_pairs() {
        headers.insert(name, value.as_str());
    }
    let request = Request::new().headers(headers).payload(data).timeout(Some(timeout));
    let mut connects = chunker.data.connects();
    connects.mark_unchanged();
    let sent = chunker.data.client().send_request(chunker.service.names.chunk_put(), request);
    let replied = tokio::select! {
        // Around all of it: while NATS is away, already handing the request over waits.
        replied = tokio::time::timeout(timeout, sent) => replied,
        // An answer that was under way on the connection before does not come any more.
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
        Ok(ChunkReply { answer, detail, .. }) => match answer {
            ChunkAnswer::Ok | ChunkAnswer::Duplicate => Answer::Taken,
            ChunkAnswer::Busy => Answer::Busy,
            ChunkAnswer::Corrupt => Answer::Corrupt(detail),
            ChunkAnswer::Conflict => Answer::Conflict(detail),
            ChunkAnswer::UnknownFile | ChunkAnswer::Stale => Answer::Stale(detail),
        },
        Err(error) => Answer::Corrupt(Some(format!("the store's answer cannot be read: {error}"))),
    }
}
