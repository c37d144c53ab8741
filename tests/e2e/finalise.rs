//! What a caller expects of a file, before and after it is stored.

use contract::{Digest, Role};
use harness::{Answer, Content, Options, Sink, System, until};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

const MIB: u64 = 1024 * 1024;

/// A finalise request with any headers and body.
async fn finalise(system: &System, file: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    system.api.call("POST", &format!("/upload/{file}/finalise"), headers, body.to_owned()).await
}

fn wrong() -> Digest {
    Digest::of(b"something else")
}

/// Waits until the file rests in `stored` with an error.
async fn until_refused(system: &System, file: &str, kind: &str) -> Value {
    let file = system.api.until_error(file, kind).await;
    assert_eq!((&file["state"], &file["phase"]), (&json!("stored"), &json!("stored")));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_may_come_before_the_file_is_stored() {
    let sink = Sink::start().await;
    let mut system = System::start(Options::with_sink(&sink.url()).workers(0, 1, 1)).await;
    let api = system.api.clone();
    let prepare = async |name: &str| {
        let content = system.write(name, 100_000);
        (system.api.prepare(name).await.expect(201).file_id(), content)
    };
    let to_sink = json!({ "remote": "sink" });
    let expect = async |file: &str, sha256: Digest, body: &Value| {
        api.finalise(file, &sha256.to_string(), body).await.expect(202)
    };
    let (right, right_content) = prepare("right").await;
    let answer = expect(&right, right_content.sha256, &to_sink).await;
    assert_eq!(answer.body, json!({ "file_id": right, "state": "prepared" }));
    assert_eq!(answer.headers["location"], format!("/files/{right}"));
    let (bad_hash, bad_hash_content) = prepare("bad hash").await;
    expect(&bad_hash, wrong(), &to_sink).await;
    let (bad_size, bad_size_content) = prepare("bad size").await;
    expect(&bad_size, bad_size_content.sha256, &json!({ "remote": "sink", "fileSize": 99_999 })).await;
    let (bad_count, bad_count_content) = prepare("bad count").await;
    expect(&bad_count, bad_count_content.sha256, &json!({ "remote": "sink", "chunks": 2 })).await;
    // Until a request is accepted, another one replaces it.
    let (replaced, replaced_content) = prepare("replaced").await;
    expect(&replaced, wrong(), &json!({ "filename": "never" })).await;
    expect(&replaced, replaced_content.sha256, &to_sink).await;
    let now = system.api.file(&replaced).await;
    assert_eq!((&now["state"], &now["phase"], &now["remote"]), (&json!("prepared"), &json!("queued"), &json!("sink")));

    system.start_service(Role::Chunker, 0);
    for (file, name, content) in [(&right, "right", right_content), (&replaced, "replaced", replaced_content)] {
        let file = system.api.until_state(file, "delivered").await;
        assert_eq!(sink.object(&format!("/in/{name}")), Some((content.size, content.sha256)));
        assert_eq!(file["receipt"]["attempts"], 1);
    }
    let refused = [
        (&bad_hash, "digest-mismatch", json!(wrong()), json!(bad_hash_content.sha256)),
        (&bad_size, "size-mismatch", json!(99_999), json!(100_000)),
        (&bad_count, "chunk-count-mismatch", json!(2), json!(1)),
    ];
    for (file, kind, expected, found) in refused {
        let file = until_refused(&system, file, kind).await;
        assert_eq!((&file["error"]["expected"], &file["error"]["found"]), (&expected, &found));
        assert!(file["receipt"].is_null());
    }
    // No request for the wrong files reached the remote: two files, a HEAD and a PUT each.
    let seen = sink.requests();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.iter().all(|line| line.ends_with("/right") || line.ends_with("/replaced")), "{seen:?}");

    // The right request is still accepted.
    let rest = [(bad_hash, bad_hash_content), (bad_size, bad_size_content), (bad_count, bad_count_content)];
    for (file, content) in rest {
        expect(&file, content.sha256, &to_sink).await;
        let file = system.api.until_state(&file, "delivered").await;
        assert!(file["error"].is_null());
    }
    assert_eq!(sink.puts().len(), 5);
    assert!(system.arrived().is_empty());
}

