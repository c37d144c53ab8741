//! What holds whatever two workers do to a file, in whatever order, with leases that end at any moment.

use contract::{ChunkNumber, Digest, EventKind, FileId, State};
use ledger::{
    Claim, ClaimedFile, ExpectationOutcome, FileRecord, GenerationOptions, Layout, NewChunk, PutOutcome, Renewal,
    Source, StoredOutcome,
};
use mongodb::bson::Document;
use proptest::prelude::*;
use testing::{bytes, receipt};

use crate::stage::{Stage, expectation, next_generation, problem, request};

const CHUNK: u32 = 1000;
const CHUNKS: u32 = 3;

/// Something that happens. The number is the worker that does it.
#[derive(Debug, Clone, Copy)]
enum Op {
    Claim(usize),
    Renew(usize),
    Put(usize, u32),
    PutAll(usize),
    Stored(usize),
    NextGeneration(usize),
    ClaimDelivering(usize),
    Delivered(usize),
    RetryNow(usize),
    HandBack(usize),
    Fail(usize),
    Expect { right: bool },
    Cancel,
    EndLease,
    Pop,
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let worker = || 0..2_usize;
    prop_oneof![
        6 => worker().prop_map(Op::Claim),
        2 => worker().prop_map(Op::Renew),
        9 => (worker(), 0..CHUNKS).prop_map(|(worker, number)| Op::Put(worker, number)),
        5 => worker().prop_map(Op::PutAll),
        6 => worker().prop_map(Op::Stored),
        1 => worker().prop_map(Op::NextGeneration),
        4 => worker().prop_map(Op::ClaimDelivering),
        3 => worker().prop_map(Op::Delivered),
        1 => worker().prop_map(Op::RetryNow),
        2 => worker().prop_map(Op::HandBack),
        1 => worker().prop_map(Op::Fail),
        3 => any::<bool>().prop_map(|right| Op::Expect { right }),
        1 => Just(Op::Cancel),
        4 => Just(Op::EndLease),
        2 => Just(Op::Pop),
        2 => Just(Op::Sweep),
    ]
}

/// The source as it was when a generation was read.
fn content(generation: u32) -> Vec<u8> {
    bytes((CHUNK * CHUNKS - 1) as usize, generation.into())
}

struct Play {
    stage: Stage,
    file: FileId,
    layout: Layout,
    opening: GenerationOptions,
    workers: [Option<ClaimedFile>; 2],
    /// The events that were taken out of the outbox, oldest first.
    popped: Vec<EventKind>,
}

impl Play {
    async fn begin(layout: Layout) -> Self {
        let stage = Stage::set().await;
        let file = stage.prepared(u64::from(CHUNK * CHUNKS - 1)).await;
        let opening =
            GenerationOptions { chunk_size: CHUNK, embed_limit: if layout == Layout::Embedded { 1 << 20 } else { 0 } };
        Self { stage, file, layout, opening, workers: [None, None], popped: Vec::new() }
    }

    /// Does what is to be done, if the worker believes that it may. What it gives: whether a holder's act took effect.
    async fn act(&mut self, op: Op) -> Option<(usize, bool)> {
        let (ledger, file) = (self.stage.ledger.clone(), self.file);
        match op {
            Op::Claim(worker) => {
                let claim = ledger.claim_chunking(&request(file), self.opening).await.unwrap();
                return self.claimed(worker, claim).await;
            }
            Op::ClaimDelivering(worker) => {
                let claim = ledger.claim_delivering(&request(file)).await.unwrap();
                return self.claimed(worker, claim).await;
            }
            Op::Expect { right } => {
                let record = self.stage.record(file).await;
                let content = content(record.generation.0 + u32::from(!right));
                let answer = self.stage.expect(file, &expectation(&content)).await;
                assert!(!matches!(answer, ExpectationOutcome::Unknown));
                return None;
            }
            Op::Cancel => {
                ledger.cancel(file).await.unwrap();
                return None;
            }
            Op::EndLease => {
                if self.stage.record(file).await.holder().is_some() {
                    self.stage.end_lease(file).await;
                }
                return None;
            }
            Op::Pop => {
                if let Some(head) = self.stage.record(file).await.outbox().events.first() {
                    ledger.pop_outbox(file, head.version).await.unwrap();
                    self.popped.push(head.event);
                }
                return None;
            }
            Op::Sweep => {
                for overdue in ledger.overdue(10).await.unwrap() {
                    ledger.push_due(&overdue).await.unwrap();
                    ledger.record_refused_hint(overdue.file).await.unwrap();
                }
                return None;
            }
            _ => {}
        }
        let (Op::Renew(worker)
        | Op::Put(worker, _)
        | Op::PutAll(worker)
        | Op::Stored(worker)
        | Op::NextGeneration(worker)
        | Op::Delivered(worker)
        | Op::RetryNow(worker)
        | Op::HandBack(worker)
        | Op::Fail(worker)) = op
        else {
            return None;
        };
        let mut held = self.workers[worker].take()?;
        let (done, keeps) = self.act_as_holder(op, &mut held).await?;
        if keeps {
            self.workers[worker] = Some(held);
        }
        Some((worker, done))
    }

