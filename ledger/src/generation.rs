use std::time::Duration;

use contract::State;
use mongodb::bson::doc;

use crate::attempt::{given_back, start_of_next};
use crate::bson_form::to_bson;
use crate::failure::appended;
use crate::transition::Transition;
use crate::{FileRecord, Lease, Ledger, LedgerError, Problem, Source};

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
    /// What changed.
    pub problem: Problem,
    /// The pause before the reading, at least.
    pub delay: Duration,
    /// Whether this attempt counts as a failed one. It does not if the source only had to stand still first.
    pub counts: bool,
}

impl Ledger {
    /// Frees the lease and begins a new generation, which is read after a pause: what was stored of the old one no
    /// longer counts. Nobody can claim the file during the pause, so a source that looks the same at the next claim has
    /// stood still for so long. `None`: the lease was lost.
    pub async fn begin_generation(
        &self,
        lease: &Lease,
        next: &NextGeneration,
    ) -> Result<Option<FileRecord>, LedgerError> {
        let NextGeneration { source, problem, delay, counts } = next;
        let mut filter = lease.filter();
        filter.insert("state", State::Chunking.as_str());
        let start = start_of_next((*delay).max(self.settle));
        let transition = Transition::default()
            .set("generation", doc! { "$add": ["$generation", 1] })
            .set_literal("source", to_bson(source)?)
            .set_literal("error", to_bson(problem)?)
            .set("not_before", start.clone())
            .set("due_at", start)
            .unset(&["lease", "hint_refusals", "layout", "chunk_size", "progress"]);
        let transition = match counts {
            true => transition.set("failures", appended(problem)),
            false => transition.set("attempts.chunking", given_back("$attempts.chunking")),
        };
        transition.commit(self, "beginning a generation", filter).await
    }
}
