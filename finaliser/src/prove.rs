//! Reads the chunks of a stored file in order, hashes the whole, and releases the last range only when the hash is
//! right.

use std::sync::Arc;

use crate::sabotage;
use bytes::Bytes;
use contract::{ChunkNumber, Digest, FileId, Generation, Hasher, Proven};
use futures_util::{StreamExt, stream};
use ledger::{FileRecord, Layout, Ledger, LedgerError, StoredChunk};
use runtime::work::{Fence, LeaseLost};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most bytes of a file that are read ahead of the remote, whatever `finaliser.prefetch` says.
const AHEAD_BYTES: u32 = 16 * 1024 * 1024;

/// Ranges read from MongoDB at the same time.
const READS: usize = 2;

/// Ranges of a file in memory: those that are being read from MongoDB, one that is hashed, one on its way to the
/// remote.
const RANGES: u32 = 4;

/// So many large files may be read ahead by twice `finaliser.prefetch` at once. Longer ranges make a file faster that
/// has the finaliser to itself. With many files they would take too much memory and make none faster.
pub(crate) const WIDE: usize = 2;

/// Why a file was not proved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// The content in MongoDB is not what was stored. The text says what differs.
    #[error("{0}")]
    Wrong(String),
    /// MongoDB did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The lease was lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// A caller asks to cancel the file, and its last range was not released.
    #[error("the file is to be cancelled")]
    Cancelled,
    /// A task of this process panicked.
    #[error("hashing broke down: {0}")]
    Hashing(#[from] tokio::task::JoinError),
}

/// The content of a stored file.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    ledger: Ledger,
    file: FileId,
    generation: Generation,
    layout: Layout,
    proven: Proven,
    /// Chunks of one range.
    range: u32,
    /// Held while the ranges are twice as long.
    _wide: Option<Arc<OwnedSemaphorePermit>>,
}

impl Content {
    /// The content of a record; `None` if it is not stored. `wide` has [`WIDE`] permits.
    pub(crate) fn of(ledger: &Ledger, record: &FileRecord, prefetch: u32, wide: &Arc<Semaphore>) -> Option<Self> {
        let proven = record.proven()?;
        let most = AHEAD_BYTES / proven.split.chunk_size().max(1);
        let range = |prefetch: u32| (prefetch.min(most) / RANGES).max(1);
        let is_small = proven.split.count() <= range(prefetch) * RANGES;
        let wide = if is_small { None } else { wide.clone().try_acquire_owned().ok() };
        Some(Self {
            ledger: ledger.clone(),
            file: record.id,
            generation: record.generation,
            layout: record.layout?,
            proven,
            range: range(if wide.is_some() { prefetch * 2 } else { prefetch }),
            _wide: wide.map(Arc::new),
        })
    }

    pub(crate) const fn proven(&self) -> &Proven {
        &self.proven
    }

    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Pieces that may wait for the remote: one range.
    pub(crate) const fn pieces_waiting(&self) -> usize {
        self.range as usize
    }

    /// Whether the whole file fits into what is read ahead anyway.
    pub(crate) fn is_small(&self) -> bool {
        self.proven.split.count() <= self.range * RANGES
    }

    /// Reads and proves a small file before anything is sent.
    pub(crate) async fn read_small(&self, fence: &Fence) -> Result<Vec<Bytes>, ProofError> {
        let count = self.proven.split.count();
        let (pieces, mut proved) = mpsc::channel(count.max(1) as usize);
        // A cancel request is judged after the comparison: the remote may have the file already.
        self.stream(fence, &pieces, false).await?;
        drop(pieces);
        let mut all = Vec::with_capacity(count as usize);
        while let Some(piece) = proved.recv().await {
            all.push(piece);
        }
        Ok(all)
    }

