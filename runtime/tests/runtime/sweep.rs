//! What every service does beside its work: streams as they should be, hints for what is due.

use std::time::Duration;

use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy};
use bus::Outcome;
use contract::{EventKind, FileId, Step, StreamSpec};
use testing::until;

use crate::stage::{Stage, next};

#[tokio::test]
async fn the_streams_are_as_the_contract_says() {
    let stage = Stage::set().await;
    for spec in StreamSpec::all(&stage.service.names) {
        let config = stage.stream(&spec.name).await.config;
        assert_eq!((&config.subjects, config.max_message_size), (&spec.subjects, spec.max_message_size));
        assert_eq!((config.max_messages, config.max_age), (spec.max_messages, spec.max_age.unwrap_or_default()));
        let work = spec.name == stage.service.names.work_stream();
        let one_each = (config.max_messages_per_subject, config.discard_new_per_subject, config.discard);
        if work {
            assert_eq!(config.retention, RetentionPolicy::WorkQueue);
            assert_eq!(one_each, (1, true, DiscardPolicy::New));
        } else {
            assert_eq!(config.retention, RetentionPolicy::Limits);
            assert_eq!(one_each, (-1, false, DiscardPolicy::Old));
        }
    }
}

#[tokio::test]
async fn a_stream_that_somebody_changed_is_mended_with_its_messages() {
    let stage = Stage::set().await;
    stage.hint(FileId::generate()).await;
    let name = stage.service.names.work_stream();
    let mut changed = stage.stream(&name).await.config;
    (changed.max_messages, changed.description) = (7, Some("mine".into()));
    // This is the operator's.
    changed.max_bytes = 1 << 30;
    stage.service.nats.jetstream().update_stream(&changed).await.unwrap();

    let other = stage.another().await;
    let spec = StreamSpec::all(&stage.service.names).into_iter().find(|spec| spec.name == name).unwrap();
    until("the stream is mended", async || {
        (other.stream(&name).await.config.max_messages == spec.max_messages).then_some(())
    })
    .await;
    let mended = other.stream(&name).await;
    assert_eq!((mended.config.description.as_deref(), mended.state.messages), (Some(spec.description), 1));
    assert_eq!(mended.config.max_bytes, 1 << 30);
}

#[tokio::test]
async fn a_file_that_nobody_came_for_is_hinted_at_until_somebody_does() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let file = stage.prepared().await;
    for _ in 0..2 {
        stage.set_ago(file, "due_at", 1_000).await;
        let hint = next(&mut hints).await;
        assert_eq!(hint.job.file, file);
        hint.becomes(Outcome::Done);
        stage.until_hints_are((0, 0)).await;
    }
    stage.fail(file).await;
    let due = stage.ms_until(file, "due_at").await.unwrap();
    assert!(due > 86_400_000, "only its content is due to go, much later: {due}");
    stage.stop().await;
}

#[tokio::test]
async fn a_file_whose_worker_died_is_hinted_at_again() {
    let stage = Stage::set().await;
    let mut hints = stage.take_hints(1);
    let file = stage.prepared().await;
    // Claimed for 1 s, and never heard of again.
    let begun = std::time::Instant::now();
    stage.claim(file).await;
    let hint = next(&mut hints).await;
    assert_eq!(hint.job.file, file);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let held = stage.claim(file).await;
    assert_eq!(held.lease.epoch.0, 2);
    hint.becomes(Outcome::Done);
    stage.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_that_was_lost_is_made_again() {
    let stage = Stage::set().await;
    let file = stage.prepared().await;
    stage.service.nats.jetstream().delete_stream(stage.service.names.events_stream()).await.unwrap();
    // Whoever announces it now does not get it done.
    stage.service.announcer.announce(&stage.record(file).await, None);
    stage.service.announcer.drain().await;
    assert_eq!(stage.record(file).await.outbox().events.len(), 1);
    stage.set_ago(file, "outbox_at", 16_000).await;
    until("the event is announced", async || stage.record(file).await.outbox().events.is_empty().then_some(())).await;
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn several_services_sweep_without_repeating_each_other() {
    let stage = Stage::set().await;
    let others = [stage.another().await, stage.another().await];
    let mut files = Vec::new();
    for _ in 0..30 {
        let file = stage.prepared().await;
        stage.set_ago(file, "due_at", 1).await;
        stage.set_ago(file, "outbox_at", 16_000).await;
        files.push(file);
    }
    stage.until_hints_are((30, 0)).await;
    for file in &files {
        // Refused hints would have pushed it further.
        assert!(stage.ms_until(*file, "due_at").await.unwrap() <= 15_000);
    }
    until("all events are there", async || (stage.events().await.len() >= 30).then_some(())).await;
    for other in &others {
        other.service.announcer.drain().await;
    }
    stage.service.announcer.drain().await;
    let events = stage.events().await;
    assert_eq!(events.len(), 30, "a repetition is dropped by its id");
    assert!(events.iter().all(|event| event.event == EventKind::Prepared));
    let subjects: Vec<_> = stage.messages(&stage.service.names.work_stream()).await.into_iter().map(|m| m.0).collect();
    for file in files {
        assert!(subjects.contains(&stage.service.names.hint(Step::Prepare, file)));
    }
}

#[tokio::test]
async fn content_goes_when_its_retention_is_over() {
    let stage = Stage::set().await;
    let file = stage.prepared().await;
    stage.fail(file).await;
    stage.set_ago(file, "due_at", 1).await;
    until("the content is removed", async || stage.record(file).await.content_removed).await;
    until("nothing more is to be done", async || stage.ms_until(file, "due_at").await.is_none().then_some(())).await;
    assert_eq!(stage.hints().await, (0, 0), "no worker is called for it");
    stage.stop().await;
}
