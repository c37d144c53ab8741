//! `POST /upload/prepare`: what is recorded and what is refused. Paths are tested in `sources`.

use std::collections::BTreeMap;

use contract::State;
use serde_json::{Value, json};
use testing::{Answer, JSON};

use crate::stage::{Stage, USER};

#[tokio::test]
async fn a_file_is_recorded() {
    let stage = Stage::set().await;
    stage.write("in/report 1.pdf", b"abc");
    let answer = stage.ada.prepare("./in/report 1.pdf").await.expect(201);
    let id = answer.file_id();
    assert_eq!(answer.body, json!({ "file_id": id, "state": "prepared" }));
    assert_eq!(answer.header("location"), Some(format!("/files/{id}").as_str()));

    let record = stage.record(&id).await;
    let metadata = std::fs::metadata(stage.root().join("in/report 1.pdf")).unwrap();
    let since_1970 = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(record.state, State::Prepared);
    assert_eq!(record.source.root, stage.root().to_str().unwrap());
    assert_eq!(record.source.path, "in/report 1.pdf");
    assert_eq!((record.source.size, record.source.mtime_ns as u128), (3, since_1970.as_nanos()));
    assert_eq!((record.name.as_str(), record.media_type.as_str()), ("report 1.pdf", "application/pdf"));
    assert_eq!((record.user.as_str(), record.remote, record.metadata), (USER, None, BTreeMap::new()));
}

#[tokio::test]
async fn what_the_caller_says_about_a_file_is_recorded() {
    let stage = Stage::set().await;
    stage.write("a", b"");
    let request = json!({
        "file_path": stage.root().join("a"),
        "remote": "archive",
        "name": "..größe%2f \n",
        "metadata": { "order": "7", "Note_1-a": "$set" },
    });
    let id = stage.ada.prepare_with(&request).await.file_id();
    let record = stage.record(&id).await;
    assert_eq!((record.name.as_str(), record.remote.as_deref()), ("..größe%2f \n", Some("archive")));
    assert_eq!((record.source.path.as_str(), record.source.size), ("a", 0));
    assert_eq!(record.media_type, "application/octet-stream");
    assert_eq!(json!(record.metadata), request["metadata"]);
}

#[tokio::test]
async fn every_request_without_a_key_makes_a_file_of_its_own() {
    let stage = Stage::set().await;
    let (one, two) = (stage.prepared("a", b"abc").await, stage.prepared("a", b"abc").await);
    assert_ne!(one, two);
    assert_eq!(stage.snapshot().await.len(), 2);
}

