//! What becomes of a hint, by what its handler says.

use std::time::Duration;

use bus::Hinted;
use bus::Outcome;
use contract::{Cause, DeadLetter, FileId, Hint, Role, Step};
use testing::until;

use crate::stage::{Stage, next};

/// A lease for tests that tell an answer from silence.
const LEASE_MS: u64 = 4_500;

/// JetStream delivers a hint again that nobody has answered after the lease and a third of it; what comes far earlier was
/// answered.
const ACK_WAIT: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_hint_that_is_done_is_gone() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let file = FileId::generate();
    assert_eq!(stage.hint(file).await, Hinted::Published);
    let hint = next(&mut hints).await;
    assert_eq!(hint.job.file, file);
    stage.until_hints_are((1, 1)).await;
    assert_eq!(stage.hint(file).await, Hinted::Refused, "one hint of a file at a time");
    hint.becomes(Outcome::Done);
    stage.until_hints_are((0, 0)).await;

    assert_eq!(stage.hint(file).await, Hinted::Published, "the next one is no repetition");
    next(&mut hints).await.becomes(Outcome::Done);
    stage.until_hints_are((0, 0)).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_hint_for_a_file_that_another_holds_comes_again_later_and_blocks_nothing() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = LEASE_MS).await;
    let mut hints = stage.take_hints(1);
    let (held, other, wait) = (FileId::generate(), FileId::generate(), Duration::from_millis(800));
    stage.hint(held).await;
    let first = next(&mut hints).await;
    let begun = first.at;
    first.becomes(Outcome::HeldByAnother(wait));
    stage.hint(other).await;
    let between = next(&mut hints).await;
    assert_eq!(between.job.file, other);
    between.becomes(Outcome::Done);
    let again = next(&mut hints).await;
    assert_eq!(again.job.file, held);
    assert!(again.at - begun >= wait && again.at - begun < ACK_WAIT, "it came again after {:?}", again.at - begun);
    stage.end_with(again).await;
}

#[tokio::test]
async fn a_hint_that_is_handed_back_comes_again_at_once() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = LEASE_MS).await;
    let mut hints = stage.take_hints(1);
    let file = FileId::generate();
    stage.hint(file).await;
    for _ in 0..3 {
        next(&mut hints).await.becomes(Outcome::HandedBack);
    }
    let begun = std::time::Instant::now();
    let again = next(&mut hints).await;
    assert!(again.job.file == file && begun.elapsed() < ACK_WAIT / 2, "after {:?}", begun.elapsed());
    stage.end_with(again).await;
}

#[tokio::test]
async fn a_hint_whose_lease_was_lost_is_left_to_whoever_has_the_file() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = LEASE_MS).await;
    let mut hints = stage.take_hints(2);
    let file = FileId::generate();
    stage.hint(file).await;
    let lost = next(&mut hints).await;
    let begun = lost.at;
    lost.becomes(Outcome::Lost);
    let again = next(&mut hints).await;
    assert_eq!(again.job.file, file);
    assert!(again.at - begun > ACK_WAIT - Duration::from_secs(1), "it was answered, after {:?}", again.at - begun);
    stage.end_with(again).await;
}

#[tokio::test]
async fn in_an_outage_a_hint_comes_again_after_a_moment() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 4_000).await;
    let mut hints = stage.take_hints(1);
    let file = FileId::generate();
    stage.hint(file).await;
    let first = next(&mut hints).await;
    let begun = first.at;
    first.becomes(Outcome::Outage("MongoDB is away".into()));
    let again = next(&mut hints).await;
    let after = again.at - begun;
    assert!(again.job.file == file && after >= Duration::from_millis(500) && after < ACK_WAIT, "after {after:?}");
    stage.end_with(again).await;
}

#[tokio::test]
async fn a_handler_that_breaks_down_loses_no_hint() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = LEASE_MS).await;
    let mut hints = stage.take_hints(1);
    let file = FileId::generate();
    stage.hint(file).await;
    let first = next(&mut hints).await;
    let begun = first.at;
    first.breaks_down();
    let again = next(&mut hints).await;
    assert!(again.job.file == file && again.at - begun < ACK_WAIT / 2, "after {:?}", again.at - begun);
    assert!(!stage.service.life.is_stopping(), "one file ends no service");
    stage.end_with(again).await;
}

