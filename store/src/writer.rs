//! Writes chunks: those that wait at the same moment go to MongoDB together.

use std::sync::Arc;

use contract::ChunkNumber;
use ledger::{Layout, Ledger, LedgerError, NewChunk, PutOutcome};
use runtime::Service;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::admission::Admitted;

/// Chunks of one insert at most.
const BATCH: usize = 8;

/// Bytes of one insert at most. The driver copies a batch twice, for every writer at once, so this is what bounds the memory;
/// larger batches gain nothing, as MongoDB writes 1 MiB documents at the speed of its journal.
const BATCH_BYTES: u32 = 4 * 1024 * 1024;

/// Chunks that wait for a writer at most; what is taken in is bounded before.
const QUEUE: usize = 1024;

/// Where a chunk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A document of its own in `chunks`.
    Child,
    /// The only chunk of its file: the whole content document.
    Whole,
    /// One of several in its file's content document.
    Embedded,
}

impl Place {
    pub(crate) fn of(admitted: &Admitted) -> Self {
        match admitted.layout {
            Layout::Children => Self::Child,
            Layout::Embedded if admitted.split.len(ChunkNumber(1)).is_none() => Self::Whole,
            Layout::Embedded => Self::Embedded,
        }
    }
}

struct Order {
    chunk: NewChunk,
    answer: oneshot::Sender<Result<PutOutcome, Arc<LedgerError>>>,
}

/// The writers. Each takes what waits, up to a batch, and writes it in one insert.
#[derive(Debug)]
pub(crate) struct Writers {
    ledger: Ledger,
    children: mpsc::Sender<Order>,
    wholes: mpsc::Sender<Order>,
}

impl Writers {
    pub(crate) fn start(service: &Service) -> Self {
        let most = (BATCH_BYTES / service.settings.files.chunk_size).max(1) as usize;
        let open = |place| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..service.settings.store.writers {
                tokio::spawn(write_batches(service.ledger.clone(), place, most.min(BATCH), receiver.clone()));
            }
            sender
        };
        Self { ledger: service.ledger.clone(), children: open(Place::Child), wholes: open(Place::Whole) }
    }

    /// Writes a chunk, and returns when a majority's journal has it.
    pub(crate) async fn write(&self, place: Place, chunk: NewChunk) -> Result<PutOutcome, LedgerError> {
        let doing = "writing a chunk";
        let queue = match place {
            Place::Child => &self.children,
            Place::Whole => &self.wholes,
            Place::Embedded => return self.ledger.put_embedded(chunk).await,
        };
        let (answer, answered) = oneshot::channel();
        let ended = || LedgerError::Ending(doing);
        queue.send(Order { chunk, answer }).await.map_err(|_| ended())?;
        match answered.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(shared)) => Err(LedgerError::Batch(shared)),
            Err(_) => Err(ended()),
        }
    }
}

/// Until the last sender is gone.
async fn write_batches(ledger: Ledger, place: Place, most: usize, orders: Arc<Mutex<mpsc::Receiver<Order>>>) {
    loop {
        let mut batch = Vec::with_capacity(most);
        // One writer waits for orders at a time; the others write.
        if orders.lock().await.recv_many(&mut batch, most).await == 0 {
            return;
        }
        let (chunks, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|order| (order.chunk, order.answer)).unzip();
        let written = match place {
            Place::Whole => ledger.put_whole(chunks).await,
            Place::Child | Place::Embedded => ledger.put_children(chunks).await,
        };
        // Whoever does not wait any more has stopped; the chunk is there for the next.
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
