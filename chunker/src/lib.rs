//! Reads files, splits and hashes them, and sends the chunks to the store.
//!
//! `handler` says what is done with one hint; `pass` is one reading of a source; `reader` reads and hashes; `sender` keeps a
//! window of chunk requests under way.

mod handler;
mod memory;
mod pass;
mod reader;
mod sender;
mod window;

use std::sync::Arc;

use contract::Step;
use runtime::Service;
use runtime::consume::consume;
use runtime::nats::{Nats, Use};
use runtime::service::StartError;
use runtime::source::Roots;

use crate::memory::Memory;

/// What all files of a chunker share.
#[derive(Debug)]
pub(crate) struct Chunker {
    pub(crate) service: Service,
    pub(crate) roots: Roots,
    pub(crate) memory: Memory,
    /// A connection for chunks alone: an ack must not queue behind payloads.
    pub(crate) data: Nats,
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
    let data = Nats::open(&service.settings.nats, &service.names, &service.worker, Use::Data, &service.life).await?;
    service.register().await?;
    let chunker = Arc::new(Chunker { service: service.clone(), roots, memory: Memory::new(), data });
    let concurrency = service.settings.chunker.concurrency;
    let handle = move |job| handler::handle(chunker.clone(), job);
    service.life.spawn("hints to prepare", consume(service.clone(), Step::Prepare, concurrency, handle));
    Ok(())
}
