use contract::State;
use mongodb::bson::doc;

use crate::bson_form::{incremented, to_bson};
use crate::transition::Transition;
use crate::{FileRecord, Layout, Lease, Ledger, LedgerError, Source};

/// How a generation is split and stored. A generation keeps the options that it began with.
#[derive(Debug, Clone, Copy)]
pub struct GenerationOptions {
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// The largest file, in bytes, whose chunks all go into one document.
    pub embed_limit: u64,
}

/// Another reading of a source that changed.
#[derive(Debug)]
pub struct NextGeneration {
    /// The source as it looks now.
    pub source: Source,
    /// How to split and store the new generation.
    pub options: GenerationOptions,
}

impl Ledger {
    /// Begins a new generation under the same lease: what was stored of the old one no longer counts. `None`: the lease was lost.
    pub async fn begin_generation(
        &self,
        lease: &Lease,
        next: &NextGeneration,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let mut filter = lease.filter();
        filter.insert("state", State::Chunking.as_str());
        let layout = Layout::of(next.source.size, next.options.embed_limit);
        let transition = Transition::default()
            .set("generation", doc! { "$add": ["$generation", 1] })
            .set("source_changes", incremented("$source_changes"))
            .set_literal("source", to_bson(&next.source)?)
            .set("chunk_size", i64::from(next.options.chunk_size))
            .set("layout", layout.as_str())
            .unset(&["progress"]);
        transition.commit(self, "beginning a generation", filter).await
    }
}
