//! The content of a file: whether every chunk is there, and with `--deep` whether its bytes are right.

use anyhow::Result;
use contract::{ChunkNumber, Digest, Hasher, Split, State};
use ledger::{FileRecord, Layout, Ledger, LedgerError};

use super::Doctor;
use super::finding::{Finding, Kind};

/// Chunks whose proofs are read at once: some hundred KiB.
const PROOFS: u32 = 1024;

/// Bytes of chunks read at once.
const BYTES: u32 = 4 * 1024 * 1024;

/// How often a file that changes while it is read is looked at. Then it is in good hands.
const TRIES: u32 = 3;

/// Numbers of chunks named in a finding.
const NAMED: usize = 8;

/// What must be there.
struct Whole<'a> {
    record: &'a FileRecord,
    split: Split,
    layout: Layout,
    sha256: Digest,
}

/// Chunks with the same fault.
struct Fault {
    kind: Kind,
    numbers: Vec<ChunkNumber>,
    more: u64,
    /// More about the first of them.
    first: String,
}

/// Looks at the content of a file that should have it, and reports what is wrong with it.
pub(super) async fn check(doctor: &mut Doctor, record: &FileRecord) -> Result<()> {
    let mut current = Box::new(record.clone());
    for _ in 0..TRIES {
        if !should_be_whole(&current) {
            return Ok(());
        }
        let Some(whole) = Whole::of(&current) else { return incomplete(doctor, &current) };
        let faults = whole.faults(&doctor.ledger, doctor.deep).await?;
        if faults.is_empty() {
            return Ok(());
        }
        // Its retention may have ended, or a new generation begun, while it was read.
        match doctor.ledger.file(current.id).await? {
            Some(now) if now.version == current.version => return report(doctor, &whole, &faults).await,
            Some(now) => *current = now,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn should_be_whole(record: &FileRecord) -> bool {
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
    let finding = Finding::of_file(Kind::RecordIncomplete, record.id, expected, found);
    doctor.report.add(&finding.advising("cancel the file and prepare it again"))
}

async fn report(doctor: &mut Doctor, whole: &Whole<'_>, faults: &[Fault]) -> Result<()> {
    let record = whole.record;
    let mut findings: Vec<Finding> = faults.iter().map(|fault| whole.finding(fault)).collect();
    let beyond = |finding: &Finding| finding.kind == Kind::ChunkBeyondEnd;
    if doctor.repair && record.state != State::Delivered && !findings.iter().all(beyond) {
        let again = doctor.ledger.rechunk(record.id, record.version).await?;
        let done = match &again {
            Some(again) => {
                let hint = doctor.hint(contract::Step::Prepare, record.id).await;
                Ok(format!("generation {} was begun, to be read from the source; {hint}", again.generation))
            }
            None => Err("somebody holds the file; run it again"),
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

impl<'a> Whole<'a> {
    fn of(record: &'a FileRecord) -> Option<Self> {
        let proven = record.proven()?;
        Some(Self { record, split: proven.split, layout: record.layout?, sha256: proven.sha256 })
    }

    fn finding(&self, fault: &Fault) -> Finding {
        let Fault { kind, numbers, more, first } = fault;
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let rest = if *more > 0 { format!(" and {more} more") } else { String::new() };
        let (generation, count) = (self.record.generation, self.split.count());
        let expected = match kind {
            Kind::WholeHash => format!("SHA-256 {} of the whole", self.sha256),
            _ => format!("{count} chunks of generation {generation} as they were stored"),
        };
        let what = if numbers.is_empty() { String::new() } else { format!("chunk {}{rest}: ", numbers.join(", ")) };
        let to_do = match (kind, self.record.state) {
            (Kind::ChunkBeyondEnd, _) => "find out who wrote it; no service reads it",
            (_, State::Delivered) => "what was delivered was whole then; look at MongoDB's disk and log",
            _ => "look at MongoDB's disk and log; --repair has the file read again from its source",
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
            Err(error) if error.is_corrupt_data() => faults.add(Kind::ChunkUnreadable, None, &error),
            Err(error) => return Err(error.into()),
        }
        Ok(faults.0)
    }

    /// Which chunks there are, and their lengths, by the index alone. One place behind the last is looked at too.
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
                        faults.add(Kind::ChunkLength, Some(number), &format!("{} bytes instead of {len}", proof.len));
                    }
                    (Some(_), None) => faults.add(Kind::ChunkMissing, Some(number), &"not there"),
                    (None, Some(proof)) => {
                        faults.add(Kind::ChunkBeyondEnd, Some(number), &format!("{} bytes", proof.len));
                    }
                    (None, None) => {}
                }
            }
            let Some(next) = from.checked_add(step) else { break };
            from = next;
        }
        Ok(())
    }

    /// Whether the bytes of every chunk have its hash, and those of all together the hash of the whole. Some chunks at a time
    /// are in memory, whatever the file's size.
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
                    faults.add(Kind::ChunkHash, Some(chunk.number), &hashes);
                }
                whole.update(&chunk.data);
            }
            from += step;
        }
        // What is wrong with a chunk is wrong with the whole; that need not be said twice.
        let found = whole.finish();
        if found != self.sha256 && faults.0.is_empty() {
            faults.add(Kind::WholeHash, None, &found);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, kind: Kind, number: Option<ChunkNumber>, what: &dyn std::fmt::Display) {
        match self.0.iter_mut().find(|fault| fault.kind == kind) {
            None => {
                self.0.push(Fault { kind, numbers: number.into_iter().collect(), more: 0, first: what.to_string() });
            }
            Some(fault) if fault.numbers.len() < NAMED => fault.numbers.extend(number),
            Some(fault) => fault.more += 1,
        }
    }
}
