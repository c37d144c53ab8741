//! Checks the content of a file: that every chunk is there and, with `--deep`, that its bytes are right.

use anyhow::Result;
use contract::{ChunkNumber, Digest, Hasher, Split, State};
use ledger::{FileRecord, Layout, Ledger, LedgerError};

use super::Doctor;
use super::finding::{Finding, FindingKind};

/// How many chunk proofs one query reads: a few hundred KiB.
const PROOFS: u32 = 1024;

/// How many bytes of chunks one query reads.
const BYTES: u32 = 4 * 1024 * 1024;

/// How often a file is checked if its record changes meanwhile. After so many changes a service is clearly working on
/// it.
const TRIES: u32 = 3;

/// The maximum number of chunks that a finding names.
const NAMED: usize = 8;

/// The content that a file must have.
pub(super) struct ExpectedContent<'a> {
    pub(super) record: &'a FileRecord,
    pub(super) split: Split,
    pub(super) layout: Layout,
    sha256: Digest,
}

/// Chunks with the same fault.
struct Fault {
    kind: FindingKind,
    numbers: Vec<ChunkNumber>,
    /// How many more there are than `numbers` names.
    more: u64,
    /// What is wrong with the first of them.
    first: String,
}

/// Checks the content of a file if it should have any, and reports what is wrong with it.
pub(super) async fn check(doctor: &mut Doctor, record: &FileRecord) -> Result<()> {
    let mut current = Box::new(record.clone());
    for _ in 0..TRIES {
        if !should_be_whole(&current) {
            return Ok(());
        }
        let Some(expected) = ExpectedContent::of(&current) else { return incomplete(doctor, &current) };
        let faults = expected.faults(&doctor.ledger, doctor.deep).await?;
        if faults.is_empty() {
            return Ok(());
        }
        // While the content was read, its retention may have ended or a new generation may have begun.
        match doctor.ledger.file(current.id).await? {
            Some(now) if now.version == current.version => return report(doctor, &expected, &faults).await,
            Some(now) => *current = now,
            None => return Ok(()),
        }
    }
    Ok(())
}

pub(super) fn should_be_whole(record: &FileRecord) -> bool {
    matches!(record.state, State::Stored | State::Delivering | State::Delivered)
        && record.content_removed != Some(record.generation)
}

fn incomplete(doctor: &mut Doctor, record: &FileRecord) -> Result<()> {
    let found = format!(
        "chunk size {:?}, layout {:?}, SHA-256 {}",
        record.chunk_size,
        record.layout,
        record.sha256.map_or_else(|| "None".to_owned(), |sha256| sha256.to_string())
    );
    let expected = format!("chunk size, layout and SHA-256 of a file that is {}", record.state);
    let finding = Finding::of_file(FindingKind::RecordIncomplete, record.id, expected, found);
    doctor.report.add(&finding.advising("cancel the file and prepare it again"))
}

async fn report(doctor: &mut Doctor, expected: &ExpectedContent<'_>, faults: &[Fault]) -> Result<()> {
    let record = expected.record;
    let mut findings: Vec<Finding> = faults.iter().map(|fault| expected.finding(fault)).collect();
    let beyond = |finding: &Finding| finding.kind == FindingKind::ChunkBeyondEnd;
    if doctor.repair && record.state != State::Delivered && !findings.iter().all(beyond) {
        let again = doctor.ledger.rechunk(record.id, record.version).await?;
        let done = match &again {
            Some(again) => {
                let hint = doctor.hint(contract::Step::Prepare, record.id).await;
                Ok(format!("generation {} was begun and will be read from the source; {hint}", again.generation))
            }
            None => Err("somebody holds the file; run the doctor again"),
        };
        findings = findings
            .into_iter()
            .map(|finding| match &done {
                Ok(did) => finding.mended(did),
                Err(why) => finding.left(why),
            })
            .collect();
    }
    findings.iter().try_for_each(|finding| doctor.report.add(finding))
}

impl<'a> ExpectedContent<'a> {
    /// `None` if the record lacks what its state implies.
    pub(super) fn of(record: &'a FileRecord) -> Option<Self> {
        let proven = record.proven()?;
        Some(Self { record, split: proven.split, layout: record.layout?, sha256: proven.sha256 })
    }