/// The record as MongoDB has it, once all its events are published.
async fn record(system: &System, name: &str) -> Document {
    until("the events of the file are published", async || {
        let files = system.stored().await.files();
        let record = files.find_one(doc! { "name": name }).await.unwrap().unwrap();
        (!record.contains_key("outbox_at")).then_some(record)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_it_is_stored_a_wrong_expectation_is_refused_and_changes_nothing() {
    let sink = Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url())).await;
    let (file, content) = system.store("file", 3 * MIB + 1).await;
    let right = content.sha256.to_string();
    let before = record(&system, "file").await;
    let refusals = [
        (wrong().to_string(), json!({}), "digest-mismatch", json!(wrong()), json!(right)),
        (right.clone(), json!({ "fileSize": 7 }), "size-mismatch", json!(7), json!(3 * MIB + 1)),
        (right.clone(), json!({ "chunks": 3 }), "chunk-count-mismatch", json!(3), json!(4)),
    ];
    for (sha256, mut body, kind, expected, found) in refusals {
        body["remote"] = json!("sink");
        let answer = system.api.finalise(&file, &sha256, &body).await.expect(422);
        assert_eq!(answer.problem(), kind);
        assert_eq!((&answer.body["expected"], &answer.body["found"]), (&expected, &found));
        assert_eq!(record(&system, "file").await, before);
    }
    let unknown = system.api.finalise(&file, &right, &json!({ "remote": "nowhere" })).await.expect(422);
    assert_eq!(unknown.problem(), "unknown-remote");
    assert_eq!(record(&system, "file").await, before);
    assert!(sink.requests().is_empty());

    // The same request is one delivery, however often it is sent; size and count are only checked.
    let body = json!({ "remote": "sink" });
    let sized = json!({ "remote": "sink", "fileSize": content.size, "chunks": 4 });
    for body in [&body, &body, &sized] {
        system.api.finalise(&file, &right, body).await.expect(202);
    }
    let another = async || {
        let others = [
            (right.clone(), json!({ "remote": "sink", "filename": "other" })),
            (right.clone(), json!({ "remote": "folder" })),
            (wrong().to_string(), body.clone()),
        ];
        for (sha256, body) in others {
            let answer = system.api.finalise(&file, &sha256, &body).await.expect(409);
            assert_eq!(answer.problem(), "already-finalised");
            assert_eq!(answer.body["found"], json!({ "sha256": right, "filename": "file", "remote": "sink" }));
        }
    };
    another().await;
    let receipt = system.api.until_state(&file, "delivered").await["receipt"].clone();
    another().await;
    system.api.finalise(&file, &right, &body).await.expect(202);
    assert_eq!(system.api.finalise(&file, &right, &json!({ "remote": "sink", "fileSize": 7 })).await.status, 422);
    let after = system.api.file(&file).await;
    assert_eq!((&after["state"], &after["receipt"]), (&json!("delivered"), &receipt));
    assert_eq!(sink.requests(), ["HEAD /in/file", "PUT /in/file"]);
    assert!(system.arrived().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_counted_in_mebibytes_or_as_they_were_cut() {
    let system = System::start(Options { files: "chunk_size = 65536".into(), ..Options::default() }).await;
    for (name, count) in [("in mebibytes", 2), ("as cut", 17)] {
        let (file, content) = system.store(name, MIB + 1).await;
        for wrong in [0, 1, 3, 16, 18] {
            let body = json!({ "chunks": wrong });
            let answer = system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(422);
            assert_eq!(answer.problem(), "chunk-count-mismatch");
            assert_eq!(answer.body["found"], 2, "callers count in MiB");
        }
        let body = json!({ "chunksCount": count });
        system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
        let file = system.api.until_state(&file, "delivered").await;
        assert_eq!((&file["receipt"]["chunks"], &file["receipt"]["chunk_size"]), (&json!(17), &json!(65536)));
        system.assert_arrived(name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_take_several_forms() {
    let system = System::start(Options::default()).await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let json = ("content-type", "application/json");
    let hex = |content: &Content| content.sha256.to_string();
    let arrives = async |file: &str, source: &str, name: &str| {
        let file = system.api.until_state(file, "delivered").await;
        assert_eq!(file["receipt"]["remote"]["object"], name);
        system.assert_arrived(source, name);
    };

    let (file, content) = system.store("no body", 10).await;
    finalise(&system, &file, &[("content-sha256", &hex(&content).to_uppercase())], "").await.expect(202);
    arrives(&file, "no body", "no body").await;

    let (file, content) = system.store("by digest", 10).await;
    finalise(&system, &file, &[("repr-digest", &content.sha256.to_repr_digest()), json], "{}").await.expect(202);
    arrives(&file, "by digest", "by digest").await;

    let (file, content) = system.store("by form", 10).await;
    let body = "fileSize=10&chunksCount=1&fileName=named+by%20form&remote=folder";
    finalise(&system, &file, &[("content-sha256", &hex(&content)), form], body).await.expect(202);
    arrives(&file, "by form", "named by form").await;

    // The name of the finalise request wins over that of prepare, and that over the file's own.
    let content = system.write("own", 10);
    let prepared = json!({ "file_path": "own", "name": "of prepare" });
    let file = system.api.post("/upload/prepare", &prepared).await.expect(201).file_id();
    finalise(&system, &file, &[("content-sha256", &hex(&content)), json], r#"{"filename":"of finalise"}"#)
        .await
        .expect(202);
    arrives(&file, "own", "of finalise").await;
    let file = system.api.post("/upload/prepare", &prepared).await.expect(201).file_id();
    finalise(&system, &file, &[("content-sha256", &hex(&content))], "").await.expect(202);
    arrives(&file, "own", "of prepare").await;

    assert_eq!(system.arrived(), ["by digest", "named by form", "no body", "of finalise", "of prepare"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_valid_hash_is_refused_and_changes_nothing() {
    let system = System::start(Options::default()).await;
    let (file, content) = system.store("file", 10).await;
    let before = record(&system, "file").await;
    let (right, other) = (content.sha256.to_string(), wrong().to_repr_digest());
    let bad: [&[(&str, &str)]; 5] = [
        &[],
        &[("content-sha256", "")],
        &[("content-sha256", &right[1..])],
        &[("content-sha256", &right.replace(|c: char| c.is_ascii_digit(), "g"))],
        &[("content-sha256", &right), ("repr-digest", &other)],
    ];
    for headers in bad {
        let answer = finalise(&system, &file, headers, "").await.expect(400);
        assert_eq!(answer.problem(), "bad-digest", "{headers:?}");
    }
    for name in ["", ".", "..", "a/b", "a\0b"] {
        let answer = system.api.finalise(&file, &right, &json!({ "filename": name })).await.expect(422);
        assert_eq!(answer.problem(), "bad-name", "{name:?}");
    }
    let unknown = contract::FileId::generate().to_string();
    assert_eq!(system.api.finalise(&unknown, &right, &json!({})).await.expect(404).problem(), "unknown-file");
    assert_eq!(record(&system, "file").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finaliser_checks_the_hash_before_it_opens_a_connection() {
    let sink = Sink::start().await;
    let mut system = System::start(Options::with_sink(&sink.url()).workers(1, 1, 0)).await;
    let (file, _) = system.send("file", 1000, "sink").await;
    until("it is accepted", async || (system.api.file(&file).await["phase"] == "accepted").then_some(())).await;
    // Somebody writes another hash into the record: it differs from the expected one.
    let files = system.stored().await.files();
    let set = doc! { "$set": { "sha256": wrong().to_string() } };
    assert_eq!(files.update_one(doc! { "name": "file" }, set).await.unwrap().modified_count, 1);
    system.start_service(Role::Finaliser, 0);
    let file = system.api.until_state(&file, "failed").await;
    assert_eq!(file["error"]["type"], "/problems/digest-mismatch");
    assert_eq!(file["error"]["found"], json!(wrong()));
    assert!(sink.requests().is_empty());
}
