//! Reads files, splits and hashes them, and sends the chunks to the store.
//!
//! `handler` says what is done with one hint; `pass` is one reading of a source; `reader` reads and hashes within the
//! bounds of `memory`; `bus::chunk_client` sends; `check` asks MongoDB for what was sent.

mod check;
mod handler;
mod memory;
mod pass;
mod reader;

use std::sync::Arc;

use bus::chunk_client::ChunkClient;
use bus::{Nats, Use};
use contract::Step;
use runtime::{Service, StartError, status};
use sources::Roots;

use crate::memory::Memory;

/// What all files of a chunker share.
#[derive(Debug)]
pub(crate) struct Chunker {
    pub(crate) service: Service,
    pub(crate) roots: Roots,
    pub(crate) memory: Memory,
    /// Sends chunks over a connection of their own.
    pub(crate) client: ChunkClient,
}

/// Starts the chunker's tasks.
pub async fn run(service: Service) -> Result<(), StartError> {
    let folders = service.settings.files.roots.clone();
    if folders.is_empty() {
        return Err(StartError::Own("files.roots is empty: name the folders beneath which files may be read".into()));
    }
    let opened = tokio::task::spawn_blocking(move || Roots::open(&folders)).await;
    let roots = opened.map_err(|e| StartError::Own(e.to_string()))?;
    let roots = roots.map_err(|e| StartError::Own(format!("files.roots: {e}")))?;
    let settings = service.settings.clone();
    let stopping = service.life.stopping_token();
    let data = Nats::open(&settings.nats, &service.names, &service.worker, Use::Data, stopping).await?;
    let client = ChunkClient::new(data, settings.chunker.window, settings.chunker.chunk_timeout());
    status::register(&service).await?;
    let chunker = Arc::new(Chunker { service: service.clone(), roots, memory: Memory::new(), client });
    let handle = move |job| handler::handle(chunker.clone(), job);
    let hints = service.hints(Step::Prepare, settings.chunker.concurrency);
    service.life.spawn("hints to prepare", hints.consume(handle));
    Ok(())
}