    fn finding(&self, fault: &Fault) -> Finding {
        let Fault { kind, numbers, more, first } = fault;
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let rest = if *more > 0 { format!(" and {more} more") } else { String::new() };
        let (generation, count) = (self.record.generation, self.split.count());
        let expected = match kind {
            FindingKind::WholeHash => format!("SHA-256 {} of the whole", self.sha256),
            _ => format!("{count} chunks of generation {generation} as they were stored"),
        };
        let what = if numbers.is_empty() { String::new() } else { format!("chunk {}{rest}: ", numbers.join(", ")) };
        let to_do = match (kind, self.record.state) {
            (FindingKind::ChunkBeyondEnd, _) => "find out who wrote it; no service reads it",
            (_, State::Delivered) => "the file was whole when it was delivered; check MongoDB's disk and log",
            _ => "check MongoDB's disk and log; --repair has the file read again from its source",
        };
        Finding::of_file(*kind, self.record.id, expected, format!("{what}{first}")).advising(to_do)
    }

    async fn faults(&self, ledger: &Ledger, deep: bool) -> Result<Vec<Fault>> {
        let mut faults = Faults::default();
        let read = async {
            self.compare_proofs(ledger, &mut faults).await?;
            if deep {
                self.compare_bytes(ledger, &mut faults).await?;
            }
            Ok::<(), LedgerError>(())
        };
        match read.await {
            Ok(()) => {}
            Err(error) if error.is_corrupt_data() => faults.add(FindingKind::ChunkUnreadable, None, &error),
            Err(error) => return Err(error.into()),
        }
        Ok(faults.0)
    }

    /// Compares which chunks exist, and their lengths, using the index alone. Also looks for a chunk directly after the
    /// last one.
    async fn compare_proofs(&self, ledger: &Ledger, faults: &mut Faults) -> Result<(), LedgerError> {
        let FileRecord { id, generation, .. } = self.record;
        let count = self.split.count();
        let mut from = 0;
        while from <= count {
            let step = PROOFS.min((count - from).saturating_add(1));
            let proofs = ledger.read_proofs(*id, *generation, self.layout, ChunkNumber(from), step).await?;
            let mut proofs = proofs.into_iter().peekable();
            for number in (from..from.saturating_add(step)).map(ChunkNumber) {
                let proof = proofs.next_if(|proof| proof.number == number);
                match (self.split.len(number), proof) {
                    (Some(len), Some(proof)) if len == proof.len => {}
                    (Some(len), Some(proof)) => {
                        faults.add(
                            FindingKind::ChunkLength,
                            Some(number),
                            &format!("{} bytes instead of {len}", proof.len),
                        );
                    }
                    (Some(_), None) => faults.add(FindingKind::ChunkMissing, Some(number), &"missing"),
                    (None, Some(proof)) => {
                        faults.add(FindingKind::ChunkBeyondEnd, Some(number), &format!("{} bytes", proof.len));
                    }
                    (None, None) => {}
                }
            }
            let Some(next) = from.checked_add(step) else { break };
            from = next;
        }
        Ok(())
    }

    /// Compares the bytes of every chunk with its hash, and all bytes together with the hash of the whole. Only a few
    /// chunks at a time are in memory, whatever the file's size.
    async fn compare_bytes(&self, ledger: &Ledger, faults: &mut Faults) -> Result<(), LedgerError> {
        let FileRecord { id, generation, .. } = self.record;
        let step = (BYTES / self.split.chunk_size()).max(1);
        let (count, mut from) = (self.split.count(), 0);
        let mut whole = Hasher::new();
        while from < count {
            let step = step.min(count - from);
            for chunk in ledger.read_chunks(*id, *generation, self.layout, ChunkNumber(from), step).await? {
                let found = Digest::of(&chunk.data);
                if found != chunk.sha256 {
                    let hashes = format!("SHA-256 {found} instead of {}", chunk.sha256);
                    faults.add(FindingKind::ChunkHash, Some(chunk.number), &hashes);
                }
                whole.update(&chunk.data);
            }
            from += step;
        }
        // If a chunk is wrong, so is the whole; one finding is enough.
        let found = whole.finish();
        if found != self.sha256 && faults.0.is_empty() {
            faults.add(FindingKind::WholeHash, None, &found);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, kind: FindingKind, number: Option<ChunkNumber>, what: &dyn std::fmt::Display) {
        match self.0.iter_mut().find(|fault| fault.kind == kind) {
            None => {
                self.0.push(Fault { kind, numbers: number.into_iter().collect(), more: 0, first: what.to_string() });
            }
            Some(fault) if fault.numbers.len() < NAMED => fault.numbers.extend(number),
            Some(fault) => fault.more += 1,
        }
    }
}