async fn with_key(stage: &Stage, key: &str, body: &Value) -> Answer {
    stage.ada.call("POST", "/upload/prepare", &[JSON, ("idempotency-key", key)], body.to_string()).await
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let request = json!({ "file_path": "a", "metadata": { "x": "1", "y": "2" } });
    let first = with_key(&stage, "key 1", &request).await.expect(201);
    // Whatever has become of the file since, and of its source.
    stage.store(&first.file_id(), b"abc").await;
    std::fs::remove_file(stage.root().join("a")).unwrap();
    let before = stage.snapshot().await;
    let again = with_key(&stage, "key 1", &request).await;
    assert_eq!((again.status.as_u16(), &again.bytes), (201, &first.bytes));
    assert_eq!(again.header("location"), first.header("location"));
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_request_that_is_sent_many_times_at_once_makes_one_file() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let request = json!({ "file_path": "a" });
    let calls = (0..16).map(|_| {
        let (ada, request) = (stage.ada.clone(), request.clone());
        tokio::spawn(async move {
            ada.call("POST", "/upload/prepare", &[("idempotency-key", "k")], request.to_string()).await
        })
    });
    let mut ids = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        ids.push(call.await.unwrap().expect(201).file_id());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(stage.snapshot().await.len(), 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_user() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    stage.write("b", b"abc");
    let first = with_key(&stage, "k", &json!({ "file_path": "a" })).await;
    let before = stage.snapshot().await;
    for other in [
        json!({ "file_path": "b" }),
        json!({ "file_path": "./a" }),
        json!({ "file_path": "a", "name": "b" }),
        json!({ "file_path": "a", "remote": "archive" }),
        json!({ "file_path": "a", "metadata": { "x": "1" } }),
    ] {
        with_key(&stage, "k", &other).await.assert_problem(422, "idempotency-key-reused");
    }
    stage.assert_unchanged(&before).await;

    let eve = stage.another_user("eve").await;
    let answer =
        eve.call("POST", "/upload/prepare", &[("idempotency-key", "k")], r#"{"file_path":"b"}"#).await.expect(201);
    assert_ne!(answer.file_id(), first.file_id());
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let before = stage.snapshot().await;
    for key in ["", &"k".repeat(256), "a\tb"] {
        with_key(&stage, key, &json!({ "file_path": "a" })).await.assert_problem(400, "malformed-request");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let twice = stage.ada.call("POST", "/upload/prepare", &twice, r#"{"file_path":"a"}"#).await;
    twice.assert_problem(400, "malformed-request");
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_malformed_request_is_refused() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let before = stage.snapshot().await;
    let long_key = format!(r#"{{"file_path":"a","metadata":{{"{}":"x"}}}}"#, "k".repeat(65));
    let long_value = format!(r#"{{"file_path":"a","metadata":{{"k":"{}"}}}}"#, "v".repeat(1025));
    let entries: Vec<_> = (0..17).map(|n| format!(r#""k{n}":"{}""#, "v".repeat(1000))).collect();
    let much = format!(r#"{{"file_path":"a","metadata":{{{}}}}}"#, entries.join(","));
    for (body, named) in [
        ("", "object"),
        ("{", "EOF"),
        ("null", "object"),
        (r#"["a",null,null,null]"#, "object"),
        (r#"{"file_path":"a"} {}"#, "trailing"),
        ("{}", "file_path"),
        (r#"{"file_path":7}"#, "file_path"),
        (r#"{"file_path":null}"#, "file_path"),
        (r#"{"file_path":"a","file_path":"a"}"#, "file_path"),
        (r#"{"file_path":"a","url":"http://evil.example/"}"#, "url"),
        (r#"{"file_path":"a","remote":{"kind":"http"}}"#, "remote"),
        (r#"{"file_path":"a","name":["a"]}"#, "name"),
        (r#"{"file_path":"a","metadata":{"k":1}}"#, "metadata.k"),
        (r#"{"file_path":"a","metadata":[]}"#, "metadata"),
        (r#"{"file_path":"a","metadata":{"a.b":"x"}}"#, "a.b"),
        (&long_key, "keys"),
        (&long_value, "values"),
        (&much, "16384"),
    ] {
        let answer = stage.ada.call("POST", "/upload/prepare", &[JSON], body.to_owned()).await;
        let problem = answer.assert_problem(400, "malformed-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{named} is not named in {detail:?} for {body}");
    }
    let invalid = &b"{\"file_path\":\"\xff\"}"[..];
    let answer = stage.ada.call("POST", "/upload/prepare", &[], invalid).await;
    let problem = answer.assert_problem(400, "malformed-request");
    assert!(problem["detail"].as_str().unwrap().contains("a file whose name is not UTF-8"), "{problem}");
    stage.ada.form("/upload/prepare", &[("file_path", "a")]).await.assert_problem(400, "malformed-request");
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_name_must_be_plain() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let before = stage.snapshot().await;
    for name in ["", ".", "..", "a/b", "/", "a\0b", &"n".repeat(256)] {
        let request = json!({ "file_path": "a", "name": name });
        stage.ada.prepare_with(&request).await.assert_problem(422, "bad-name");
    }
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_remote_must_be_configured() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let before = stage.snapshot().await;
    for remote in ["", "nowhere", "Archive", "http://evil.example/", "$archive"] {
        let request = json!({ "file_path": "a", "remote": remote });
        stage.ada.prepare_with(&request).await.assert_problem(422, "unknown-remote");
    }
    stage.assert_unchanged(&before).await;
}

/// With chunks of 64 KiB the largest file has 256 TiB. No disk here holds it; a sparse file in memory can be as large.
#[tokio::test]
async fn a_file_of_more_chunks_than_can_be_counted_is_refused() {
    let memory = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let stage = Stage::set_with(|settings| {
        settings.files.chunk_size = 64 * 1024;
        settings.files.max_size = 1 << 54;
        settings.gateway.free_space_floor = 0;
        settings.files.roots = vec![memory.path().to_owned()];
    })
    .await;
    let most = 64 * 1024 * u64::from(u32::MAX);
    let file = std::fs::File::create(memory.path().join("huge")).unwrap();
    let before = stage.snapshot().await;
    file.set_len(most + 1).unwrap();
    stage.ada.prepare("huge").await.assert_problem(422, "file-too-large");
    stage.assert_unchanged(&before).await;
    file.set_len(most).unwrap();
    assert_eq!(stage.ada.prepare("huge").await.status, 201);
}

#[tokio::test]
async fn json_may_begin_with_a_byte_order_mark() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let body = "\u{feff}{\"file_path\":\"a\"}";
    assert_eq!(stage.ada.call("POST", "/upload/prepare", &[JSON], body).await.status, 201);
}
