//! Sees which files have all of their chunks, by a few queries for many files together.

use std::collections::{HashSet, VecDeque};

use anyhow::Result;
use contract::{ChunkNumber, FileId, Generation, Split};
use ledger::{ChunkProof, FoundFile, Layout, Ledger, LedgerError};

use super::content::{ExpectedContent, should_be_whole};

/// Chunks read by one query, whichever files they belong to: about half a megabyte.
const CHUNKS: u16 = 4096;

/// How many bytes of small files MongoDB may have to read for one query: it has no index of their chunks.
const EMBEDDED_BYTES: u64 = 32 * 1024 * 1024;

/// How far the chunks of large files were read. Records and chunks have the same order, so one pass serves all.
///
/// What was read may be older than a record, which then seems to lack chunks: such a file must be checked by itself.
#[derive(Default)]
pub(super) struct Scan {
    read: VecDeque<((FileId, Generation), ChunkProof)>,
    /// There was nothing after what was read last.
    at_end: bool,
}

impl Scan {
    /// Those of the next files, in order of their ids, whose chunks are exactly those that the record implies.
    pub(super) async fn whole(&mut self, ledger: &Ledger, files: &[FoundFile]) -> Result<HashSet<FileId>> {
        let records = files.iter().filter(|found| found.id.is_some()).filter_map(|found| found.record.as_ref().ok());
        let expected = records.filter(|record| should_be_whole(record)).filter_map(ExpectedContent::of);
        let (embedded, large): (Vec<_>, Vec<_>) = expected.partition(|one| one.layout == Layout::Embedded);
        let mut whole = HashSet::new();
        let mut rest = &embedded[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |one: &&ExpectedContent<'_>| {
                bytes += one.split.size();
                bytes <= EMBEDDED_BYTES
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = later;
            let found = ledger.audit_embedded(&now.iter().map(generation).collect::<Vec<_>>()).await?;
            let is_whole = |one: &&ExpectedContent<'_>| match found.get(&generation(one)) {
                Some(proofs) => {
                    let right = |(number, proof)| is_chunk(one.split, number, proof);
                    proofs.len() == one.split.count() as usize && (0..).zip(proofs).all(right)
                }
                None => one.split.count() == 0,
            };
            whole.extend(now.iter().filter(is_whole).map(|one| one.record.id));
        }
        for one in &large {
            match self.finds(ledger, generation(one), one.split).await {
                Ok(true) => drop(whole.insert(one.record.id)),
                Ok(false) => {}
                // Whatever cannot be read is found again when the file is checked by itself.
                Err(error) if error.is_corrupt_data() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(whole)
    }

    /// Whether exactly the chunks of `split` are stored for this generation. It is later than the one asked for before.
    async fn finds(
        &mut self,
        ledger: &Ledger,
        wanted: (FileId, Generation),
        split: Split,
    ) -> Result<bool, LedgerError> {
        let mut next = 0;
        loop {
            while let Some((of, proof)) = self.read.front() {
                if *of > wanted {
                    return Ok(next == split.count());
                }
                if *of == wanted {
                    if !is_chunk(split, next, proof) {
                        return Ok(false);
                    }
                    next += 1;
                }
                self.read.pop_front();
            }
            if self.at_end {
                return Ok(next == split.count());
            }
            let (file, generation) = wanted;
            self.read = ledger.audit_chunks((file, generation, ChunkNumber(next)), CHUNKS).await?.into();
            self.at_end = self.read.len() < usize::from(CHUNKS);
        }
    }
}

fn generation(content: &ExpectedContent<'_>) -> (FileId, Generation) {
    (content.record.id, content.record.generation)
}

fn is_chunk(split: Split, number: u32, proof: &ChunkProof) -> bool {
    proof.number == ChunkNumber(number) && split.len(proof.number) == Some(proof.len)
}
