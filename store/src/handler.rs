//! What the store does with one chunk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{ChunkAnswer, ChunkHeader, ChunkReply, Digest};
use ledger::{FreeSpace, LedgerError, NewChunk, PutOutcome};
use runtime::Service;
use tokio::sync::Semaphore;

use crate::admission::{Admission, ChunkingFile};
use crate::writer::{Placement, Writers};

/// Checks chunks and has them written.
#[derive(Debug)]
pub(crate) struct Handler {
    admission: Admission,
    writers: Writers,
    space: FreeSpace,
    bytes: Arc<Semaphore>,
    /// How many chunks may be hashed at once: one per core, so that replies and pings are not held up.
    hashing: Arc<Semaphore>,
}

impl Handler {
    pub(crate) fn start(service: &Service) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            admission: Admission::new(service.ledger.clone()),
            writers: Writers::start(service),
            space: FreeSpace::new(&service.ledger, service.settings.store.free_space_floor),
            bytes: Arc::new(Semaphore::new(service.settings.store.in_flight_bytes as usize)),
            hashing: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Checks one chunk, writes it and says what became of it. `None`: nobody waits for the answer any more.
    pub(crate) async fn handle(&self, message: &async_nats::Message, arrived: Instant) -> Option<ChunkReply> {
        let headers = message.headers.as_ref();
        let header = ChunkHeader::from_lookup(|name| Some(headers?.get(name)?.as_str()));
        let header = match header {
            Ok(header) => header,
            Err(error) => return Some(ChunkReply::because(ChunkAnswer::Corrupt, error.to_string())),
        };
        let len = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
        let Ok(_bytes) = self.bytes.try_acquire_many(len) else {
            return Some(ChunkReply::new(ChunkAnswer::Busy));
        };
        match self.check_and_write(&header, message, arrived).await {
            Ok(answer) => answer,
            // The write may still have happened; then the chunk is a duplicate when the chunker sends it again.
            Err(error) => {
                tracing::warn!(file = %header.file_id, chunk = %header.number, "a chunk could not be written: {error}");
                Some(ChunkReply::because(ChunkAnswer::Busy, "MongoDB does not take the chunk now"))
            }
        }
    }

    async fn check_and_write(
        &self,
        header: &ChunkHeader,
        message: &async_nats::Message,
        arrived: Instant,
    ) -> Result<Option<ChunkReply>, LedgerError> {
        let file = match self.admission.admit(header).await? {
            Ok(file) => file,
            Err(refusal) => return Ok(Some(refusal)),
        };
        if let Some(free) = self.space.shortage(0).await {
            let floor = self.space.floor();
            let detail = format!("MongoDB has {free} bytes of space left, fewer than store.free_space_floor = {floor}");
            return Ok(Some(ChunkReply::because(ChunkAnswer::Busy, detail)));
        }
        if let Err(refusal) = self.check(header, &file, message).await {
            return Ok(Some(refusal));
        }
        if arrived.elapsed() >= Duration::from_millis(header.budget_ms) {
            tracing::debug!(file = %header.file_id, chunk = %header.number, "dropped a chunk past its budget");
            return Ok(None);
        }
        let chunk = NewChunk {
            file: header.file_id,
            generation: header.generation,
            number: header.number,
            sha256: header.sha256,
            data: message.payload.clone(),
        };
        fail::fail_point!("store-before-write", |_| std::process::abort());
        let outcome = self.writers.write(Placement::of(&file), chunk).await?;
        fail::fail_point!("store-after-write", |_| std::process::abort());
        Ok(Some(match outcome {
            PutOutcome::Written => ChunkReply::new(ChunkAnswer::Ok),
            PutOutcome::Duplicate => ChunkReply::new(ChunkAnswer::Duplicate),
            PutOutcome::Conflict { len, sha256 } => ChunkReply::because(
                ChunkAnswer::Conflict,
                format!("chunk {} is stored already, with {len} bytes and SHA-256 {sha256}", header.number),
            ),
            PutOutcome::NoDocument => {
                ChunkReply::because(ChunkAnswer::Stale, "expected the content document of this generation, found none")
            }
        }))
    }

    /// Checks that the payload has the length that the record says and the hash that the header says.
    async fn check(
        &self,
        header: &ChunkHeader,
        file: &ChunkingFile,
        message: &async_nats::Message,
    ) -> Result<(), ChunkReply> {
        let corrupt = |detail| Err(ChunkReply::because(ChunkAnswer::Corrupt, detail));
        let len = message.payload.len();
        match file.split.len(header.number) {
            Some(expected) if expected as usize == len => {}
            expected => {
                return corrupt(format!("expected {} bytes, found {len}", expected.unwrap_or_default()));
            }
        }
        let payload = message.payload.clone();
        // Nobody closes the semaphore, so there is always a permit.
        let permit = self.hashing.clone().acquire_owned().await;
        let hashed = tokio::task::spawn_blocking(move || {
            let digest = Digest::of(&payload);
            drop(permit);
            digest
        });
        match hashed.await {
            Ok(found) if found == header.sha256 => Ok(()),
            Ok(found) => corrupt(format!("expected SHA-256 {}, found {found}", header.sha256)),
            Err(error) => {
                Err(ChunkReply::because(ChunkAnswer::Busy, format!("the chunk could not be hashed: {error}")))
            }
        }
    }
}
