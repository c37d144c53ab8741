//! What an operator sees on NATS' own subjects, and what happens to messages and streams that are wrong.

use async_nats::{Client, jetstream};
use bytes::Bytes;
use contract::{Cause, DeadLetter, Event, EventKind, FileId, Hint, Receipt, Role, State, Step};
use futures_util::StreamExt;
use harness::{Options, System, gather, until};
use serde_json::{Value, json};
use testing::messages;

/// Asks one server or service for JSON.
async fn ask(nats: &Client, subject: &str) -> Value {
    let answer = nats.request(subject.to_owned(), Bytes::new()).await.unwrap_or_else(|e| panic!("{subject}: {e}"));
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn stream_info(nats: &Client, stream: &str) -> Value {
    let info = ask(nats, &format!("$JS.API.STREAM.INFO.{stream}")).await;
    assert!(info["error"].is_null(), "{stream}: {info}");
    info
}

async fn until_empty(nats: &Client, stream: &str) {
    until(&format!("{stream} is empty"), async || {
        (stream_info(nats, stream).await["state"]["messages"] == 0).then_some(())
    })
    .await;
}

async fn delete(nats: &Client, stream: &str) {
    let answer = ask(nats, &format!("$JS.API.STREAM.DELETE.{stream}")).await;
    assert_eq!(answer["success"], true, "{answer}");
}

/// Waits until the events of a file end with `last`, and reads them.
pub(crate) async fn events_until(system: &System, nats: &Client, file: &str, last: EventKind) -> Vec<Event> {
    let file: FileId = file.parse().unwrap();
    let found = until(&format!("{last} of {file} is published"), async || {
        let all = messages(nats, &system.names.events_stream()).await?;
        let end = system.names.event(file, last);
        all.iter().any(|message| message.subject.as_str() == end).then_some(all)
    })
    .await;
    let mut events = Vec::new();
    for message in found {
        let event = Event::from_json(&message.payload).unwrap();
        assert_eq!(message.subject.as_str(), system.names.event(event.file_id, event.event));
        let id = message.headers.get("Nats-Msg-Id").map(|id| id.as_str());
        assert_eq!(id, Some(event.id.as_str()), "the server can drop a repetition by it");
        assert_eq!(event.id, format!("{}:{}", event.file_id, event.version));
        events.extend((event.file_id == file).then_some(event));
    }
    assert!(events.is_sorted_by(|one, next| one.version < next.version), "{events:#?}");
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn services_say_who_they_are_and_what_they_did() {
    let system = System::start(Options::default()).await;
    let nats = system.nats().await;
    let mut names = system.ping(&nats).await;
    names.sort();
    let of = |role: Role| system.names.service(role);
    assert_eq!(names, [of(Role::Chunker), of(Role::Finaliser), of(Role::Gateway), of(Role::Store)]);

    for role in Role::ALL {
        let info = ask(&nats, &format!("$SRV.INFO.{}", of(role))).await;
        assert_eq!(info["name"], of(role));
        let version: Vec<_> = info["version"].as_str().unwrap().split('.').map(str::parse::<u32>).collect();
        assert!(version.len() == 3 && version.iter().all(Result::is_ok), "{info}");
        assert!(info["description"].as_str().is_some_and(|text| text.len() > 10), "{info}");
        let subjects: Vec<_> = info["endpoints"].as_array().unwrap().iter().map(|e| e["subject"].clone()).collect();
        assert!(subjects.contains(&json!(system.names.status(role))), "{info}");
        assert_eq!(subjects.contains(&json!(system.names.chunk_put())), role == Role::Store);
    }

    let chunks_taken = async || {
        let stats = ask(&nats, &format!("$SRV.STATS.{}", of(Role::Store))).await;
        let endpoints = stats["endpoints"].as_array().unwrap().clone();
        let chunks = endpoints.into_iter().find(|endpoint| endpoint["name"] == "chunk-put").unwrap();
        assert_eq!(chunks["queue_group"], "store");
        assert_eq!(chunks["num_errors"], 0);
        chunks["num_requests"].as_u64().unwrap()
    };
    let before = chunks_taken().await;
    system.store("file", 5 * 1024 * 1024).await;
    assert_eq!(chunks_taken().await - before, 5);

    let answers = gather(&nats, &system.names.status(Role::Chunker)).await;
    let [status] = &answers[..] else { panic!("expected one chunker, found {answers:?}") };
    assert_eq!((&status["v"], &status["role"], &status["ready"]), (&json!(1), &json!("chunker"), &json!(true)));
    assert_eq!((&status["jobs_begun"], &status["unreadable"]), (&json!(1), &json!(0)));
    assert_eq!(status["problems"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_consumers_are_as_documented() {
    let system = System::start(Options::default()).await;
    let nats = system.nats().await;
    let prefix = system.names.service(Role::Store).replace("-store", "");
    let (work, events, dead) = (system.names.work_stream(), system.names.events_stream(), system.names.dead_stream());
    let day = 24 * 60 * 60 * 1_000_000_000_u64;
    let expected = [
        (
            &work,
            json!({
                "subjects": [format!("{prefix}.prepare.>"), format!("{prefix}.finalise.>")],
                "retention": "workqueue",
                "discard": "new",
                "discard_new_per_subject": true,
                "max_msgs_per_subject": 1,
                "max_msgs": 1_000_000,
                "max_msg_size": 65_536,
                "max_age": 0,
                "storage": "file",
            }),
        ),
        (
            &events,
            json!({
                "subjects": [format!("{prefix}.event.>")],
                "retention": "limits",
                "discard": "old",
                "max_msgs_per_subject": -1,
                "max_age": 7 * day,
                "storage": "file",
            }),
        ),
        (
            &dead,
            json!({
                "subjects": [format!("{prefix}.dead.>")],
                "retention": "limits",
                "discard": "old",
                "max_age": 30 * day,
                "storage": "file",
            }),
        ),
    ];
    for (stream, expected) in expected {
        let config = stream_info(&nats, stream).await["config"].clone();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&config[key], value, "{key} of {stream}");
        }
        assert!(config["description"].as_str().is_some_and(|text| text.len() > 20), "{config}");
    }
    for (consumer, subjects) in [("chunker", "prepare"), ("finaliser", "finalise")] {
        let subject = format!("$JS.API.CONSUMER.INFO.{work}.{consumer}");
        let config = until(&format!("{consumer} has its consumer"), async || {
            let config = ask(&nats, &subject).await["config"].clone();
            (!config.is_null()).then_some(config)
        })
        .await;
        assert_eq!(config["durable_name"], consumer);
        assert_eq!(config["filter_subject"], format!("{prefix}.{subjects}.>"));
        assert_eq!((&config["ack_policy"], &config["max_deliver"]), (&json!("explicit"), &json!(-1)));
        assert_eq!(config["ack_wait"], 20 * 1_000_000_000_u64, "the lease and a third of it");
        assert!(config["description"].as_str().is_some_and(|text| text.len() > 20), "{config}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happened_in_order_and_once() {
    let system = System::start(Options::default()).await;
    let nats = system.nats().await;
    let (file, content) = system.send("delivered", 3_000_000, "folder").await;
    let shown = system.api.until_state(&file, "delivered").await;
    let events = events_until(&system, &nats, &file, EventKind::Delivered).await;
    let kinds: Vec<_> = events.iter().map(|event| (event.event, event.state)).collect();
    let expected = [
        (EventKind::Prepared, State::Prepared),
        (EventKind::Chunking, State::Chunking),
        (EventKind::Stored, State::Stored),
        (EventKind::Delivering, State::Delivering),
        (EventKind::Delivered, State::Delivered),
    ];
    assert_eq!(kinds, expected);
    assert!(events.iter().all(|event| event.name == "delivered"));
    assert!(events.is_sorted_by_key(|event| event.at));
    assert_eq!(events[2].detail, json!({ "size": 3_000_000, "chunks": 3, "sha256": content.sha256 }));
    let receipt: Receipt = serde_json::from_value(events[4].detail["receipt"].clone()).unwrap();
    assert_eq!(receipt.sha256, content.sha256);
    assert_eq!(events[4].detail["receipt"], shown["receipt"]);

    // A request that is refused at once is no event.
    let (file, _) = system.store("refused", 10).await;
    let wrong = contract::Digest::of(b"something else").to_string();
    system.api.finalise(&file, &wrong, &json!({})).await.expect(422);
    let kinds: Vec<_> = {
        let events = events_until(&system, &nats, &file, EventKind::Stored).await;
        events.iter().map(|event| event.event).collect()
    };
    assert_eq!(kinds, [EventKind::Prepared, EventKind::Chunking, EventKind::Stored]);
    until_empty(&nats, &system.names.work_stream()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_is_an_event() {
    let mut system = System::start(Options::default().workers(0, 1, 1)).await;
    let nats = system.nats().await;
    system.write("file", 10);
    let file = system.api.prepare("file").await.expect(201).file_id();
    let wrong = contract::Digest::of(b"something else").to_string();
    system.api.finalise(&file, &wrong, &json!({})).await.expect(202);
    system.start_service(Role::Chunker, 0);
    let events = events_until(&system, &nats, &file, EventKind::Mismatch).await;
    let kinds: Vec<_> = events.iter().map(|event| event.event).collect();
    assert_eq!(kinds, [EventKind::Prepared, EventKind::Chunking, EventKind::Stored, EventKind::Mismatch]);
    let last = &events[3];
    assert_eq!(last.state, State::Stored);
    assert_eq!(last.detail["error"]["type"], "/problems/digest-mismatch");
    assert_eq!(last.detail["error"]["expected"], wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_hints_are_kept_with_a_reason() {
    let system = System::start(Options::default()).await;
    let nats = system.nats().await;
    let jetstream = jetstream::new(nats.clone());
    let publish = async |subject: &str, body: &[u8]| {
        let sent = jetstream.publish(subject.to_owned(), Bytes::copy_from_slice(body)).await.unwrap();
        sent.await.unwrap();
    };
    let (work, dead) = (system.names.work_stream(), system.names.dead_stream());
    let (one, other) = (FileId::generate(), FileId::generate());
    let good = Hint::new(one, Cause::Request).to_json();
    let next_version = String::from_utf8(good.clone()).unwrap().replace("\"v\":1", "\"v\":2");
    let longer = String::from_utf8(good.clone()).unwrap().replace("\"v\":1", "\"v\":1,\"more\":true");
    let prepare = |file| system.names.hint(Step::Prepare, file);
    let nonsense = system.names.hints(Step::Prepare).replace('>', "nonsense");
    let bad: [(&str, String, &[u8], &str); 6] = [
        ("chunker", nonsense, b"no json", "JSON"),
        ("chunker", prepare(FileId::generate()), &[0xff, 0x00], "JSON"),
        ("chunker", prepare(one), next_version.as_bytes(), "version 2"),
        ("chunker", prepare(FileId::generate()), longer.as_bytes(), "more"),
        ("chunker", prepare(other), &good, "subject"),
        ("finaliser", system.names.hint(Step::Finalise, other), &good, "subject"),
    ];
    for (_, subject, body, _) in &bad {
        publish(subject, body).await;
    }
    // Hints for unknown files: there is nothing to do, and the message is not wrong.
    let unknown = FileId::generate();
    for step in [Step::Prepare, Step::Finalise] {
        publish(&system.names.hint(step, unknown), &Hint::new(unknown, Cause::Request).to_json()).await;
    }
    until_empty(&nats, &work).await;
    let letters = messages(&nats, &dead).await.unwrap();
    assert_eq!(letters.len(), bad.len());
    for (worker, subject, body, reason) in &bad {
        let mut found = letters.iter().map(|message| (message, DeadLetter::from_json(&message.payload).unwrap()));
        let found = found.find(|(_, letter)| letter.subject == *subject);
        let (message, letter) = found.unwrap_or_else(|| panic!("{subject} was not kept"));
        assert!(message.subject.as_str().ends_with(&format!(".dead.{worker}")));
        assert_eq!(letter.worker, *worker);
        assert_eq!(letter.payload, String::from_utf8_lossy(body));
        assert!(letter.reason.contains(reason), "expected {reason:?} in {:?}", letter.reason);
    }
    let status = ask(&nats, &system.names.status(Role::Chunker)).await;
    assert_eq!(status["unreadable"], 5);
    // They are kept even if their stream was deleted.
    delete(&nats, &dead).await;
    publish(&bad[0].1, bad[0].2).await;
    until_empty(&nats, &work).await;
    assert_eq!(messages(&nats, &dead).await.unwrap().len(), 1);
    // The workers go on.
    let (file, _) = system.send("file", 10, "folder").await;
    system.api.until_state(&file, "delivered").await;
    until_empty(&nats, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_streams_lose_no_file() {
    let mut system = System::start(Options::default().workers(0, 1, 1)).await;
    let nats = system.nats().await;
    let streams = [system.names.work_stream(), system.names.events_stream(), system.names.dead_stream()];
    // While files wait for a chunker.
    let mut files = Vec::new();
    for name in ["one", "two", "three"] {
        files.push(system.send(name, 10, "folder").await.0);
    }
    for stream in &streams {
        delete(&nats, stream).await;
    }
    system.start_service(Role::Chunker, 0);
    for file in &files {
        system.api.until_state(file, "delivered").await;
    }
    // While everything runs and there is nothing to do.
    until_empty(&nats, &streams[0]).await;
    for stream in &streams {
        delete(&nats, stream).await;
    }
    let (file, _) = system.send("four", 10, "folder").await;
    system.api.until_state(&file, "delivered").await;
    events_until(&system, &nats, &file, EventKind::Delivered).await;
    until_empty(&nats, &streams[0]).await;
    assert_eq!(system.arrived(), ["four", "one", "three", "two"]);
}

/// The only test that waits for the 15 s after which a sweep takes up abandoned work.
#[tokio::test(flavor = "multi_thread")]
async fn what_nats_lost_is_published_again() {
    let mut system = System::start(Options::default().workers(0, 1, 1)).await;
    let nats = system.nats().await;
    let (work, events) = (system.names.work_stream(), system.names.events_stream());
    let mut hints = nats.subscribe(system.names.hints(Step::Prepare)).await.unwrap();
    nats.flush().await.unwrap();
    let mut next_hint = async || {
        let hint = tokio::time::timeout(harness::DEADLINE, hints.next()).await.expect("a hint is published").unwrap();
        Hint::from_json(&hint.payload).unwrap()
    };
    // A hint.
    let (lost, _) = system.send("lost", 10, "folder").await;
    assert_eq!(next_hint().await.cause, Cause::Request);
    until("the hint is in the stream", async || {
        (stream_info(&nats, &work).await["state"]["messages"] == 1).then_some(())
    })
    .await;
    let purged = ask(&nats, &format!("$JS.API.STREAM.PURGE.{work}")).await;
    assert_eq!(purged["purged"], 1);
    system.start_service(Role::Chunker, 0);
    system.until_registered(4).await;
    // The stream of events, and nothing else, while everything runs.
    events_until(&system, &nats, &lost, EventKind::Prepared).await;
    delete(&nats, &events).await;
    let (unheard, _) = system.send("unheard", 10, "folder").await;
    assert_eq!(next_hint().await.cause, Cause::Request);
    system.api.until_state(&unheard, "delivered").await;
    assert_eq!(system.api.file(&lost).await["state"], "prepared");

    let again = next_hint().await;
    assert_eq!((again.file_id.to_string(), again.cause), (lost.clone(), Cause::Sweep));
    system.api.until_state(&lost, "delivered").await;
    let heard = events_until(&system, &nats, &unheard, EventKind::Delivered).await;
    assert_eq!(heard.len(), 5);
}
