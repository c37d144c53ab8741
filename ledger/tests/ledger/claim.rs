//! Claiming a file: one at a time, and what the one before may still do.

use std::time::{Duration, Instant};

use contract::{Digest, Epoch, EventKind, FileId, State};
use ledger::{Claim, ClaimRequest, ClaimedFile, GenerationOptions, Layout, Progress, Renewal, StoredOutcome};
use testing::{MIB, new_file, receipt, taken, until};

use crate::stage::{LEASE, OPENING, Stage, next_generation, problem, request, request_for};

#[tokio::test]
async fn a_claim_takes_the_file() {
    let stage = Stage::set().await;
    let file = stage.prepared(3 * u64::from(MIB)).await;
    let held = stage.claim(file).await;

    let record = stage.record(file).await;
    assert_eq!((held.file.version, held.file.epoch, held.file.state), (record.version, record.epoch, record.state));
    assert_eq!((record.state, record.version, record.epoch), (State::Chunking, 2, Epoch(1)));
    assert_eq!((record.attempts.chunking, record.attempts.delivering), (1, 0));
    assert_eq!((record.chunk_size, record.layout), (Some(MIB), Some(Layout::Children)));
    assert_eq!(record.split().map(|split| split.count()), Some(3));
    assert_eq!(record.holder(), Some("worker-1"));
    assert_eq!((held.lease.file, held.lease.epoch, held.lease.length), (file, Epoch(1), LEASE));
    assert_eq!(held.lease.claimed_at, record.updated_at);
    stage.assert_set_to(file, "lease.until", LEASE).await;
    let document = stage.document(file).await;
    assert_eq!(document.get("due_at"), document.get_document("lease").unwrap().get("until"));
    let events: Vec<_> = record.outbox().events.iter().map(|event| (event.version, event.event)).collect();
    assert_eq!(events, [(1, EventKind::Prepared), (2, EventKind::Chunking)]);
}

#[tokio::test]
async fn a_workers_name_is_only_a_name() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    let request = ClaimRequest { worker: "$version", ..request(file) };
    let held = taken(stage.ledger.claim_chunking(&request, OPENING).await.unwrap());
    assert_eq!(held.file.holder(), Some("$version"));
}

#[tokio::test]
async fn up_to_the_limit_a_file_is_kept_in_one_document() {
    let stage = Stage::set().await;
    let limit = 2 * u64::from(MIB);
    for (size, embed_limit, layout) in [
        (0, limit, Layout::Embedded),
        (limit - 1, limit, Layout::Embedded),
        (limit, limit, Layout::Embedded),
        (limit + 1, limit, Layout::Children),
        (0, 0, Layout::Embedded),
        (1, 0, Layout::Children),
        (1 << 40, 15 * u64::from(MIB), Layout::Children),
    ] {
        let file = stage.prepared(size).await;
        let opening = GenerationOptions { chunk_size: 64 * 1024, embed_limit };
        let held = taken(stage.ledger.claim_chunking(&request(file), opening).await.unwrap());
        assert_eq!(held.file.layout, Some(layout), "{size} bytes, limit {embed_limit}");
        assert_eq!(layout, Layout::of(size, embed_limit));
    }
}

#[tokio::test]
async fn a_generation_keeps_the_way_it_is_cut() {
    let stage = Stage::set().await;
    let file = stage.prepared(2 * u64::from(MIB)).await;
    stage.claim(file).await;
    stage.end_lease(file).await;

    let other = GenerationOptions { chunk_size: 64 * 1024, embed_limit: 0 };
    let held = taken(stage.ledger.claim_chunking(&request(file), other).await.unwrap());

    assert_eq!((held.file.chunk_size, held.file.layout), (Some(MIB), Some(Layout::Embedded)));
    assert_eq!((held.lease.epoch, held.file.attempts.chunking, held.file.version), (Epoch(2), 2, 3));
    let events: Vec<_> = held.file.outbox().events.iter().map(|event| event.event).collect();
    assert_eq!(events, [EventKind::Prepared, EventKind::Chunking], "a file begins to be chunked once");
}

#[tokio::test]
async fn a_file_that_another_holds_is_left_alone() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let file = held.lease.file;
    let before = stage.document(file).await;
    for lease in [LEASE, LEASE * 10, Duration::from_secs(2)] {
        match stage.ledger.claim_chunking(&request_for(file, lease), OPENING).await.unwrap() {
            Claim::HeldByAnother { remaining } => {
                assert!(remaining > Duration::ZERO && remaining <= lease.min(LEASE), "{remaining:?} of {lease:?}");
            }
            other => panic!("expected it to be held, found {other:?}"),
        }
    }
    assert_eq!(stage.document(file).await, before);

    let held = stage.delivering(b"abc").await;
    let refused = stage.try_claim_delivering(held.lease.file).await;
    assert!(matches!(refused, Claim::HeldByAnother { remaining } if remaining <= LEASE), "{refused:?}");
}

/// Everything that only the holder of a file may do with it, done by one who holds it no longer.
async fn assert_powerless(stage: &Stage, first: &mut ClaimedFile) {
    let (ledger, lease) = (&stage.ledger, first.lease.clone());
    let before = stage.document(lease.file).await;
    assert_eq!(ledger.renew(&lease, Some(Progress::default())).await.unwrap(), Renewal::Lost);
    assert!(ledger.record_retry(&lease, &problem(), Duration::ZERO).await.unwrap().is_none());
    assert!(ledger.hand_back(&lease).await.unwrap().is_none());
    assert!(ledger.record_failed(&lease, &problem()).await.unwrap().is_none());
    let next = next_generation(new_file(4).source);
    assert!(ledger.begin_generation(&lease, &next).await.unwrap().is_none());
    let stored = ledger.record_stored(first, Digest::of(b"abc")).await.unwrap();
    assert!(matches!(stored, StoredOutcome::Lost), "{stored:?}");
    if first.file.delivery.is_some() {
        assert!(ledger.record_delivered(&lease, &receipt(first)).await.unwrap().is_none());
    }
    assert_eq!(stage.document(lease.file).await, before);
}

