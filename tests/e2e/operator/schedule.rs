//! `waybill doctor`: abandoned work, streams and consumers.

use async_nats::jetstream;
use async_nats::jetstream::consumer::{FromConsumer, pull};
use contract::{EventKind, Step};
use harness::{Options, System, until};
use mongodb::bson::{Document, doc};
use testing::messages;

use super::doctor::{doctor, expected, finding, healthy, kinds};
use super::stop_services;

/// How many messages of a subject a stream has.
async fn count(system: &System, stream: String, subject: String) -> usize {
    let messages = messages(&system.nats().await, &stream).await.unwrap();
    messages.iter().filter(|message| message.subject.as_str() == subject).count()
}

async fn hints(system: &System, step: Step, file: &str) -> usize {
    count(system, system.names.work_stream(), system.names.hint(step, file.parse().unwrap())).await
}

/// Prepares files that no chunker takes, and stops everything. Streams and consumers are in order.
async fn waiting(names: &[&str]) -> (System, Vec<String>) {
    let mut system = System::start(Options::default()).await;
    for worker in ["chunker-0", "finaliser-0"] {
        system.process(worker).stop();
        system.processes.retain(|(name, _)| name != worker);
    }
    let mut files = Vec::new();
    for name in names {
        system.write(name, 10);
        files.push(system.api.prepare(name).await.expect(201).file_id());
    }
    for file in &files {
        until("its event and hint are published", async || {
            let hinted = hints(&system, Step::Prepare, file).await == 1;
            (hinted && !system.stored().await.document(file).await.contains_key("outbox_at")).then_some(())
        })
        .await;
    }
    stop_services(&mut system);
    let work = jetstream::new(system.nats().await).get_stream(system.names.work_stream()).await.unwrap();
    work.purge().await.unwrap();
    (system, files)
}

