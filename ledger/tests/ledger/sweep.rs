//! Finding what nobody looked at in time.

use std::time::Duration;

use contract::{FileId, Step};
use ledger::{DueAction, Outbox, Overdue};
use mongodb::bson::doc;
use testing::until;

use crate::stage::{HINT_PUSH, LEASE, Stage, problem};

fn summary(overdue: &[Overdue]) -> Vec<(FileId, DueAction)> {
    overdue.iter().map(|overdue| (overdue.file, overdue.action)).collect()
}

async fn overdue_one(stage: &Stage, file: FileId) -> Overdue {
    let mut all = stage.ledger.overdue(1000).await.unwrap();
    all.retain(|overdue| overdue.file == file);
    all.pop().unwrap()
}

#[tokio::test]
async fn what_is_due_is_listed_oldest_first_with_its_errand() {
    let stage = Stage::set().await;
    let prepared = stage.prepared(3).await;
    let chunking = stage.chunking(3).await.lease.file;
    let accepted = stage.accepted(b"abc").await;
    let delivering = stage.delivering(b"abc").await.lease.file;
    // These have nothing due, or not yet.
    stage.prepared(3).await;
    stage.chunking(3).await;
    stage.resting(b"abc").await;
    stage.accepted(b"abc").await;
    let (delivered, resting) = (stage.delivered(b"abc").await, stage.resting(b"abc").await);
    stage.failed().await;
    assert!(stage.ledger.overdue(256).await.unwrap().is_empty());

    for (file, ms) in [(prepared, 3_000), (chunking, 4_000), (accepted, 1_000), (delivering, 2_000)] {
        stage.set_ago(file, "due_at", ms).await;
    }
    stage.set_ago(delivered, "due_at", 500).await;
    stage.set_ago(resting, "due_at", 400).await;
    let due = [
        (chunking, DueAction::Hint(Step::Prepare)),
        (prepared, DueAction::Hint(Step::Prepare)),
        (delivering, DueAction::Hint(Step::Finalise)),
        (accepted, DueAction::Hint(Step::Finalise)),
        (delivered, DueAction::RemoveContent),
        (resting, DueAction::EndRest),
    ];
    assert_eq!(summary(&stage.ledger.overdue(256).await.unwrap()), due);
    assert_eq!(summary(&stage.ledger.overdue(3).await.unwrap()), due[..3]);
}

#[tokio::test]
async fn a_retry_is_due_at_its_time() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    stage.ledger.record_retry(&held.lease, &problem(), Duration::from_millis(200)).await.unwrap().unwrap();
    let due = until("the retry is due", async || stage.ledger.overdue(1).await.unwrap().pop()).await;
    assert_eq!((due.file, due.action), (held.lease.file, DueAction::Hint(Step::Prepare)));
    assert!(stage.ms_until(due.file, "not_before").await.unwrap() <= 0, "whoever takes the hint may claim the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_sweeps_at_once_one_publishes_the_hint() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    for round in 0..5 {
        stage.set_ago(file, "due_at", 1_000).await;
        let version = stage.record(file).await.version;
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let ledger = stage.ledger.clone();
                tokio::spawn(async move {
                    match ledger.overdue(10).await.unwrap().pop() {
                        Some(overdue) => ledger.push_due(&overdue).await.unwrap(),
                        None => false,
                    }
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            won += u32::from(task.await.unwrap());
        }
        assert_eq!(won, 1, "round {round}");
        stage.assert_set_to(file, "due_at", HINT_PUSH).await;
        assert_eq!(stage.record(file).await.version, version, "a push is no change of state");
    }
}

#[tokio::test]
async fn what_was_claimed_in_between_is_not_pushed() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    stage.set_ago(file, "due_at", 1_000).await;
    let overdue = overdue_one(&stage, file).await;
    stage.claim(file).await;
    assert!(!stage.ledger.push_due(&overdue).await.unwrap());
    stage.assert_set_to(file, "due_at", LEASE).await;
}

