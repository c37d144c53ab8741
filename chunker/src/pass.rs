//! One reading of a source: read, compare with what is stored, send what is missing, prove.

use std::collections::VecDeque;
use std::sync::Arc;

use contract::{ChunkNumber, Digest, Split};
use ledger::{ChunkProof, FileRecord, Layout, LedgerError};
use runtime::hold::{Fence, LeaseLost};
use runtime::source::{Fingerprint, Place, SourceError};
use tokio::sync::mpsc;

use crate::Chunker;
use crate::reader::{self, Piece, ReadError};
use crate::sender::{Addressee, Sender};

/// Chunks that are read ahead of the window.
const READ_AHEAD: usize = 2;

/// Proofs of stored chunks that are looked up at once.
const PROOFS: u32 = 1024;

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// The source is not what it was; the text says what differs.
    #[error("the source changed: {0}")]
    Changed(String),
    /// The source cannot be read now.
    #[error("the source cannot be read: {0}")]
    Unreadable(String),
    /// It is not there or not to be read, whoever tries.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The record says otherwise than we think: our claim is over.
    #[error("the store refused: {0}")]
    Stale(String),
    /// NATS, the store or MongoDB could not be reached. Nobody's fault, so no attempt.
    #[error("{0}")]
    Outage(String),
    /// The lease was lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// Somebody wants the file cancelled.
    #[error("the file is to be cancelled")]
    Cancelled,
}

impl From<LedgerError> for PassError {
    fn from(error: LedgerError) -> Self {
        Self::Outage(error.to_string())
    }
}

impl From<ReadError> for PassError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Changed(what) => Self::Changed(what),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// Opens the source of a file and looks at it.
pub(crate) async fn open(chunker: &Arc<Chunker>, file: &FileRecord) -> Result<(std::fs::File, Fingerprint), PassError> {
    let place = Place { root: file.source.root.clone(), path: file.source.path.clone() };
    let chunker = chunker.clone();
    let opened = tokio::task::spawn_blocking(move || chunker.roots.open_file(&place)).await;
    Ok(opened.map_err(|e| PassError::Outage(e.to_string()))??)
}

/// Reads the source once and has every chunk stored. What it returns is the SHA-256 of the whole, and of all chunks it is
/// known that MongoDB has them with the hashes of this reading.
///
/// `resuming`: chunks of this generation may be stored already.
pub(crate) async fn run(
    chunker: &Arc<Chunker>,
    file: &FileRecord,
    fence: &Fence,
    resuming: bool,
) -> Result<Digest, PassError> {
    let (source, opened) = open(chunker, file).await?;
    if let Some(what) = differs(file, opened) {
        return Err(PassError::Changed(what));
    }
    let (Some(split), Some(layout)) = (file.split(), file.layout) else {
        return Err(PassError::Stale("the record has no chunk size or layout".into()));
    };
    if layout == Layout::Embedded && split.count() > 1 {
        chunker.service.ledger.open_content(file.id, file.generation).await?;
    }
    fence.note_progress(|progress| *progress = ledger::Progress::default());

    let (pieces, read) = mpsc::channel(READ_AHEAD);
    let shared = chunker.clone();
    let reading = tokio::task::spawn_blocking(move || reader::read(&source, opened, split, &pieces, &shared.memory));

    let addressee = Addressee { file: file.id, generation: file.generation, epoch: file.epoch };
    let mut sender = Sender::new(chunker, addressee, fence.clone(), split.chunk_size());
    let sent = if resuming {
        let (to_send, missing) = mpsc::channel(1);
        let mut stored = StoredProofs { chunker, file, layout, split, known: VecDeque::new(), end: 0 };
        let (compared, sent) = tokio::join!(stored.pass_on_missing(read, to_send, fence), sender.send_all(missing));
        sent.and(compared)
    } else {
        sender.send_all(read).await
    };
    // The reader ends by itself when nobody takes its pieces; then the sender knows why.
    let whole = reading.await.map_err(|e| PassError::Outage(format!("the reader broke down: {e}")))?;
    sent?;
    Ok(whole?)
}

/// Compares a source with what the record says of it. Inodes and change times differ between hosts, so they do not count.
pub(crate) fn differs(file: &FileRecord, found: Fingerprint) -> Option<String> {
    let recorded = Fingerprint { size: file.source.size, mtime_ns: file.source.mtime_ns, ..found };
    reader::differences(recorded, found)
}

/// Which chunks of a generation are stored, looked up piece by piece as the reading goes on.
struct StoredProofs<'a> {
    chunker: &'a Chunker,
    file: &'a FileRecord,
    layout: Layout,
    split: Split,
    known: VecDeque<ChunkProof>,
    /// The first number that was not looked up yet.
    end: u32,
}

impl StoredProofs<'_> {
    /// Passes on the pieces that are not stored yet, and counts those that are.
    async fn pass_on_missing(
        &mut self,
        mut read: mpsc::Receiver<Piece>,
        missing: mpsc::Sender<Piece>,
        fence: &Fence,
    ) -> Result<(), PassError> {
        while let Some(piece) = read.recv().await {
            if self.has(&piece).await? {
                fence.note_progress(|progress| {
                    progress.chunks_stored += 1;
                    progress.bytes_stored += piece.data.len() as u64;
                });
                self.chunker.memory.put_back(piece.data);
            } else if missing.send(piece).await.is_err() {
                // The sender has stopped, and says why itself.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether this chunk is stored already; an error if another is.
    async fn has(&mut self, piece: &Piece) -> Result<bool, PassError> {
        if piece.number.0 >= self.end {
            let ledger = &self.chunker.service.ledger;
            let from = ChunkNumber(self.end);
            let found = ledger.read_proofs(self.file.id, self.file.generation, self.layout, from, PROOFS).await?;
            self.known = found.into();
            self.end = self.end.saturating_add(PROOFS);
        }
        while self.known.front().is_some_and(|proof| proof.number < piece.number) {
            self.known.pop_front();
        }
        let Some(proof) = self.known.front().filter(|proof| proof.number == piece.number) else { return Ok(false) };
        if proof.sha256 == piece.sha256 && Some(proof.len) == self.split.len(piece.number) {
            return Ok(true);
        }
        Err(PassError::Changed(format!(
            "chunk {} was stored with SHA-256 {}, and now has {}",
            piece.number, proof.sha256, piece.sha256
        )))
    }
}