    /// Whether the act took effect, and whether the worker goes on believing that it holds the file.
    async fn act_as_holder(&self, op: Op, held: &mut ClaimedFile) -> Option<(bool, bool)> {
        let ledger = &self.stage.ledger;
        Some(match op {
            Op::Renew(_) => {
                let kept = ledger.renew(&held.lease, None).await.unwrap() != Renewal::Lost;
                (kept, true)
            }
            Op::Put(..) | Op::PutAll(_) => {
                let numbers = if let Op::Put(_, number) = op { number..number + 1 } else { 0..CHUNKS };
                for number in numbers.filter(|_| held.file.state == State::Chunking) {
                    self.put(held, number).await;
                }
                return Some((self.is_holder(held).await, true));
            }
            Op::Stored(_) => {
                // A chunker says so only of what it has seen to be there.
                if held.file.state != State::Chunking || !self.is_complete(&held.file).await {
                    return Some((self.is_holder(held).await, true));
                }
                let sha256 = Digest::of(&content(held.file.generation.0));
                let outcome = ledger.record_stored(held, sha256).await.unwrap();
                (!matches!(outcome, StoredOutcome::Lost), false)
            }
            Op::NextGeneration(_) => {
                let source = Source { mtime_ns: held.file.source.mtime_ns + 1, ..held.file.source.clone() };
                let begun = ledger.begin_generation(&held.lease, &next_generation(source)).await.unwrap().is_some();
                (begun, !begun && held.file.state == State::Delivering)
            }
            Op::Delivered(_) if held.file.state == State::Delivering => {
                let receipt = receipt(held);
                (ledger.record_delivered(&held.lease, &receipt).await.unwrap().is_some(), false)
            }
            Op::RetryNow(_) => {
                let delay = std::time::Duration::ZERO;
                (ledger.record_retry(&held.lease, &problem(), delay).await.unwrap().is_some(), false)
            }
            Op::HandBack(_) => (ledger.hand_back(&held.lease).await.unwrap().is_some(), false),
            Op::Fail(_) => (ledger.record_failed(&held.lease, &problem()).await.unwrap().is_some(), false),
            _ => (self.is_holder(held).await, true),
        })
    }

    async fn claimed(&mut self, worker: usize, claim: Claim) -> Option<(usize, bool)> {
        let Claim::Taken(held) = claim else { return None };
        if held.file.state == State::Chunking {
            self.stage.ledger.open_content(held.file.id, held.file.generation).await.unwrap();
        }
        self.workers[worker] = Some(*held);
        None
    }

    async fn is_holder(&self, held: &ClaimedFile) -> bool {
        let record = self.stage.record(self.file).await;
        record.epoch == held.lease.epoch && record.holder().is_some()
    }

    /// Sends a chunk of the generation that the worker reads, late or not.
    async fn put(&self, held: &ClaimedFile, number: u32) {
        let (ledger, generation) = (&self.stage.ledger, held.file.generation);
        ledger.open_content(self.file, generation).await.unwrap();
        let split = held.file.split().unwrap();
        let number = ChunkNumber(number);
        let from = usize::try_from(split.offset(number)).unwrap();
        let data = content(generation.0)[from..from + split.len(number).unwrap() as usize].to_vec();
        let chunk = NewChunk { file: self.file, generation, number, sha256: Digest::of(&data), data: data.into() };
        let outcome = match self.layout {
            Layout::Embedded => ledger.put_embedded(chunk).await.unwrap(),
            Layout::Children => ledger.put_children(vec![chunk]).await.unwrap().remove(0),
        };
        assert!(matches!(outcome, PutOutcome::Written | PutOutcome::Duplicate), "{outcome:?}");
    }

    async fn is_complete(&self, file: &FileRecord) -> bool {
        let layout = file.layout.unwrap();
        let proofs =
            self.stage.ledger.read_proofs(file.id, file.generation, layout, ChunkNumber(0), CHUNKS).await.unwrap();
        proofs.len() == CHUNKS as usize
    }

