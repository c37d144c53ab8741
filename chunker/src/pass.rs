//! One reading of a source: read, compare with what is stored, send what is missing, prove.

use std::collections::VecDeque;
use std::sync::Arc;

use bus::chunk_client::{Chunk, PassId, SendError};
use contract::{ChunkNumber, Split};
use ledger::{ChunkProof, FileRecord, Layout, LedgerError};
use runtime::work::{Fence, LeaseLost};
use sources::{Fingerprint, SourceError, SourcePath};
use tokio::sync::mpsc;

use crate::reader::{self, ReadError, Reading};
use crate::{Chunker, check};

/// Chunks read ahead of the window.
const READ_AHEAD: usize = 2;

/// Proofs of stored chunks in one look-up.
pub(crate) const PROOFS: u32 = 1024;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// The source changed.
    #[error("the source changed: {what}")]
    Changed {
        /// What differs.
        what: String,
        /// Whether some of it was read before that was noticed.
        was_read: bool,
    },
    /// The source cannot be read now.
    #[error("the source cannot be read: {0}")]
    Unreadable(String),
    /// It is missing or may not be read, whoever tries.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The record names another holder, generation or state: our claim is over.
    #[error("the store refused: {0}")]
    Stale(String),
    /// It has more bytes than a file may have.
    #[error("{0}")]
    TooLarge(String),
    /// NATS or the store was out of reach. Such an attempt does not count.
    #[error("{0}")]
    Outage(String),
    /// MongoDB failed, or has a document that it should not have.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The lease was lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// A caller asks to cancel the file.
    #[error("the file is to be cancelled")]
    Cancelled,
}

impl PassError {
    /// The source was found changed after some of it was read.
    pub(crate) const fn changed(what: String) -> Self {
        Self::Changed { what, was_read: true }
    }
}

impl From<ReadError> for PassError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Changed(what) => Self::changed(what),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// Opens the source of a file and takes its fingerprint.
pub(crate) async fn open(chunker: &Arc<Chunker>, file: &FileRecord) -> Result<(std::fs::File, Fingerprint), PassError> {
    let path = SourcePath { root: file.source.root.clone(), path: file.source.path.clone() };
    let chunker = chunker.clone();
    let opened = tokio::task::spawn_blocking(move || chunker.roots.open_file(&path)).await;
    Ok(opened.map_err(|e| PassError::Outage(e.to_string()))??)
}

/// Refuses a source that is too large. The gateway has looked at its size too, but it may have grown since.
pub(crate) fn check_size(chunker: &Chunker, size: u64) -> Result<(), PassError> {
    let files = &chunker.service.settings.files;
    if size > files.max_size {
        let most = files.max_size;
        return Err(PassError::TooLarge(format!("expected at most {most} bytes (files.max_size), found {size}")));
    }
    match Split::new(size, files.chunk_size) {
        Some(_) => Ok(()),
        None => Err(PassError::TooLarge(format!("found {size} bytes, which are more chunks than can be counted"))),
    }
}

/// Reads the source once and has every chunk stored. MongoDB then has every chunk with the hash of this reading.
///
/// `resuming`: chunks of this generation may be stored already.
pub(crate) async fn run(
    chunker: &Arc<Chunker>,
    file: &FileRecord,
    fence: &Fence,
    resuming: bool,
) -> Result<Reading, PassError> {
    let (source, opened) = open(chunker, file).await?;
    if let Some(what) = differs(file, opened) {
        return Err(PassError::Changed { what, was_read: false });
    }
    check_size(chunker, file.source.size)?;
    let (Some(split), Some(layout)) = (file.split(), file.layout) else {
        return Err(PassError::Stale("the record has no chunk size or layout".into()));
    };
    if layout == Layout::Embedded && split.count() > 1 {
        chunker.service.ledger.open_content(file.id, file.generation).await?;
    }
    fence.note_progress(|progress| *progress = ledger::Progress::default());

    let (chunks, read) = mpsc::channel(READ_AHEAD);
    let shared = chunker.clone();
    let reading = tokio::task::spawn_blocking(move || reader::read(&source, opened, split, &chunks, &shared.memory));
    let sent = if resuming {
        let (to_send, missing) = mpsc::channel(1);
        let mut stored = StoredProofs { chunker, file, layout, split, known: VecDeque::new(), end: 0 };
        let sending = send(chunker, file, layout, split, missing, fence);
        let (compared, sent) = tokio::join!(stored.pass_on_missing(read, to_send, fence), sending);
        sent.and(compared)
    } else {
        send(chunker, file, layout, split, read, fence).await
    };
    // The reader ends by itself when the sender takes no more chunks; in that case the sender returns the reason.
    let whole = reading.await.map_err(|e| PassError::Outage(format!("the reader broke down: {e}")))?;
    sent?;
    let whole = whole?;
    check::all_are_stored(&chunker.service.ledger, file, layout, split, whole.chunks).await?;
    Ok(whole)
}

