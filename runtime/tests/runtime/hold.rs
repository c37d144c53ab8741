//! Holding a file while it is worked on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bus::Outcome;
use contract::FileId;
use ledger::{Claim, ClaimedFile, Progress};
use runtime::work::{self, Ended, Holding};
use settings::Secret;
use testing::{DEADLINE, own_mongo, until};
use tokio::sync::mpsc;

use crate::stage::{Delivered, Stage, next};

/// Takes the hint for a file, and the file.
async fn take(stage: &Stage, hints: &mut mpsc::Receiver<Delivered>) -> (Delivered, ClaimedFile) {
    let file = stage.prepared().await;
    stage.hint(file).await;
    let hint = next(hints).await;
    let held = stage.claim(hint.job.file).await;
    (hint, held)
}

/// Work that never ends, and tells whether it was dropped.
fn endless() -> (impl Future<Output = ()>, Arc<AtomicBool>) {
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = OnDrop(dropped.clone());
    let work = async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    };
    (work, dropped)
}

async fn end_lease(stage: &Stage, file: FileId) {
    stage.set_ago(file, "lease.until", 1).await;
}

#[tokio::test]
async fn a_lease_and_its_hint_live_as_long_as_the_work() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(2);
    let (hint, held) = take(&stage, &mut hints).await;
    let (file, begun) = (held.lease.file, Instant::now());
    let holding = Holding::start(&stage.service, &held, &hint.job);
    let noted = Progress { chunks_stored: 7, bytes_stored: 70, bytes_delivered: 700 };
    let fence = holding.fence().clone();
    fence.note_progress(|progress| *progress = noted);

    // Longer than the lease of 1 s, and than the third more after which JetStream delivers what shows no sign of life.
    let work = async {
        while begun.elapsed() < Duration::from_secs(4) {
            assert!(stage.ms_until(file, "lease.until").await.unwrap() > 0, "it ended after {:?}", begun.elapsed());
            let claim = stage.try_claim(file).await;
            assert!(matches!(claim, Claim::HeldByAnother { .. }), "{claim:?}");
            fence.check().unwrap();
        }
        "done"
    };
    let ended = holding.run(&stage.service, work).await;
    assert!(matches!(ended, Ended::Finished("done")), "{ended:?}");
    assert!(hints.try_recv().is_err(), "the hint was delivered to another");
    let record = stage.record(file).await;
    assert_eq!((record.progress, record.version, record.epoch), (noted, held.file.version, held.file.epoch));

    // And no longer.
    until("the lease ends", async || match stage.try_claim(file).await {
        Claim::Taken(held) => Some(held),
        _ => None,
    })
    .await;
    stage.end_with(hint).await;
}

#[tokio::test]
async fn when_another_takes_the_file_the_work_is_dropped() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let (hint, held) = take(&stage, &mut hints).await;
    let holding = Holding::start(&stage.service, &held, &hint.job);
    holding.fence().check().unwrap();
    end_lease(&stage, held.lease.file).await;
    let other = stage.claim(held.lease.file).await;

    let fence = holding.fence().clone();
    let (work, dropped) = endless();
    let ended = tokio::time::timeout(DEADLINE, holding.run(&stage.service, work)).await.unwrap();
    assert!(matches!(ended, Ended::Lost), "{ended:?}");
    assert!(dropped.load(Ordering::SeqCst));
    fence.check().unwrap_err();
    fence.clone().check().unwrap_err();
    let record = stage.record(held.lease.file).await;
    assert_eq!(
        (record.epoch, record.version),
        (other.lease.epoch, other.file.version),
        "the other's file is untouched"
    );
    hint.becomes(Outcome::Lost);
    stage.stop().await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_ends_the_work_in_time_and_is_given_back_when_mongodb_answers() {
    let mongo = own_mongo().await;
    let lease = Duration::from_secs(4);
    let stage = Stage::set_with(|settings| {
        settings.mongodb.uri = Secret::new(mongo.uri());
        // Longer than the lease: what is waited for must not keep the holder from noticing.
        settings.mongodb.operation_timeout_ms = 60_000;
        settings.work.lease_ms = 4_000;
    })
    .await;
    let mut hints = stage.take_hints(1);
    let (hint, held) = take(&stage, &mut hints).await;
    let holding = Holding::start(&stage.service, &held, &hint.job);
    let fence = holding.fence().clone();
    mongo.pause().unwrap();
    let silent = Instant::now();

    let (work, dropped) = endless();
    let ended = tokio::time::timeout(DEADLINE, holding.run(&stage.service, work)).await;
    let noticed = silent.elapsed();
    assert!(matches!(ended, Ok(Ended::HandBack)), "{ended:?}");
    assert!(noticed < lease, "noticed after {noticed:?}");
    assert!(dropped.load(Ordering::SeqCst));
    fence.check().unwrap_err();

    let giving = work::hand_back(&stage.service, &held.lease);
    let (outcome, ()) = tokio::join!(giving, async { mongo.resume().unwrap() });
    assert!(matches!(outcome, Outcome::HandedBack), "{outcome:?}");
    let record = stage.record(held.lease.file).await;
    assert_eq!((record.attempts.chunking, record.holder()), (0, None), "an outage is no attempt");
    hint.becomes(outcome);
    stage.stop().await;
}

