//! Writes chunks: those that are waiting at the same moment go to MongoDB together.

use std::sync::Arc;

use contract::ChunkNumber;
use ledger::{Layout, Ledger, LedgerError, NewChunk, PutOutcome};
use runtime::Service;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::CHUNKS_AT_ONCE;
use crate::admission::ChunkingFile;

/// The most chunks in one insert.
const BATCH: usize = 8;

/// The most bytes in one insert. The driver copies a batch twice, and all writers may insert at once, so this bounds
/// the memory; larger batches gain nothing, as MongoDB writes 1 MiB documents at the speed of its journal.
const BATCH_BYTES: u32 = 4 * 1024 * 1024;

/// Which document a chunk goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// A document of its own in `chunks`.
    Child,
    /// The only chunk of its file: the whole content document.
    Whole,
    /// One of several in its file's content document.
    Embedded,
}

impl Placement {
    pub(crate) fn of(file: &ChunkingFile) -> Self {
        match file.layout {
            Layout::Children => Self::Child,
            Layout::Embedded if file.split.len(ChunkNumber(1)).is_none() => Self::Whole,
            Layout::Embedded => Self::Embedded,
        }
    }
}

struct WriteRequest {
    chunk: NewChunk,
    answer: oneshot::Sender<Result<PutOutcome, Arc<LedgerError>>>,
}

/// The writers. Each takes what waits, up to a batch, and writes it in one insert.
#[derive(Debug)]
pub(crate) struct Writers {
    ledger: Ledger,
    children: mpsc::Sender<WriteRequest>,
    wholes: mpsc::Sender<WriteRequest>,
}

impl Writers {
    pub(crate) fn start(service: &Service) -> Self {
        let max_batch = (BATCH_BYTES / service.settings.files.chunk_size).max(1) as usize;
        let open = |placement| {
            // It never fills: no more chunks than this are taken in at once.
            let (sender, receiver) = mpsc::channel(CHUNKS_AT_ONCE);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..service.settings.store.writers {
                tokio::spawn(write_batches(service.ledger.clone(), placement, max_batch.min(BATCH), receiver.clone()));
            }
            sender
        };
        Self { ledger: service.ledger.clone(), children: open(Placement::Child), wholes: open(Placement::Whole) }
    }

    /// Writes a chunk, and returns when a majority's journal has it.
    pub(crate) async fn write(&self, placement: Placement, chunk: NewChunk) -> Result<PutOutcome, LedgerError> {
        let doing = "writing a chunk";
        let queue = match placement {
            Placement::Child => &self.children,
            Placement::Whole => &self.wholes,
            Placement::Embedded => return self.ledger.put_embedded(chunk).await,
        };
        let (answer, answered) = oneshot::channel();
        let ended = || LedgerError::Ending(doing);
        queue.send(WriteRequest { chunk, answer }).await.map_err(|_| ended())?;
        match answered.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(shared)) => Err(LedgerError::Batch(shared)),
            Err(_) => Err(ended()),
        }
    }
}

/// Runs until the last sender is gone.
async fn write_batches(
    ledger: Ledger,
    placement: Placement,
    max_batch: usize,
    requests: Arc<Mutex<mpsc::Receiver<WriteRequest>>>,
) {
    loop {
        let mut batch = Vec::with_capacity(max_batch);
        // One writer at a time waits for requests; the others write.
        if requests.lock().await.recv_many(&mut batch, max_batch).await == 0 {
            return;
        }
        let (chunks, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.chunk, request.answer)).unzip();
        let written = match placement {
            Placement::Whole => ledger.put_whole(chunks).await,
            Placement::Child | Placement::Embedded => ledger.put_children(chunks).await,
        };
        // A sender that no longer waits has stopped; a later attempt finds its chunk stored.
        match written {
            Ok(outcomes) => {
                answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(Ok(outcome))));
            }
            Err(error) => {
                let shared = Arc::new(error);
                answers.into_iter().for_each(|answer| drop(answer.send(Err(shared.clone()))));
            }
        }
    }
}
