//! Events that wait to be published.

use std::sync::Arc;
use std::time::Duration;

use contract::{Event, EventKind, FileId};
use ledger::Ledger;
use tokio::sync::Barrier;

use crate::stage::{OPENING, Stage, request};

const WHOLE_WAY: [EventKind; 5] =
    [EventKind::Prepared, EventKind::Chunking, EventKind::Stored, EventKind::Delivering, EventKind::Delivered];

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.event).collect()
}

#[tokio::test]
async fn events_wait_in_order_with_the_versions_they_made() {
    let stage = Stage::set().await;
    let file = stage.delivered(b"abc").await;
    let record = stage.record(file).await;
    let outbox = record.outbox();
    assert_eq!((outbox.file, kinds(&outbox.events)), (file, WHOLE_WAY.to_vec()));
    // The fourth version is the finalise request, which is no event.
    let versions: Vec<_> = outbox.events.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 3, 5, 6]);
    for event in &outbox.events {
        assert_eq!((event.file_id, event.name.as_str()), (file, "b.bin"));
        assert_eq!(event.id, format!("{file}:{}", event.version));
    }
    assert!(outbox.events.is_sorted_by_key(|event| event.at));
    assert_eq!(outbox.events.last().unwrap().at, record.updated_at);
}

#[tokio::test]
async fn a_pop_takes_what_was_published_and_keeps_the_rest() {
    let stage = Stage::set().await;
    let file = stage.delivered(b"abc").await;
    let version = stage.record(file).await.version;
    for (popped, left) in [(0, 5), (1, 4), (1, 4), (3, 2), (4, 2), (5, 1)] {
        stage.ledger.pop_outbox(file, popped).await.unwrap();
        let outbox = stage.record(file).await.outbox();
        assert_eq!(kinds(&outbox.events), WHOLE_WAY[5 - left..], "up to {popped}");
        assert!(stage.ms_until(file, "outbox_at").await.is_some(), "something waits after the pop up to {popped}");
    }
    stage.ledger.pop_outbox(file, 6).await.unwrap();
    assert!(stage.record(file).await.outbox().events.is_empty());
    assert_eq!(stage.ms_until(file, "outbox_at").await, None);
    assert_eq!(stage.record(file).await.version, version, "a pop is no change of state");
    stage.ledger.pop_outbox(file, 6).await.unwrap();
    assert_eq!(stage.ms_until(file, "outbox_at").await, None);
}

#[tokio::test]
async fn a_pop_for_an_unknown_file_makes_no_record() {
    let stage = Stage::set().await;
    stage.ledger.pop_outbox(FileId::generate(), 1).await.unwrap();
    assert_eq!(stage.count("files").await, 0);
}

#[tokio::test]
async fn the_next_event_after_an_empty_outbox_waits_again() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    stage.ledger.pop_outbox(file, 1).await.unwrap();
    stage.claim(file).await;
    assert_eq!(kinds(&stage.record(file).await.outbox().events), [EventKind::Chunking]);
    stage.assert_set_to(file, "outbox_at", Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pop_and_a_transition_at_once_lose_nothing() {
    let stage = Stage::set().await;
    for round in 0..40 {
        let file = stage.prepared(3).await;
        let barrier = Arc::new(Barrier::new(2));
        let popping = {
            let (ledger, barrier) = (stage.ledger.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                ledger.pop_outbox(file, 1).await.unwrap();
            })
        };
        barrier.wait().await;
        stage.ledger.claim_chunking(&request(file), OPENING).await.unwrap();
        popping.await.unwrap();
        assert_eq!(kinds(&stage.record(file).await.outbox().events), [EventKind::Chunking], "round {round}");
        assert!(stage.ms_until(file, "outbox_at").await.is_some(), "round {round}");
    }
}

/// Publishes as announcers and sweeps do: head by head, until the outbox is empty and `done` says so.
async fn publish_all(ledger: Ledger, file: FileId, done: Arc<std::sync::atomic::AtomicBool>) -> Vec<Event> {
    let mut published = Vec::new();
    loop {
        let finished = done.load(std::sync::atomic::Ordering::SeqCst);
        let outbox = ledger.file(file).await.unwrap().unwrap().outbox();
        match outbox.events.into_iter().next() {
            Some(head) => {
                ledger.pop_outbox(file, head.version).await.unwrap();
                published.push(head);
            }
            None if finished => return published,
            None => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pops_along_the_way_sees_every_event_in_order() {
    let stage = Stage::set().await;
    for _ in 0..8 {
        let file = stage.prepared(3).await;
        let done = Arc::default();
        let publishing = tokio::spawn(publish_all(stage.ledger.clone(), file, Arc::clone(&done)));
        let mut held = stage.claim(file).await;
        stage.ledger.record_stored(&mut held, contract::Digest::of(b"abc")).await.unwrap();
        stage.expect(file, &crate::stage::expectation(b"abc")).await;
        let held = stage.claim_delivering(file).await;
        stage.ledger.record_delivered(&held.lease, &testing::receipt(&held)).await.unwrap().unwrap();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(kinds(&publishing.await.unwrap()), WHOLE_WAY);
    }
}
