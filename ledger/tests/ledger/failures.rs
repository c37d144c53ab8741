//! What the record keeps of attempts that failed.

use std::time::Duration;

use contract::{FileId, State};
use ledger::{Failure, Problem};

use crate::stage::{Stage, problem};

/// Phase, number and detail.
fn shown(failures: &[Failure]) -> Vec<(State, u32, &str)> {
    failures.iter().map(|failure| (failure.phase, failure.attempt, failure.detail.as_str())).collect()
}

fn because(detail: &str) -> Problem {
    Problem::new(contract::ProblemKind::RemoteUnavailable, detail)
}

/// Claims the file and has the attempt fail; the next may begin at once.
async fn fail_once(stage: &Stage, file: FileId, detail: &str) {
    let held = stage.claim_delivering(file).await;
    stage.ledger.record_retry(&held.lease, &because(detail), Duration::ZERO).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_attempt_that_failed_is_kept_with_its_number_and_reason() {
    let stage = Stage::set().await;
    let held = stage.chunking(3).await;
    let file = held.lease.file;
    assert_eq!(held.file.failures, []);
    let record = stage.ledger.record_retry(&held.lease, &problem(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(shown(&record.failures), [(State::Chunking, 1, &*problem().detail)]);
    let failure = &record.failures[0];
    assert_eq!((failure.uri.as_str(), failure.at), ("/problems/source-missing", record.updated_at));

    // What a caller or a remote wrote is no expression.
    let held = stage.claim(file).await;
    let mut odd = because("$state {$add: 1}");
    odd.uri = "$type".into();
    let record = stage.ledger.record_failed(&held.lease, &odd).await.unwrap().unwrap();
    assert_eq!(shown(&record.failures)[1..], [(State::Chunking, 2, "$state {$add: 1}")]);
    assert_eq!(record.failures[1].uri, "$type");
    assert_eq!(stage.record(file).await.failures, record.failures);
}

#[tokio::test]
async fn attempts_without_a_word_are_gaps_and_those_given_back_are_none() {
    let stage = Stage::set().await;
    let file = stage.accepted(b"abc").await;
    fail_once(&stage, file, "first").await;
    stage.claim_delivering(file).await;
    stage.end_lease(file).await;
    fail_once(&stage, file, "third").await;
    let held = stage.claim_delivering(file).await;
    stage.ledger.hand_back(&held.lease).await.unwrap().unwrap();
    fail_once(&stage, file, "fourth").await;
    let held = stage.claim_delivering(file).await;
    let expected = [(1, "first"), (3, "third"), (4, "fourth")].map(|(n, why)| (State::Delivering, n, why));
    assert_eq!(shown(&held.file.failures), expected);
    assert!(held.file.failures.iter().is_sorted_by_key(|failure| failure.at));

    // The holder of a lease that is lost says nothing.
    stage.end_lease(file).await;
    assert!(stage.ledger.record_retry(&held.lease, &because("late"), Duration::ZERO).await.unwrap().is_none());
    assert!(stage.ledger.record_failed(&held.lease, &because("late")).await.unwrap().is_none());
    assert_eq!(shown(&stage.record(file).await.failures), expected);
}

#[tokio::test]
async fn a_requeue_keeps_them_and_counts_anew() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    stage.ledger.record_failed(&held.lease, &because("before")).await.unwrap().unwrap();
    stage.ledger.requeue(file).await.unwrap();
    fail_once(&stage, file, "after").await;
    let held = stage.claim_delivering(file).await;
    assert_eq!(shown(&held.file.failures), [(State::Delivering, 1, "before"), (State::Delivering, 1, "after")]);
    assert_eq!(held.file.attempts.delivering, 2);
}

#[tokio::test]
async fn of_many_the_last_are_kept_and_of_long_ones_the_beginning() {
    let stage = Stage::set().await;
    let file = stage.accepted(b"abc").await;
    for number in 1..=23 {
        fail_once(&stage, file, &format!("{number} {}", "\u{1}\"ä".repeat(1000))).await;
    }
    let record = stage.record(file).await;
    assert_eq!(record.attempts.delivering, 23);
    let numbers: Vec<u32> = record.failures.iter().map(|failure| failure.attempt).collect();
    assert_eq!(numbers, (4..=23).collect::<Vec<_>>());
    assert!(record.failures.iter().all(|failure| failure.detail.starts_with(&format!("{} ", failure.attempt))));
    let json = serde_json::to_vec(&record.failures).unwrap();
    assert!(json.len() < 16 * 1024, "{} bytes", json.len());
    let last = record.error.unwrap().detail.chars().count();
    assert!((1900..=Problem::DETAIL_CHARS).contains(&last), "the last one has {last} characters");
}
