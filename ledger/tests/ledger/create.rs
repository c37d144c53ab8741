//! Recording a file.

use std::collections::BTreeMap;

use contract::{Digest, Epoch, EventKind, FileId, Generation, ObjectName, State};
use ledger::{Attempts, Created, FileRecord, Idempotency, NewFile, Progress, Source};
use testing::new_file;

use crate::stage::{HINT_PUSH, Stage};

#[track_caller]
fn new(created: Created) -> FileRecord {
    match created {
        Created::New(record) => *record,
        other => panic!("expected a new record, found {other:?}"),
    }
}

fn with_key(user: &str, key: &str, request: &[u8]) -> NewFile {
    let idempotency = Some(Idempotency { key: key.into(), fingerprint: Digest::of(request) });
    NewFile { user: user.into(), idempotency, ..new_file(3) }
}

#[tokio::test]
async fn a_file_is_recorded_as_asked() {
    let stage = Stage::set().await;
    let asked = NewFile {
        metadata: BTreeMap::from([("case".into(), "17".into()), ("empty".into(), String::new())]),
        remote: Some("archive".into()),
        idempotency: Some(Idempotency { key: "k".into(), fingerprint: Digest::of(b"request") }),
        source: Source { root: "/srv/in".into(), path: "a b/ü.bin".into(), size: (1 << 53) + 1, mtime_ns: -1 },
        ..new_file(0)
    };
    let made = new(stage.ledger.create(asked.clone()).await.unwrap());

    for record in [made, stage.record(asked.id).await] {
        assert_eq!((record.id, record.version, record.epoch), (asked.id, 1, Epoch(0)));
        assert_eq!((record.state, record.generation), (State::Prepared, Generation::FIRST));
        assert_eq!(record.source, asked.source);
        assert_eq!((&record.name, &record.media_type), (&asked.name, &asked.media_type));
        assert_eq!((&record.metadata, &record.user), (&asked.metadata, &asked.user));
        assert_eq!((&record.remote, &record.idempotency), (&asked.remote, &asked.idempotency));
        assert_eq!((record.layout, record.chunk_size, record.sha256), (None, None, None));
        assert_eq!((record.attempts, record.progress), (Attempts::default(), Progress::default()));
        assert_eq!((record.holder(), record.not_before, record.error.as_ref()), (None, None, None));
        assert!(record.expectation.is_none() && record.delivery.is_none() && record.receipt.is_none());
        assert_eq!(record.created_at, record.updated_at);
        let outbox = record.outbox().events;
        let events: Vec<_> = outbox.iter().map(|event| (event.version, event.event, event.state, event.at)).collect();
        assert_eq!(events, [(1, EventKind::Prepared, State::Prepared, record.created_at)]);
    }
    stage.assert_set_to(asked.id, "due_at", HINT_PUSH).await;
    stage.assert_set_to(asked.id, "outbox_at", std::time::Duration::ZERO).await;
    stage.assert_set_to(asked.id, "created_at", std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn there_is_no_record_of_an_unknown_file() {
    let stage = Stage::set().await;
    stage.prepared(3).await;
    assert!(stage.ledger.file(FileId::generate()).await.unwrap().is_none());
}

/// What MongoDB would take for an expression, an operator, a path or a reference, were it not told otherwise.
const TELLING: [&str; 12] = [
    "$version",
    "$$NOW",
    "$$ROOT",
    "$set",
    "$ref",
    "a.b",
    ".",
    "$",
    "",
    r#"{"$literal": 1}"#,
    "new\nline, \"quotes\", 'quotes' and \\",
    "ü 📦 \u{202e}",
];

#[tokio::test]
async fn what_a_caller_wrote_stays_as_it_is() {
    let stage = Stage::set().await;
    let metadata: BTreeMap<String, String> = TELLING.iter().map(|text| (text.to_string(), text.to_string())).collect();
    for text in TELLING.map(str::to_owned) {
        // "" and "." name no file.
        let name = ObjectName::new(text.as_str()).unwrap_or_else(|_| new_file(3).name);
        let asked = NewFile {
            source: Source { root: text.clone(), path: text.clone(), size: 3, mtime_ns: 0 },
            name: name.clone(),
            media_type: text.clone(),
            metadata: metadata.clone(),
            user: text.clone(),
            remote: Some(text.clone()),
            idempotency: Some(Idempotency { key: text.clone(), fingerprint: Digest::of(b"request") }),
            ..new_file(3)
        };
        let record = new(stage.ledger.create(asked.clone()).await.unwrap());
        assert_eq!(record.source, asked.source);
        assert_eq!((&record.name, &record.media_type, &record.user), (&name, &text, &text));
        assert_eq!((&record.remote, &record.idempotency), (&asked.remote, &asked.idempotency));
        assert_eq!(record.metadata, metadata);
        assert_eq!(record.outbox().events[0].name, name.as_str());
        let again = NewFile { id: FileId::generate(), ..asked };
        assert!(matches!(stage.ledger.create(again).await.unwrap(), Created::Existing(_)), "{text:?}");
    }
}

#[tokio::test]
async fn what_mongodb_cannot_keep_is_refused_whole() {
    let stage = Stage::set().await;
    let metadata = BTreeMap::from([("nul\0".to_owned(), String::new())]);
    let refused = stage.ledger.create(NewFile { metadata, ..new_file(3) }).await;
    assert!(refused.is_err(), "{refused:?}");
    let refused = stage.ledger.create(new_file(u64::MAX)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(stage.count("files").await, 0);
}

#[tokio::test]
async fn the_same_id_again_changes_nothing() {
    let stage = Stage::set().await;
    let first = new_file(3);
    let made = new(stage.ledger.create(first.clone()).await.unwrap());
    let held = stage.claim(first.id).await;
    let before = stage.document(first.id).await;

    let second = NewFile { name: ObjectName::new("another").unwrap(), user: "grace".into(), ..new_file(4) };
    let found = new(stage.ledger.create(NewFile { id: first.id, ..second }).await.unwrap());

    assert_eq!((found.name, found.version, found.state), (made.name, held.file.version, State::Chunking));
    assert_eq!(stage.document(first.id).await, before);
    assert_eq!(stage.count("files").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_at_once_is_recorded_once() {
    let stage = Stage::set().await;
    let asked = new_file(3);
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (ledger, asked) =
                (stage.ledger.clone(), NewFile { name: ObjectName::new(number.to_string()).unwrap(), ..asked.clone() });
            tokio::spawn(async move { new(ledger.create(asked).await.unwrap()) })
        })
        .collect();
    let mut names = Vec::new();
    for task in tasks {
        names.push(task.await.unwrap().name);
    }
    names.dedup();
    assert_eq!(names, [stage.record(asked.id).await.name]);
    assert_eq!((stage.record(asked.id).await.version, stage.count("files").await), (1, 1));
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_user() {
    let stage = Stage::set().await;
    let first = new(stage.ledger.create(with_key("ada", "k", b"one")).await.unwrap());
    stage.claim(first.id).await;
    let before = stage.document(first.id).await;

    match stage.ledger.create(with_key("ada", "k", b"one")).await.unwrap() {
        Created::Existing(record) => assert_eq!((record.id, record.state), (first.id, State::Chunking)),
        other => panic!("expected the record of before, found {other:?}"),
    }
    let other = stage.ledger.create(with_key("ada", "k", b"two")).await.unwrap();
    assert!(matches!(other, Created::KeyReused), "{other:?}");
    assert_eq!((stage.document(first.id).await, stage.count("files").await), (before, 1));

    for other in [with_key("grace", "k", b"one"), with_key("ada", "l", b"one"), new_file(3), new_file(3)] {
        assert_ne!(new(stage.ledger.create(other).await.unwrap()).id, first.id);
    }
    assert_eq!(stage.count("files").await, 5);
}

#[tokio::test]
async fn a_key_can_be_asked_for_before_anything_is_written() {
    let stage = Stage::set().await;
    let asked = with_key("ada", "k", b"one");
    let key = asked.idempotency.clone().unwrap();
    assert!(stage.ledger.find_created("ada", &key).await.unwrap().is_none());
    let made = new(stage.ledger.create(asked).await.unwrap());

    let found = stage.ledger.find_created("ada", &key).await.unwrap();
    assert!(matches!(&found, Some(Created::Existing(record)) if record.id == made.id), "{found:?}");
    let other = Idempotency { fingerprint: Digest::of(b"two"), ..key.clone() };
    let found = stage.ledger.find_created("ada", &other).await.unwrap();
    assert!(matches!(found, Some(Created::KeyReused)), "{found:?}");
    assert!(stage.ledger.find_created("grace", &key).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_many_times_at_once_makes_one_record() {
    let stage = Stage::set().await;
    let other = stage.another_ledger().await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let ledger = if number % 2 == 0 { stage.ledger.clone() } else { other.clone() };
            tokio::spawn(async move { ledger.create(with_key("ada", "k", b"one")).await.unwrap() })
        })
        .collect();
    let (mut made, mut found) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            Created::New(record) => made.push(record.id),
            Created::Existing(record) => found.push(record.id),
            Created::KeyReused => panic!("the same request was taken for another"),
        }
    }
    assert_eq!((made.len(), found.len()), (1, 15));
    assert!(found.iter().all(|id| *id == made[0]));
    assert_eq!(stage.count("files").await, 1);
}