/// Sends chunks of this claim while its lease holds. Each counts as progress once it is stored.
async fn send(
    chunker: &Chunker,
    file: &FileRecord,
    layout: Layout,
    split: Split,
    chunks: mpsc::Receiver<Chunk>,
    fence: &Fence,
) -> Result<(), PassError> {
    let pass = PassId { file: file.id, generation: file.generation, epoch: file.epoch };
    let may_send = || {
        let holds = fence.check().is_ok();
        fail::fail_point!("chunker-before-chunk", |_| std::process::abort());
        holds
    };
    let stored = |chunk| {
        fail::fail_point!("chunker-after-chunk", |_| std::process::abort());
        count_stored(chunker, chunk, fence);
    };
    match chunker.client.send_all(pass, split.chunk_size(), chunks, may_send, stored).await {
        Ok(()) => Ok(()),
        Err(SendError::Conflict { number, sha256, .. }) => {
            Err(check::conflict(&chunker.service.ledger, file, layout, number, sha256).await)
        }
        Err(SendError::Stale(why)) => Err(PassError::Stale(why)),
        Err(SendError::Outage(why)) => Err(PassError::Outage(why)),
        Err(SendError::Fenced) => Err(PassError::Lost(LeaseLost)),
    }
}

/// Counts a chunk as stored and returns its buffer.
fn count_stored(chunker: &Chunker, chunk: Chunk, fence: &Fence) {
    fence.note_progress(|progress| {
        progress.chunks_stored += 1;
        progress.bytes_stored += chunk.data.len() as u64;
    });
    chunker.memory.put_back(chunk.data);
}

/// Compares a source with the record. Inodes and change times differ between hosts, so they do not count.
pub(crate) fn differs(file: &FileRecord, found: Fingerprint) -> Option<String> {
    let recorded = Fingerprint { size: file.source.size, mtime_ns: file.source.mtime_ns, ..found };
    reader::differences(recorded, found)
}

/// Which chunks of a generation are stored, looked up in batches as the reading goes on.
struct StoredProofs<'a> {
    chunker: &'a Chunker,
    file: &'a FileRecord,
    layout: Layout,
    split: Split,
    known: VecDeque<ChunkProof>,
    /// The first number that has not been looked up yet.
    end: u32,
}

impl StoredProofs<'_> {
    /// Passes on the chunks that are not stored yet, and counts those that are.
    async fn pass_on_missing(
        &mut self,
        mut read: mpsc::Receiver<Chunk>,
        missing: mpsc::Sender<Chunk>,
        fence: &Fence,
    ) -> Result<(), PassError> {
        while let Some(chunk) = read.recv().await {
            if self.has(&chunk).await? {
                count_stored(self.chunker, chunk, fence);
            } else if missing.send(chunk).await.is_err() {
                // The sender has stopped and returns the reason itself.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether this chunk is stored already. An error if a different one is stored under its number.
    async fn has(&mut self, chunk: &Chunk) -> Result<bool, PassError> {
        if chunk.number.0 >= self.end {
            let ledger = &self.chunker.service.ledger;
            let from = ChunkNumber(self.end);
            let found = ledger.read_proofs(self.file.id, self.file.generation, self.layout, from, PROOFS).await?;
            self.known = found.into();
            self.end = self.end.saturating_add(PROOFS);
        }
        while self.known.front().is_some_and(|proof| proof.number < chunk.number) {
            self.known.pop_front();
        }
        let Some(proof) = self.known.front().filter(|proof| proof.number == chunk.number) else { return Ok(false) };
        if proof.sha256 == chunk.sha256 && Some(proof.len) == self.split.len(chunk.number) {
            return Ok(true);
        }
        let what =
            format!("chunk {} was stored with SHA-256 {}, and now has {}", chunk.number, proof.sha256, chunk.sha256);
        Err(PassError::changed(what))
    }
}
