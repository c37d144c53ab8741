//! Which chunks the record admits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::{ChunkAnswer, ChunkHeader, ChunkReply, Epoch, FileId, Generation, Split, State};
use ledger::{FileRecord, Layout, Ledger, LedgerError};

/// How long a record may be trusted for saying yes. A no is never given from memory.
const FRESH: Duration = Duration::from_secs(1);

/// Records remembered at most.
const REMEMBERED: usize = 4096;

/// What the store needs to know of a file that is being chunked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
    pub(crate) layout: Layout,
    pub(crate) split: Split,
}

/// Remembers records for a moment, so that not every chunk costs a look at MongoDB.
#[derive(Debug)]
pub(crate) struct Admission {
    ledger: Ledger,
    remembered: Mutex<HashMap<FileId, (Instant, Admitted)>>,
}

impl Admission {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger, remembered: Mutex::default() }
    }

    /// Admits a chunk, or gives the answer that refuses it.
    pub(crate) async fn admit(&self, header: &ChunkHeader) -> Result<Result<Admitted, ChunkReply>, LedgerError> {
        if let Some(known) = self.recall(header.file_id).filter(|known| judge(header, known).is_ok()) {
            return Ok(Ok(known));
        }
        let Some(record) = self.ledger.file(header.file_id).await? else {
            let detail = format!("there is no file {}", header.file_id);
            return Ok(Err(ChunkReply::because(ChunkAnswer::UnknownFile, detail)));
        };
        let known = match admitted(&record) {
            Ok(known) => known,
            Err(detail) => return Ok(Err(ChunkReply::because(ChunkAnswer::Stale, detail))),
        };
        self.remember(header.file_id, known);
        Ok(judge(header, &known).map(|()| known))
    }

    fn recall(&self, file: FileId) -> Option<Admitted> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&file).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, known)| *known)
    }

    fn remember(&self, file: FileId, known: Admitted) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(file, (Instant::now(), known));
        }
    }
}

fn admitted(record: &FileRecord) -> Result<Admitted, String> {
    if record.state != State::Chunking {
        return Err(format!("expected a file that is being chunked, found it {}", record.state));
    }
    let (Some(layout), Some(split)) = (record.layout, record.split()) else {
        return Err("expected a file that was cut, found none of its chunk size and layout".into());
    };
    Ok(Admitted { generation: record.generation, epoch: record.epoch, layout, split })
}

/// Whether the record admits the chunk. A newer epoch than the one remembered is judged anew by a look at the record.
fn judge(header: &ChunkHeader, known: &Admitted) -> Result<(), ChunkReply> {
    let stale = |detail| Err(ChunkReply::because(ChunkAnswer::Stale, detail));
    if header.generation != known.generation {
        return stale(format!("expected generation {}, found {}", known.generation, header.generation));
    }
    if header.epoch != known.epoch {
        return stale(format!("expected a chunk of claim {}, found one of claim {}", known.epoch, header.epoch));
    }
    if header.number.0 >= known.split.count() {
        let detail = format!("expected a number below {}, found {}", known.split.count(), header.number);
        return Err(ChunkReply::because(ChunkAnswer::Corrupt, detail));
    }
    Ok(())
}