    /// Every event that must have happened has, once, in order.
    fn assert_told(&self, file: &FileRecord) {
        let mut told = self.popped.clone();
        told.extend(file.outbox().events.iter().map(|event| event.event));
        told.retain(|event| *event != EventKind::Mismatch);
        let way = [EventKind::Prepared, EventKind::Chunking, EventKind::Stored, EventKind::Delivering];
        match file.state {
            State::Failed | State::Cancelled => {
                let last = if file.state == State::Failed { EventKind::Failed } else { EventKind::Cancelled };
                assert_eq!(told.pop(), Some(last));
                assert!(way.starts_with(&told), "{told:?}");
            }
            State::Delivered => assert_eq!((told.pop(), &told[..]), (Some(EventKind::Delivered), &way[..])),
            state => assert_eq!(told, way[..=usize::from(rank(state))]),
        }
    }

    /// Whether somebody holds the file and its lease lasts.
    async fn is_held(&self) -> bool {
        self.stage.ms_until(self.file, "lease.until").await.is_some_and(|ms| ms > 0)
    }

    /// What is stored of the generation that counts is what was read of it, and nothing else.
    async fn assert_content(&self, file: &FileRecord) {
        let Some(layout) = file.layout else { return };
        let ledger = &self.stage.ledger;
        let chunks = ledger.read_chunks(file.id, file.generation, layout, ChunkNumber(0), 100).await.unwrap();
        let (whole, split) = (content(file.generation.0), file.split().unwrap());
        for chunk in &chunks {
            let from = usize::try_from(split.offset(chunk.number)).unwrap();
            assert!(whole[from..].starts_with(&chunk.data), "chunk {} is of another generation", chunk.number);
        }
        if let Some(sha256) = file.sha256 {
            let joined: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect();
            assert_eq!(Digest::of(&joined), sha256, "what is stored is whole");
        }
    }
}

const fn rank(state: State) -> u8 {
    match state {
        State::Prepared => 0,
        State::Chunking => 1,
        State::Stored => 2,
        State::Delivering => 3,
        State::Delivered | State::Failed | State::Cancelled => 4,
    }
}

/// What holds of any record at any time.
fn assert_sound(file: &FileRecord, document: &Document) {
    let working = matches!(file.state, State::Chunking | State::Delivering);
    assert!(file.holder().is_none() || working, "only who works on a file holds it: {document}");
    assert!(document.contains_key("due_at"), "everything is due at some time: {document}");
    let given_up = matches!(file.state, State::Failed | State::Cancelled);
    assert!(given_up || file.sha256.is_some() == (rank(file.state) >= 2), "{document}");
    assert_eq!(file.receipt.is_some(), file.state == State::Delivered);
    let attempts = i64::from(file.attempts.chunking + file.attempts.delivering);
    assert!(attempts <= file.epoch.0, "an attempt is a claim: {document}");
    let events = file.outbox().events;
    assert!(events.iter().is_sorted_by(|a, b| a.version < b.version), "{document}");
    assert!(events.last().is_none_or(|last| last.version <= file.version), "{document}");
    assert_eq!(document.contains_key("outbox_at"), !events.is_empty(), "{document}");
}

/// What holds of a record and the same record later.
fn assert_follows(before: &FileRecord, after: &FileRecord) {
    assert!(rank(after.state) >= rank(before.state), "{} became {}", before.state, after.state);
    assert!(!before.state.is_terminal() || after.state == before.state, "{} became {}", before.state, after.state);
    assert!(after.version >= before.version && after.epoch >= before.epoch && after.generation >= before.generation);
    assert!(after.state == before.state || after.version > before.version);
    assert!(after.updated_at >= before.updated_at);
    if let (Some(was), Some(is)) = (&before.delivery, &after.delivery) {
        assert_eq!(was.begun_at, is.begun_at);
    }
}

async fn play(layout: Layout, ops: Vec<Op>) {
    let mut play = Play::begin(layout).await;
    let mut before = play.stage.record(play.file).await;
    for op in ops {
        let holder = |worker: usize, play: &Play| play.workers[worker].as_ref().map(|held| held.lease.epoch);
        let believed = [holder(0, &play), holder(1, &play)];
        let is_held = play.is_held().await;
        let done = play.act(op).await;
        let (after, document) = (play.stage.record(play.file).await, play.stage.document(play.file).await);
        if let Some((worker, true)) = done {
            assert_eq!(believed[worker], Some(before.epoch), "{op:?} of one who does not hold the file took effect");
            assert!(is_held || !matches!(op, Op::Renew(_)), "a lease was renewed that had run out");
        }
        assert!(after.epoch == before.epoch || !is_held, "{op:?} took a file that another holds");
        let moved = after.generation > before.generation;
        assert!(!moved || before.state == State::Chunking, "a new generation of a file that is {}", before.state);
        play.assert_told(&after);
        assert_sound(&after, &document);
        assert_follows(&before, &after);
        before = after;
    }
    play.assert_content(&before).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_stays_consistent_whatever_two_workers_do(embedded in any::<bool>(), ops in prop::collection::vec(op(), 60..90)) {
        let layout = if embedded { Layout::Embedded } else { Layout::Children };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(layout, ops));
    }
}