#[tokio::test]
async fn a_wish_to_cancel_reaches_the_holder_with_a_renewal_and_its_lease_goes_on() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let (hint, held) = take(&stage, &mut hints).await;
    let holding = Holding::start(&stage.service, &held, &hint.job);
    assert!(!holding.fence().is_cancel_requested());
    stage.service.ledger.cancel(held.lease.file).await.unwrap();
    tokio::time::timeout(DEADLINE, holding.fence().cancel_requested()).await.unwrap();
    holding.fence().check().unwrap();
    let record = stage.service.ledger.record_cancelled(&held.lease).await.unwrap().expect("it is ours to cancel");
    assert_eq!(record.state, contract::State::Cancelled);
    hint.becomes(Outcome::Done);
    stage.stop().await;
}

#[tokio::test]
async fn work_that_is_not_done_by_half_of_the_grace_is_handed_back() {
    let stage = Stage::set_with(|settings| settings.work.grace_ms = 2_000).await;
    let mut hints = stage.take_hints(1);
    let (hint, held) = take(&stage, &mut hints).await;
    let holding = Holding::start(&stage.service, &held, &hint.job);
    stage.service.life.stop();
    let stopped = Instant::now();

    let quick =
        Holding::start(&stage.service, &held, &hint.job).run(&stage.service, stage.record(held.lease.file)).await;
    assert!(matches!(quick, Ended::Finished(_)), "what can be finished is finished");
    let fence = holding.fence().clone();
    let (work, dropped) = endless();
    let ended = tokio::time::timeout(DEADLINE, holding.run(&stage.service, work)).await.unwrap();
    assert!(matches!(ended, Ended::HandBack), "{ended:?}");
    assert!(stopped.elapsed() >= Duration::from_millis(900), "after {:?}", stopped.elapsed());
    assert!(dropped.load(Ordering::SeqCst));
    fence.check().unwrap();
    stage.service.ledger.hand_back(&held.lease).await.unwrap().expect("it is ours to hand back");
    hint.becomes(Outcome::HandedBack);
    stage.service.life.ended().await.unwrap();
}

#[tokio::test]
async fn once_the_work_has_ended_no_renewal_meets_the_write_that_ends_the_attempt() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 12_000).await;
    let mut hints = stage.take_hints(1);
    let (hint, held) = take(&stage, &mut hints).await;
    let holding = Holding::start(&stage.service, &held, &hint.job);
    let fence = holding.fence().clone();
    let ended = holding.run(&stage.service, async {}).await;
    assert!(matches!(ended, Ended::Finished(())), "{ended:?}");
    // The write that ends an attempt frees the lease. A renewal after a quarter of the lease would find it lost.
    stage.service.ledger.hand_back(&held.lease).await.unwrap().expect("it is ours to hand back");
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    fence.check().unwrap();
    hint.becomes(Outcome::HandedBack);
    stage.stop().await;
}