#[tokio::test]
async fn a_message_that_nobody_can_read_is_kept_where_people_find_it() {
    let stage = Stage::set().await;
    let (names, nats) = (&stage.service.names, &stage.service.nats);
    let (file, other) = (FileId::generate(), FileId::generate());
    let future = String::from_utf8(Hint::new(file, Cause::Request).to_json()).unwrap().replace("\"v\":1", "\"v\":2");
    let right = Hint::new(other, Cause::Request).to_json();
    let unreadable: [(String, Vec<u8>, &str); 5] = [
        (names.hint(Step::Prepare, FileId::generate()), b"not JSON \xff".to_vec(), "JSON"),
        (names.hint(Step::Prepare, FileId::generate()), b"".to_vec(), "JSON"),
        (names.hint(Step::Prepare, file), future.into_bytes(), "version 2"),
        // Subject and body name different files.
        (names.hint(Step::Prepare, FileId::generate()), right.clone(), "expected the subject"),
        (format!("{}.more", names.hint(Step::Prepare, other)), right, "expected the subject"),
    ];
    for (subject, payload, _) in &unreadable {
        let publish = nats.jetstream().publish(subject.clone(), payload.clone().into());
        publish.await.unwrap().await.unwrap();
    }
    let mut hints = stage.take_hints(1);
    let dead = until("all are dead", async || {
        Some(stage.messages(&names.dead_stream()).await).filter(|dead| dead.len() == unreadable.len())
    })
    .await;
    for ((subject, payload, why), (dead_subject, letter)) in unreadable.iter().zip(dead) {
        assert_eq!(dead_subject, names.dead(Role::Chunker));
        let letter = DeadLetter::from_json(&letter).unwrap();
        assert_eq!((letter.worker.as_str(), &letter.subject), ("chunker", subject));
        assert!(letter.reason.contains(why), "{letter:?}");
        assert_eq!(letter.payload, String::from_utf8_lossy(payload));
    }
    stage.until_hints_are((0, 0)).await;
    assert!(hints.try_recv().is_err(), "no handler sees them");

    stage.hint(file).await;
    next(&mut hints).await.becomes(Outcome::Done);
    stage.stop().await;
}

#[tokio::test]
async fn it_is_kept_even_where_the_stream_for_it_was_lost() {
    let stage = Stage::set().await;
    let (names, nats) = (&stage.service.names, &stage.service.nats);
    let mut hints = stage.take_hints(1);
    stage.hint(FileId::generate()).await;
    next(&mut hints).await.becomes(Outcome::Done);
    nats.jetstream().delete_stream(names.dead_stream()).await.unwrap();
    let subject = names.hint(Step::Prepare, FileId::generate());
    nats.jetstream().publish(subject, "unreadable".into()).await.unwrap().await.unwrap();
    stage.until_hints_are((0, 0)).await;
    assert_eq!(stage.messages(&names.dead_stream()).await.len(), 1);
    stage.stop().await;
}

#[tokio::test]
async fn no_more_hints_are_taken_than_there_are_slots() {
    let stage = Stage::set().await;
    for _ in 0..4 {
        stage.hint(FileId::generate()).await;
    }
    let mut hints = stage.take_hints(2);
    let (first, second) = (next(&mut hints).await, next(&mut hints).await);
    stage.until_hints_are((4, 2)).await;
    assert!(hints.try_recv().is_err());
    first.becomes(Outcome::Done);
    let third = next(&mut hints).await;
    stage.until_hints_are((3, 2)).await;
    assert!(hints.try_recv().is_err());
    second.becomes(Outcome::Done);
    third.becomes(Outcome::Done);
    next(&mut hints).await.becomes(Outcome::Done);
    stage.until_hints_are((0, 0)).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_service_that_stops_finishes_what_it_has_and_takes_nothing_new() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(2);
    let (under_way, late) = (FileId::generate(), FileId::generate());
    stage.hint(under_way).await;
    let hint = next(&mut hints).await;
    stage.service.life.stop();
    stage.hint(late).await;
    let life = stage.service.life.clone();
    let ended = tokio::spawn(async move { life.ended().await });
    // Nothing but the answer can end it: its connections are still there.
    stage.service.nats.client().flush().await.unwrap();
    assert!(!ended.is_finished());
    hint.becomes(Outcome::Done);
    ended.await.unwrap().unwrap();
    stage.service.nats.client().flush().await.unwrap();
    stage.until_hints_are((1, 0)).await;
    assert!(hints.try_recv().is_err(), "the late one is left to others");
}

#[tokio::test]
async fn hints_come_again_when_their_consumer_was_lost() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let file = stage.prepared().await;
    stage.hint(file).await;
    let first = next(&mut hints).await;
    let stream = stage.service.nats.jetstream().get_stream(stage.service.names.work_stream()).await.unwrap();
    stream.delete_consumer("chunker").await.unwrap();
    first.becomes(Outcome::Lost);
    let again = next(&mut hints).await;
    assert_eq!(again.job.file, file);
    stage.end_with(again).await;
}

#[tokio::test]
async fn hints_come_again_when_their_stream_was_lost() {
    // With the default lease, so that what is not due comes late.
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 15_000).await;
    let mut hints = stage.take_hints(1);
    let file = stage.prepared().await;
    let prepared = std::time::Instant::now();
    stage.hint(file).await;
    let first = next(&mut hints).await;
    let stream = stage.service.names.work_stream();
    stage.service.nats.jetstream().delete_stream(&stream).await.unwrap();
    first.becomes(Outcome::Done);
    // The stream is made anew, and what was not due for 15 s is due at once.
    let again = next(&mut hints).await;
    assert_eq!(again.job.file, file);
    assert!(prepared.elapsed() < Duration::from_secs(12), "it came after {:?}", prepared.elapsed());
    again.becomes(Outcome::Done);
    stage.stop().await;
}