async fn until_stored(system: &mut System, file: &str) {
    for role in [contract::Role::Chunker, contract::Role::Store] {
        system.start_service(role, 0);
    }
    until("it is stored", async || {
        (system.stored().await.document(file).await.get_str("state").unwrap() == "stored").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overdue_files_are_made_due() {
    let (mut system, files) = waiting(&["overdue", "unscheduled", "run-out", "in-time", "held"]).await;
    let [overdue, unscheduled, run_out, in_time, held] = &files[..] else { unreachable!("five were prepared") };
    system.stored().await.set_ago(overdue, "due_at", 90_000).await;
    system.stored().await.change(unscheduled, vec![doc! { "$unset": "due_at" }]).await;
    let lease = |until: i64| {
        let until = doc! { "$add": ["$$NOW", until * 1000] };
        vec![doc! { "$set": { "lease": { "owner": "a", "worker": "chunker-a", "until": until }, "state": "chunking" } }]
    };
    system.stored().await.change(run_out, lease(-100)).await;
    system.stored().await.set_ago(run_out, "due_at", -30_000).await;
    system.stored().await.set_ago(in_time, "due_at", 30_000).await;
    // Its lease has not expired: the holder works on it.
    system.stored().await.change(held, lease(100)).await;
    system.stored().await.set_ago(held, "due_at", 90_000).await;
    let list = expected(&[("overdue", overdue), ("unscheduled", unscheduled), ("lease-run-out", run_out)]);
    let found = doctor(&system, &[]).await.expect(1);
    assert_eq!(kinds(&found), list);
    let overdue_found = finding(&found, "overdue");
    assert!(overdue_found["found"].as_str().unwrap().starts_with("prepared, due 9"), "{overdue_found}");
    assert!(finding(&found, "lease-run-out")["found"].as_str().unwrap().contains("chunker-a"));
    for file in &files {
        assert_eq!(hints(&system, Step::Prepare, file).await, 0, "nothing was changed");
    }

    let mended = doctor(&system, &["--repair"]).await.expect(0);
    assert_eq!(kinds(&mended), list);
    for (file, count) in [(overdue, 1), (unscheduled, 1), (run_out, 1), (in_time, 0), (held, 0)] {
        assert_eq!(hints(&system, Step::Prepare, file).await, count, "{file}");
    }
    until_stored(&mut system, unscheduled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_outboxes_are_published() {
    let (system, files) = waiting(&["left", "fresh"]).await;
    let [left, fresh] = &files[..] else { unreachable!("two were prepared") };
    for file in [left, fresh] {
        let event = doc! { "version": 1_i64, "event": "prepared", "state": "prepared", "at": "$$NOW" };
        system.stored().await.change(file, vec![doc! { "$set": { "outbox": [event], "outbox_at": "$$NOW" } }]).await;
        // So that nothing else is wrong with them.
        system.stored().await.set_ago(file, "due_at", -60_000).await;
    }
    system.stored().await.set_ago(left, "outbox_at", 90_000).await;
    let events = system.names.events_stream();
    // The server drops a repetition by its id for two minutes, so the stream must not know it.
    jetstream::new(system.nats().await).get_stream(&events).await.unwrap().purge().await.unwrap();
    let event = Document::from_iter([("version".to_owned(), 2_i64.into())]);
    system
        .stored()
        .await
        .change(left, vec![doc! { "$set": { "outbox": [{ "$mergeObjects": [{ "$first": "$outbox" }, event] }] } }])
        .await;

    let list = expected(&[("outbox-left", left)]);
    assert_eq!(kinds(&doctor(&system, &[]).await.expect(1)), list);
    let published = async |file: &str| {
        count(&system, events.clone(), system.names.event(file.parse().unwrap(), EventKind::Prepared)).await
    };
    assert_eq!(published(left).await, 0);
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), list);
    assert_eq!((published(left).await, published(fresh).await), (1, 0));
    let outbox = |record: &Document| record.get_array("outbox").unwrap().len();
    assert_eq!(outbox(&system.stored().await.document(left).await), 0);
    assert_eq!(outbox(&system.stored().await.document(fresh).await), 1, "a service will publish it in time");
    healthy(&system, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_consumers_are_made_and_repaired() {
    let (system, files) = waiting(&["waiting"]).await;
    system.stored().await.set_ago(&files[0], "due_at", -60_000).await;
    let jetstream = jetstream::new(system.nats().await);
    let (work, events, dead) = (system.names.work_stream(), system.names.events_stream(), system.names.dead_stream());
    let find = async |name: &str| jetstream.get_stream(name).await.unwrap();
    healthy(&system, &[]).await;

    let mut config = find(&events).await.cached_info().config.clone();
    config.max_messages = 77;
    jetstream.update_stream(&config).await.unwrap();
    jetstream.delete_stream(&dead).await.unwrap();
    let consumer = find(&work).await.get_consumer::<pull::Config>("chunker").await.unwrap();
    let mut config = pull::Config::try_from_consumer_config(consumer.cached_info().config.clone()).unwrap();
    config.max_ack_pending = 5;
    find(&work).await.create_consumer(config).await.unwrap();
    find(&work).await.delete_consumer("finaliser").await.unwrap();

    let (chunker, finaliser) = (format!("{work}/chunker"), format!("{work}/finaliser"));
    let list = expected(&[
        ("stream-differs", &events),
        ("stream-missing", &dead),
        ("consumer-differs", &chunker),
        ("consumer-missing", &finaliser),
    ]);
    let found = doctor(&system, &[]).await.expect(1);
    assert_eq!(kinds(&found), list);
    let differs = finding(&found, "stream-differs");
    assert_eq!((&differs["expected"], &differs["found"]), (&"max_msgs 5000000".into(), &"max_msgs 77".into()));
    assert_eq!(finding(&found, "consumer-differs")["found"], "max_ack_pending 5");
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), list);
    healthy(&system, &[]).await;

    // The stream of hints: its hints are published again.
    jetstream.delete_stream(&work).await.unwrap();
    let list = expected(&[("stream-missing", &work), ("consumer-missing", &chunker), ("consumer-missing", &finaliser)]);
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), list);
    let due = system.stored().await.document(&files[0]).await.get_datetime("due_at").unwrap().timestamp_millis();
    assert!(due <= mongodb::bson::DateTime::now().timestamp_millis(), "everything in work is due");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_finalises_are_ended_in_time() {
    let mut system = System::start(Options::default()).await;
    let (over, _) = system.store("over", 1000).await;
    let (old_release, _) = system.store("old-release", 1000).await;
    stop_services(&mut system);
    let stored = system.stored().await;
    // Its retention of a week has been over for a while; the other one rests without a time.
    stored.set_ago(&over, "updated_at", 700_000_000).await;
    stored.set_ago(&over, "due_at", 90_000).await;
    stored.change(&old_release, vec![doc! { "$unset": "due_at" }]).await;
    let list = expected(&[("overdue", &over), ("unscheduled", &old_release)]);
    assert_eq!(kinds(&doctor(&system, &[]).await.expect(1)), list);
    assert_eq!(kinds(&doctor(&system, &["--repair"]).await.expect(0)), list);
    assert_eq!(stored.document(&over).await.get_str("state").unwrap(), "failed");
    let rests = stored.ms_until(&old_release, "due_at").await.unwrap();
    assert!((600_000_000..604_800_000).contains(&rests), "until a week after it was stored: {rests}");
    healthy(&system, &[]).await;
}