#[tokio::test]
async fn every_refused_hint_doubles_the_wait_up_to_five_minutes() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    for seconds in [30, 60, 120, 240, 300, 300] {
        stage.ledger.record_refused_hint(file).await.unwrap();
        stage.assert_set_to(file, "due_at", Duration::from_secs(seconds)).await;
    }
    for _ in 0..10 {
        stage.ledger.record_refused_hint(file).await.unwrap();
    }
    stage.assert_set_to(file, "due_at", Duration::from_secs(300)).await;

    let held = stage.claim(file).await;
    stage.ledger.hand_back(&held.lease).await.unwrap().unwrap();
    stage.ledger.record_refused_hint(file).await.unwrap();
    stage.assert_set_to(file, "due_at", Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_refused_hint_moves_nothing_that_is_held_or_at_rest() {
    let stage = Stage::set().await;
    let (held, resting) = (stage.chunking(3).await.lease.file, stage.resting(b"abc").await);
    let delivered = stage.delivered(b"abc").await;
    for file in [held, resting, delivered] {
        let before = stage.document(file).await;
        stage.ledger.record_refused_hint(file).await.unwrap();
        assert_eq!(stage.document(file).await, before);
    }
    stage.ledger.record_refused_hint(FileId::generate()).await.unwrap();
    assert_eq!(stage.count("files").await, 3);
}

#[tokio::test]
async fn when_all_hints_are_lost_all_that_waits_for_one_is_due() {
    let stage = Stage::set().await;
    let (prepared, accepted) = (stage.prepared(3).await, stage.accepted(b"abc").await);
    let refused = stage.prepared(3).await;
    stage.ledger.record_refused_hint(refused).await.unwrap();
    let abandoned = stage.chunking(3).await.lease.file;
    stage.set_ago(abandoned, "lease.until", 1).await;
    // These are left as they are: held, not before their time, at rest.
    let later = stage.chunking(3).await;
    stage.ledger.record_retry(&later.lease, &problem(), LEASE).await.unwrap().unwrap();
    let held = [stage.chunking(3).await.lease.file, stage.delivering(b"abc").await.lease.file];
    let rest = [stage.resting(b"abc").await, stage.delivered(b"abc").await, stage.failed().await];
    let left: Vec<_> = [later.lease.file].into_iter().chain(held).chain(rest).collect();
    let mut before = Vec::new();
    for file in &left {
        before.push(stage.document(*file).await);
    }

    assert_eq!(stage.ledger.make_all_due().await.unwrap(), 4);

    for file in [prepared, accepted, refused, abandoned] {
        stage.assert_set_to(file, "due_at", Duration::ZERO).await;
    }
    for (file, before) in left.iter().zip(before) {
        assert_eq!(stage.document(*file).await, before);
    }
    stage.ledger.record_refused_hint(refused).await.unwrap();
    stage.assert_set_to(refused, "due_at", Duration::from_secs(30)).await;
}

#[tokio::test]
async fn outboxes_that_nobody_empties_are_found_oldest_first() {
    let stage = Stage::set().await;
    let files = [stage.prepared(3).await, stage.delivered(b"abc").await, stage.failed().await, stage.prepared(3).await];
    let ids = |outboxes: &[Outbox]| outboxes.iter().map(|outbox| outbox.file).collect::<Vec<_>>();
    assert!(stage.ledger.stale_outboxes(256).await.unwrap().is_empty(), "whoever made the events publishes them");

    for (file, ms) in files.into_iter().zip([20_000, 40_000, 30_000, 10_000]) {
        stage.set_ago(file, "outbox_at", ms).await;
    }
    let stale = stage.ledger.stale_outboxes(256).await.unwrap();
    assert_eq!(ids(&stale), [files[1], files[2], files[0]]);
    assert_eq!(stale[0].events, stage.record(files[1]).await.outbox().events);
    assert_eq!(ids(&stage.ledger.stale_outboxes(2).await.unwrap()), [files[1], files[2]]);

    stage.ledger.pop_outbox(files[1], stage.record(files[1]).await.version).await.unwrap();
    assert_eq!(ids(&stage.ledger.stale_outboxes(256).await.unwrap()), [files[2], files[0]]);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_no_other_waiting() {
    let stage = Stage::set().await;
    let odd = stage.prepared(3).await;
    let file = stage.prepared(3).await;
    stage.change(odd, vec![doc! { "$set": { "state": 7 } }]).await;
    for (file, ms) in [(odd, 100_000), (file, 90_000)] {
        stage.set_ago(file, "due_at", ms).await;
        stage.set_ago(file, "outbox_at", ms).await;
    }
    assert_eq!(summary(&stage.ledger.overdue(256).await.unwrap()), [(file, DueAction::Hint(Step::Prepare))]);
    let outboxes: Vec<_> = stage.ledger.stale_outboxes(256).await.unwrap().iter().map(|outbox| outbox.file).collect();
    assert_eq!(outboxes, [file]);
}