#[tokio::test]
async fn after_its_lease_a_chunker_can_do_nothing_any_more() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    let short = request_for(file, Duration::from_millis(300));
    let begun = Instant::now();
    let mut first = taken(stage.ledger.claim_chunking(&short, OPENING).await.unwrap());
    let second = until("the lease ends", async || match stage.try_claim(file).await {
        Claim::Taken(held) => Some(held),
        Claim::HeldByAnother { remaining } => {
            assert!(remaining <= short.lease);
            None
        }
        Claim::NothingToDo => panic!("the file is there to be claimed"),
    })
    .await;

    assert!(begun.elapsed() >= short.lease, "the lease ended after {:?}", begun.elapsed());
    assert_eq!((second.lease.epoch, second.file.attempts.chunking), (Epoch(2), 2));
    assert_powerless(&stage, &mut first).await;
    assert_eq!(stage.ledger.renew(&second.lease, None).await.unwrap(), Renewal::Kept);
}

#[tokio::test]
async fn after_its_lease_a_finaliser_can_do_nothing_any_more() {
    let stage = Stage::set().await;
    let mut first = stage.delivering(b"abc").await;
    stage.end_lease(first.lease.file).await;
    let second = stage.claim_delivering(first.lease.file).await;

    assert_eq!(second.lease.epoch, Epoch(first.lease.epoch.0 + 1));
    assert_powerless(&stage, &mut first).await;
    assert!(stage.ledger.record_delivered(&second.lease, &receipt(&second)).await.unwrap().is_some());
    assert_powerless(&stage, &mut first).await;
}

#[tokio::test]
async fn before_its_time_there_is_nothing_to_do() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let file = held.lease.file;
    stage.ledger.record_retry(&held.lease, &problem(), LEASE).await.unwrap().unwrap();
    let before = stage.document(file).await;
    assert!(matches!(stage.try_claim(file).await, Claim::NothingToDo));
    assert_eq!(stage.document(file).await, before);

    stage.set_ago(file, "not_before", 1).await;
    let held = stage.claim(file).await;
    assert_eq!((held.file.not_before, held.file.attempts.chunking), (None, 2));
}

#[tokio::test]
async fn a_retry_comes_when_its_time_has_come() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let (file, delay) = (held.lease.file, Duration::from_millis(300));
    let begun = Instant::now();
    stage.ledger.record_retry(&held.lease, &problem(), delay).await.unwrap().unwrap();
    until("it may be claimed again", async || match stage.try_claim_delivering(file).await {
        Claim::Taken(held) => Some(held),
        Claim::NothingToDo => None,
        held @ Claim::HeldByAnother { .. } => panic!("nobody holds it: {held:?}"),
    })
    .await;
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn what_is_done_or_not_yet_asked_for_is_nothing_to_do() {
    let stage = Stage::set().await;
    let prepared = stage.prepared(3).await;
    let chunking = stage.chunking(3).await.lease.file;
    let resting = stage.resting(b"abc").await;
    let accepted = stage.accepted(b"abc").await;
    let delivering = stage.delivering(b"abc").await.lease.file;
    let delivered = stage.delivered(b"abc").await;
    let failed = stage.failed().await;
    let all = [prepared, chunking, resting, accepted, delivering, delivered, failed];
    let mut before = Vec::new();
    for file in all {
        before.push(stage.document(file).await);
    }
    for file in [resting, accepted, delivering, delivered, failed, FileId::generate()] {
        let claim = stage.try_claim(file).await;
        assert!(matches!(claim, Claim::NothingToDo), "{claim:?}");
    }
    for file in [prepared, chunking, resting, delivered, failed, FileId::generate()] {
        let claim = stage.try_claim_delivering(file).await;
        assert!(matches!(claim, Claim::NothingToDo), "{claim:?}");
    }
    for (file, before) in all.into_iter().zip(before) {
        assert_eq!(stage.document(file).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_at_once_one_is_taken() {
    let stage = Stage::set().await;
    let other = stage.another_ledger().await;
    let file = stage.prepared(3).await;
    for round in 1..=5 {
        let tasks: Vec<_> = (0..32)
            .map(|number| {
                let ledger = if number % 2 == 0 { stage.ledger.clone() } else { other.clone() };
                tokio::spawn(async move { ledger.claim_chunking(&request(file), OPENING).await.unwrap() })
            })
            .collect();
        let mut taken = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Claim::Taken(held) => taken.push(held),
                Claim::HeldByAnother { .. } => {}
                Claim::NothingToDo => panic!("there was something to do"),
            }
        }
        assert_eq!(taken.len(), 1, "round {round}");
        assert_eq!(
            (taken[0].lease.epoch, taken[0].file.attempts.chunking),
            (Epoch(round), u32::try_from(round).unwrap())
        );
        assert_eq!(stage.ledger.renew(&taken[0].lease, None).await.unwrap(), Renewal::Kept);
        stage.end_lease(file).await;
    }
}
