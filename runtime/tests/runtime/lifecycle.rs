//! How a process comes to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use runtime::EndedBadly;
use runtime::Lifecycle;
use tokio::sync::Notify;

/// Longer than any test waits for.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_task_that_ends_by_itself_ends_the_process() {
    let life = Lifecycle::new(LONG);
    let other = Arc::new(Notify::new());
    life.spawn("one that works", {
        let (life, other) = (life.clone(), other.clone());
        async move {
            life.stopping().await;
            other.notify_one();
        }
    });
    life.spawn("one that ends", async {});
    let ended = life.ended().await;
    assert!(
        matches!(&ended, Err(EndedBadly::Task(why)) if why == "the task one that ends ended by itself"),
        "{ended:?}"
    );
    assert!(life.is_stopping());
    assert!(other.notified().now_or_never().is_some(), "the others were asked to stop and waited for");
}

#[tokio::test]
async fn a_task_that_breaks_down_ends_the_process() {
    let life = Lifecycle::new(LONG);
    life.spawn("one that breaks down", async { panic!("it had to be") });
    match life.ended().await {
        Err(EndedBadly::Task(why)) => assert!(why.starts_with("the task one that breaks down broke down"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_task_that_breaks_down_while_it_stops_is_told_too() {
    let life = Lifecycle::new(LONG);
    let stopping = life.clone();
    life.spawn("one", async move {
        stopping.stopping().await;
        panic!("it had to be");
    });
    life.stop();
    let ended = life.ended().await;
    assert!(matches!(ended, Err(EndedBadly::Task(_))), "{ended:?}");
}

#[tokio::test]
async fn the_first_reason_counts() {
    let life = Lifecycle::new(LONG);
    life.fail("the first".into());
    life.fail("the second".into());
    let ended = life.ended().await;
    assert!(matches!(&ended, Err(EndedBadly::Task(why)) if why == "the first"), "{ended:?}");
}

#[tokio::test]
async fn nothing_ends_that_nobody_stops() {
    let life = Lifecycle::new(Duration::ZERO);
    let working = life.clone();
    life.spawn("one", async move { working.stopping().await });
    tokio::task::yield_now().await;
    assert!(!life.is_stopping());
    assert!(life.ended().now_or_never().is_none());
    assert!(life.stopping().now_or_never().is_none());
    assert!(life.handing_back().now_or_never().is_none());
}

#[tokio::test]
async fn the_end_waits_for_every_task() {
    let life = Lifecycle::new(LONG);
    let done = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    for done in &done {
        let done = done.clone();
        life.spawn("one that finishes its work", async move { done.notified().await });
    }
    life.stop();
    let waiting = life.clone();
    let ended = tokio::spawn(async move { waiting.ended().await });
    for one in &done {
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        one.notify_one();
    }
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_task_that_does_not_end_is_cut_after_the_grace() {
    let grace = Duration::from_millis(300);
    let life = Lifecycle::new(grace);
    life.spawn("one that hangs", std::future::pending());
    let begun = Instant::now();
    life.stop();
    let ended = life.ended().await;
    assert!(matches!(ended, Err(EndedBadly::Cut(cut)) if cut == grace), "{ended:?}");
    assert!(begun.elapsed() >= grace);
    assert!(begun.elapsed() < LONG / 4);
}

#[tokio::test]
async fn why_it_failed_says_more_than_that_it_was_cut() {
    let life = Lifecycle::new(Duration::from_millis(10));
    life.spawn("one that hangs", std::future::pending());
    life.fail("the reason".into());
    let ended = life.ended().await;
    assert!(matches!(&ended, Err(EndedBadly::Task(why)) if why == "the reason"), "{ended:?}");
}

#[tokio::test]
async fn work_is_handed_back_after_half_of_the_grace() {
    let grace = Duration::from_millis(600);
    let life = Lifecycle::new(grace);
    let begun = Instant::now();
    life.stop();
    life.stopping().await;
    assert!(life.handing_back().now_or_never().is_none(), "first it may be finished");
    life.stop();
    life.handing_back().await;
    let after = begun.elapsed();
    assert!(after >= grace / 2, "after {after:?}");
}