    /// Reads all chunks in order into `pieces`. The last range is released only when the hash of the whole is right and
    /// the lease holds.
    ///
    /// Reading, hashing and sending run at the same time. If `is_cancellable`, a cancel request ends the reading before
    /// the last range. It ends early and without an error when the receiver is dropped: the receiver's side knows why.
    pub(crate) async fn stream(
        &self,
        fence: &Fence,
        pieces: &mpsc::Sender<Bytes>,
        is_cancellable: bool,
    ) -> Result<(), ProofError> {
        let count = self.proven.split.count();
        let starts = (0..count).step_by(self.range as usize).map(ChunkNumber);
        let mut ranges = stream::iter(starts).map(|from| async move { (from, self.read(from).await) }).buffered(READS);
        let mut whole = Hasher::new();
        while let Some((from, read)) = ranges.next().await {
            let chunks = read?;
            let expected = self.range.min(count - from.0);
            self.check_range(from, expected, &chunks)?;
            whole = hash(whole, &chunks).await?;
            let last = from.0 + expected == count;
            if last {
                self.check_whole(whole.clone().finish()).await?;
            }
            if is_cancellable && fence.is_cancel_requested() {
                return Err(ProofError::Cancelled);
            }
            for chunk in chunks {
                fence.check()?;
                let len = chunk.data.len() as u64;
                let taken = tokio::select! {
                    biased;
                    taken = pieces.send(altered(chunk.data)) => taken,
                    () = fence.cancel_requested(), if is_cancellable && !last => return Err(ProofError::Cancelled),
                };
                if taken.is_err() {
                    return Ok(());
                }
                fence.note_progress(|progress| progress.bytes_delivered += len);
            }
        }
        if count == 0 {
            self.check_whole(whole.finish()).await?;
        }
        Ok(())
    }

    /// Reads a range. The reading starts at once, not when the future is first polled.
    fn read(&self, from: ChunkNumber) -> impl Future<Output = Result<Vec<StoredChunk>, ProofError>> + use<> {
        let Self { file, generation, layout, range, .. } = *self;
        let ledger = self.ledger.clone();
        let reading = tokio::spawn(async move { ledger.read_chunks(file, generation, layout, from, range).await });
        async { Ok(reading.await??) }
    }

    /// Checks that the range has every chunk once, with the length that it must have.
    fn check_range(&self, from: ChunkNumber, expected: u32, chunks: &[StoredChunk]) -> Result<(), ProofError> {
        for (number, at) in (from.0..from.0 + expected).map(ChunkNumber).zip(0..) {
            let Some(chunk) = chunks.get(at).filter(|chunk| chunk.number == number) else {
                return Err(ProofError::Wrong(format!("chunk {number} is missing")));
            };
            let len = self.proven.split.len(number).unwrap_or_default();
            if chunk.data.len() != len as usize {
                let found = chunk.data.len();
                return Err(ProofError::Wrong(format!("chunk {number}: expected {len} bytes, found {found}")));
            }
        }
        Ok(())
    }

    /// Compares the hash of the whole. If it is wrong, reads all chunks again to name the bad ones.
    async fn check_whole(&self, found: Digest) -> Result<(), ProofError> {
        let expected = self.proven.sha256;
        if found == expected {
            return Ok(());
        }
        let mut bad = Vec::new();
        for from in (0..self.proven.split.count()).step_by(self.range as usize) {
            let chunks = self.read(ChunkNumber(from)).await?;
            let wrong = |chunk: &&StoredChunk| Digest::of(&chunk.data) != chunk.sha256;
            bad.extend(chunks.iter().filter(wrong).map(|chunk| chunk.number.to_string()));
        }
        let which = match bad.as_slice() {
            [] => "although every chunk has its own".to_owned(),
            bad => format!("because of the chunks {}", bad.join(", ")),
        };
        Err(ProofError::Wrong(format!("expected SHA-256 {expected}, found {found}, {which}")))
    }
}

/// The bytes. In the test build they can be damaged on demand, after they were proved.
fn altered(data: Bytes) -> Bytes {
    if !sabotage::is_broken("break-proof") {
        return data;
    }
    let mut damaged = data.to_vec();
    damaged.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    damaged.into()
}

/// Hashes chunks on a thread that may block: 8 MiB take about 5 ms.
async fn hash(mut whole: Hasher, chunks: &[StoredChunk]) -> Result<Hasher, tokio::task::JoinError> {
    let pieces: Vec<Bytes> = chunks.iter().map(|chunk| chunk.data.clone()).collect();
    tokio::task::spawn_blocking(move || {
        pieces.iter().for_each(|piece| whole.update(piece));
        whole
    })
    .await
}
