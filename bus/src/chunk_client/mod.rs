//! Sends chunks to the store: a window of requests at once, smaller while the store is busy, repeated until each is
//! stored.

mod request;
mod window;

use std::time::{Duration, Instant};

use bytes::Bytes;
use contract::{ChunkNumber, Digest, Epoch, FileId, Generation};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::request::{Answer, ask};
use self::window::Window;
use crate::Nats;

/// How long sending goes on while no store takes any chunk of the file.
const SILENCE: Duration = Duration::from_secs(60);

/// How many `corrupt` answers in a row one chunk may get before the connection is replaced.
const CORRUPT_IN_A_ROW: u32 = 3;

/// Sends chunks over a connection of their own, because an acknowledgement must not queue behind payloads.
#[derive(Debug)]
pub struct ChunkClient {
    nats: Nats,
    /// The most chunks of one file in flight.
    window: usize,
    /// How long one request waits for its answer.
    timeout: Duration,
}

/// The pass that sends chunks: the store takes them only while the record names the same generation and epoch.
#[derive(Debug, Clone, Copy)]
pub struct PassId {
    /// The file.
    pub file: FileId,
    /// The generation that the chunks are of.
    pub generation: Generation,
    /// The epoch of the sender's claim.
    pub epoch: Epoch,
}

/// A chunk to be sent.
#[derive(Debug)]
pub struct Chunk {
    /// Its number in the file.
    pub number: ChunkNumber,
    /// SHA-256 of `data`.
    pub sha256: Digest,
    /// Its bytes.
    pub data: Bytes,
    /// The permit to hold these bytes in memory.
    pub memory: OwnedSemaphorePermit,
}

/// Why not all chunks were sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A store says that other bytes are stored under the number of a chunk. Only MongoDB can prove that.
    #[error("{why}")]
    Conflict {
        /// The number.
        number: ChunkNumber,
        /// SHA-256 of the chunk that was sent.
        sha256: Digest,
        /// What the store said.
        why: String,
    },
    /// The record names another generation or epoch, or is in no state that takes chunks.
    #[error("the store refused: {0}")]
    Stale(String),
    /// NATS or every store was out of reach.
    #[error("{0}")]
    Outage(String),
    /// The sender's own fence stopped it.
    #[error("the sender may not go on")]
    Fenced,
}

/// A chunk in flight, with what went wrong so far.
struct Sending {
    chunk: Chunk,
    corrupt: u32,
    tries: u32,
}

/// One run of [`ChunkClient::send_all`].
struct Run<'a> {
    client: &'a ChunkClient,
    pass: PassId,
    window: Window,
    /// When a store last took a chunk or said that it was busy.
    last_sign: Instant,
}

impl ChunkClient {
    /// A client that keeps up to `window` chunks of each file in flight and waits up to `timeout` for each answer.
    pub const fn new(nats: Nats, window: usize, timeout: Duration) -> Self {
        Self { nats, window, timeout }
    }

    /// Sends all chunks that come through the channel. A store has said of every one of them that it is stored when
    /// this returns `Ok`.
    ///
    /// It calls `may_send` before every request, and gives each chunk to `stored` once it is stored. `chunk_size` is
    /// the most bytes of a chunk of the pass.
    pub async fn send_all(
        &self,
        pass: PassId,
        chunk_size: u32,
        mut chunks: mpsc::Receiver<Chunk>,
        may_send: impl Fn() -> bool,
        mut stored: impl FnMut(Chunk),
    ) -> Result<(), SendError> {
        let window = Window::new(self.window, chunk_size);
        let mut run = Run { client: self, pass, window, last_sign: Instant::now() };
        let mut under_way = FuturesUnordered::new();
        let mut more = true;
        loop {
            let (sending, pause) = tokio::select! {
                biased;
                Some((sending, answer)) = under_way.next(), if !under_way.is_empty() => {
                    match run.judge(sending, answer).await? {
                        Judged::Stored(chunk) => {
                            stored(chunk);
                            continue;
                        }
                        Judged::Again(sending, pause) => (sending, pause),
                    }
                }
                chunk = chunks.recv(), if more && under_way.len() < run.window.size() => match chunk {
                    Some(chunk) => (Sending { chunk, corrupt: 0, tries: 0 }, Duration::ZERO),
                    None => {
                        more = false;
                        continue;
                    }
                },
                else => return Ok(()),
            };
            if !may_send() {
                return Err(SendError::Fenced);
            }
            under_way.push(self.send(pass, sending, pause));
        }
    }

    /// Sends one chunk, after a pause, and waits for its answer.
    async fn send(&self, pass: PassId, sending: Sending, pause: Duration) -> (Sending, Answer) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let answer = ask(&self.nats, pass, &sending.chunk, self.timeout).await;
        (sending, answer)
    }
}

/// What an answer means for its chunk.
enum Judged {
    Stored(Chunk),
    Again(Sending, Duration),
}

impl Run<'_> {
    async fn judge(&mut self, mut sending: Sending, answer: Answer) -> Result<Judged, SendError> {
        sending.tries += 1;
        match answer {
            Answer::Stored => {
                self.window.grow();
                self.last_sign = Instant::now();
                return Ok(Judged::Stored(sending.chunk));
            }
            Answer::Busy => {
                self.window.shrink();
                // A store that answers is slow, not silent.
                self.last_sign = Instant::now();
            }
            Answer::Silent => {
                self.window.shrink();
                if self.last_sign.elapsed() > SILENCE {
                    return Err(SendError::Outage(format!("no store took a chunk for {SILENCE:?}")));
                }
            }
            Answer::Corrupt(why) => {
                sending.corrupt += 1;
                tracing::warn!(file = %self.pass.file, chunk = %sending.chunk.number, "corrupt: {why}");
                if sending.corrupt.is_multiple_of(CORRUPT_IN_A_ROW) {
                    self.reconnect(sending.corrupt).await?;
                }
            }
            Answer::Conflict(why) => {
                let Chunk { number, sha256, .. } = sending.chunk;
                return Err(SendError::Conflict { number, sha256, why });
            }
            Answer::Stale(why) => return Err(SendError::Stale(why)),
        }
        let pause = Duration::from_millis(10 << sending.tries.min(6)).mul_f64(rand::random());
        Ok(Judged::Again(sending, pause))
    }

    /// Reconnects because bytes are damaged in transit: another connection may take another route.
    async fn reconnect(&self, corrupt: u32) -> Result<(), SendError> {
        if corrupt > CORRUPT_IN_A_ROW {
            return Err(SendError::Outage(format!("a chunk reached the store damaged {corrupt} times in a row")));
        }
        let reconnected = self.client.nats.client().force_reconnect().await;
        reconnected.map_err(|e| SendError::Outage(format!("the connection for chunks cannot be replaced: {e}")))
    }
}
