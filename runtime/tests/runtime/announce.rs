//! Telling NATS what MongoDB holds.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use bus::make_streams;
use contract::{Cause, Digest, Event, EventKind, Expectation, FileId, Hint, ObjectName, Step};
use ledger::FileRecord;
use testing::until;

use crate::stage::Stage;

const CONTENT: &[u8] = b"abc";

fn expectation(content: &[u8]) -> Expectation {
    let name = ObjectName::new("a").unwrap();
    Expectation { sha256: Digest::of(content), size: None, chunks: None, name, remote: "archive".into() }
}

fn of(events: Vec<Event>, file: FileId) -> Vec<(i64, EventKind)> {
    events.into_iter().filter(|event| event.file_id == file).map(|event| (event.version, event.event)).collect()
}

impl Stage {
    async fn until_announced(&self, file: FileId) {
        until("the outbox is empty", async || self.record(file).await.outbox().events.is_empty().then_some(())).await;
    }

    /// Has a finalise request wait that is not what will be stored.
    async fn expect_wrongly(&self, file: FileId) {
        let complete = |_: &FileRecord| Ok::<_, Infallible>(expectation(b"abd"));
        let Ok(_) = self.service.ledger.record_expectation(file, "ada", complete).await.unwrap();
    }
}

#[tokio::test]
async fn events_are_published_in_order_and_taken_out_of_the_outbox() {
    let stage = Stage::set().await;
    let file = stage.prepared().await;
    stage.expect_wrongly(file).await;
    let mut held = stage.claim(file).await;
    stage.service.ledger.record_stored(&mut held, Digest::of(CONTENT)).await.unwrap();
    let record = stage.record(file).await;
    let waiting = record.outbox().events;
    let kinds: Vec<_> = waiting.iter().map(|event| event.event).collect();
    assert_eq!(kinds, [EventKind::Prepared, EventKind::Chunking, EventKind::Stored, EventKind::Mismatch]);

    stage.service.announcer.announce(&record, None);
    stage.until_announced(file).await;
    assert_eq!(stage.events().await, waiting);
    assert_eq!(stage.ms_until(file, "outbox_at").await, None);
    assert_eq!(stage.record(file).await.version, record.version);
    assert_eq!(stage.hints().await, (0, 0), "there is nothing to do for anybody");

    // Announced again by one who looked at the record before: no event is in the stream twice.
    stage.service.announcer.announce(&record, None);
    stage.service.announcer.drain().await;
    assert_eq!(stage.events().await, waiting);
}

#[tokio::test]
async fn a_hint_is_published_with_the_events() {
    let stage = Stage::set().await;
    let file = stage.prepared().await;
    stage.service.announcer.announce(&stage.record(file).await, Some(Step::Prepare));
    stage.until_announced(file).await;
    let hints = stage.messages(&stage.service.names.work_stream()).await;
    let hint = (stage.service.names.hint(Step::Prepare, file), Hint::new(file, Cause::Progress).to_json());
    assert_eq!(hints, [hint]);

    // Another one is refused as long as nobody has taken this one, and the file is looked at later.
    stage.service.announcer.announce(&stage.record(file).await, Some(Step::Prepare));
    until("it is due later", async || stage.ms_until(file, "due_at").await.filter(|ms| *ms > 1_000 && *ms <= 2_000))
        .await;
    assert_eq!(stage.hints().await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transition_announced_at_once_gives_every_event_once_in_order() {
    let stage = Stage::set().await;
    let mut files = Vec::new();
    for _ in 0..10 {
        let file = stage.prepared().await;
        stage.service.announcer.announce(&stage.record(file).await, Some(Step::Prepare));
        let mut held = stage.claim(file).await;
        stage.service.announcer.announce(&held.file, None);
        stage.expect_wrongly(file).await;
        stage.service.announcer.announce(&stage.record(file).await, None);
        stage.service.ledger.record_stored(&mut held, Digest::of(CONTENT)).await.unwrap();
        stage.service.announcer.announce(&stage.record(file).await, None);
        files.push(file);
    }
    stage.service.announcer.drain().await;
    let expected =
        [(1, EventKind::Prepared), (2, EventKind::Chunking), (4, EventKind::Stored), (5, EventKind::Mismatch)];
    for file in files {
        stage.until_announced(file).await;
        assert_eq!(of(stage.events().await, file), expected);
    }
}

#[tokio::test]
async fn what_was_to_be_announced_is_announced_before_the_end() {
    let stage = Stage::set().await;
    let mut files = Vec::new();
    for _ in 0..100 {
        files.push(stage.prepared().await);
    }
    let mut records = Vec::new();
    for file in &files {
        records.push(stage.record(*file).await);
    }
    // All at once, and then the end.
    for record in &records {
        stage.service.announcer.announce(record, None);
    }
    stage.stop().await;
    assert_eq!(stage.events().await.len(), files.len());
    for file in files {
        assert!(stage.record(file).await.outbox().events.is_empty());
    }
}

#[tokio::test]
async fn what_nobody_announced_the_sweep_announces() {
    let stage = Stage::set_with(|settings| settings.work.lease_ms = 15_000).await;
    let file = stage.prepared().await;
    stage.set_ago(file, "outbox_at", 16_000).await;
    stage.until_announced(file).await;
    assert_eq!(of(stage.events().await, file), [(1, EventKind::Prepared)]);
    assert_eq!(stage.hints().await, (0, 0), "it is not due yet");
    stage.set_ago(file, "due_at", 1).await;
    let hints = until("a hint is there", async || {
        Some(stage.messages(&stage.service.names.work_stream()).await).filter(|hints| !hints.is_empty())
    })
    .await;
    let hint = (stage.service.names.hint(Step::Prepare, file), Hint::new(file, Cause::Sweep).to_json());
    assert_eq!(hints, [hint]);
    let due = stage.ms_until(file, "due_at").await.unwrap();
    assert!(due > 5_000 && due <= Duration::from_secs(15).as_millis().try_into().unwrap(), "due in {due} ms");
}

#[tokio::test]
async fn an_event_is_published_even_if_a_stranger_has_used_its_id() {
    let stage = Stage::set().await;
    make_streams(&stage.service.nats, &stage.service.ledger).await.unwrap();
    let file = stage.prepared().await;
    let waiting = stage.record(file).await.outbox().events;
    let jetstream = stage.service.nats.jetstream();
    let subject = stage.service.names.event(file, EventKind::Failed);
    let guess = PublishMessage::build().payload("not an event".into()).message_id(&waiting[0].id);
    jetstream.send_publish(subject.clone(), guess).await.unwrap().await.unwrap();

    for _ in 0..2 {
        stage.service.announcer.announce(&stage.record(file).await, None);
        stage.until_announced(file).await;
    }
    let all = stage.messages(&stage.service.names.events_stream()).await;
    let event = (stage.service.names.event(file, EventKind::Prepared), waiting[0].to_json());
    assert_eq!(all, [(subject, b"not an event".to_vec()), event]);
    stage.stop().await;
}
