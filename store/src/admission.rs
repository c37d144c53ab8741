//! Which chunks the record admits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::{ChunkAnswer, ChunkHeader, ChunkReply, Epoch, FileId, Generation, Split, State};
use ledger::{FileRecord, Layout, Ledger, LedgerError};

/// How long a cached record may admit chunks. The cache never refuses one.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// The most records in the cache.
const CACHE_CAPACITY: usize = 4096;

/// What the store needs to know of a file that is being chunked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkingFile {
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
    pub(crate) layout: Layout,
    pub(crate) split: Split,
}

/// Decides which chunks to take. Caches records for a moment, so that not every chunk costs a read of MongoDB.
#[derive(Debug)]
pub(crate) struct Admission {
    ledger: Ledger,
    cache: Mutex<HashMap<FileId, (Instant, ChunkingFile)>>,
}

impl Admission {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger, cache: Mutex::default() }
    }

    /// Admits a chunk, or gives the answer that refuses it.
    pub(crate) async fn admit(&self, header: &ChunkHeader) -> Result<Result<ChunkingFile, ChunkReply>, LedgerError> {
        if let Some(file) = self.cached(header.file_id).filter(|file| judge(header, file).is_ok()) {
            return Ok(Ok(file));
        }
        let Some(record) = self.ledger.file(header.file_id).await? else {
            let detail = format!("there is no file {}", header.file_id);
            return Ok(Err(ChunkReply::because(ChunkAnswer::UnknownFile, detail)));
        };
        let file = match chunking_file(&record) {
            Ok(file) => file,
            Err(detail) => return Ok(Err(ChunkReply::because(ChunkAnswer::Stale, detail))),
        };
        self.cache(header.file_id, file);
        Ok(judge(header, &file).map(|()| file))
    }

    fn cached(&self, id: FileId) -> Option<ChunkingFile> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&id).filter(|(read_at, _)| read_at.elapsed() < CACHE_TTL).map(|(_, file)| *file)
    }

    fn cache(&self, id: FileId, file: ChunkingFile) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_CAPACITY {
            cache.retain(|_, (read_at, _)| read_at.elapsed() < CACHE_TTL);
        }
        if cache.len() < CACHE_CAPACITY {
            cache.insert(id, (Instant::now(), file));
        }
    }
}

fn chunking_file(record: &FileRecord) -> Result<ChunkingFile, String> {
    if record.state != State::Chunking {
        return Err(format!("expected a file that is being chunked, found it {}", record.state));
    }
    let (Some(layout), Some(split)) = (record.layout, record.split()) else {
        return Err("expected a record with a chunk size and a layout, found one without".into());
    };
    Ok(ChunkingFile { generation: record.generation, epoch: record.epoch, layout, split })
}

/// Whether the file takes the chunk. If a cached file does not, its record is read again, because its claim may be
/// newer.
fn judge(header: &ChunkHeader, file: &ChunkingFile) -> Result<(), ChunkReply> {
    let stale = |detail| Err(ChunkReply::because(ChunkAnswer::Stale, detail));
    if header.generation != file.generation {
        return stale(format!("expected generation {}, found {}", file.generation, header.generation));
    }
    if header.epoch != file.epoch {
        return stale(format!("expected a chunk of claim {}, found one of claim {}", file.epoch, header.epoch));
    }
    if header.number.0 >= file.split.count() {
        let detail = format!("expected a number below {}, found {}", file.split.count(), header.number);
        return Err(ChunkReply::because(ChunkAnswer::Corrupt, detail));
    }
    Ok(())
}
