//! `POST /upload/{id}/finalise`

use contract::{Digest, Expectation, FileId, State};
use serde_json::{Value, json};
use testing::{Answer, receipt};

use crate::stage::Stage;

const CONTENT: &[u8] = b"abc";

fn sha256() -> String {
    Digest::of(CONTENT).to_string()
}

fn archive() -> Value {
    json!({ "remote": "archive" })
}

#[track_caller]
fn assert_accepted(answer: &Answer, id: &str, state: &str) {
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body, json!({ "file_id": id, "state": state }));
    assert_eq!(answer.header("location"), Some(format!("/files/{id}").as_str()));
}

async fn expectation(stage: &Stage, id: &str) -> Expectation {
    stage.record(id).await.expectation.expect("an expectation is recorded")
}

#[tokio::test]
async fn a_request_before_the_file_is_stored_waits() {
    let stage = Stage::set().await;
    let id = stage.prepared("a.txt", CONTENT).await;
    let body = json!({ "fileSize": 3, "chunks": "1", "filename": "b.txt", "remote": "archive" });
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &body).await, &id, "prepared");
    let waiting = expectation(&stage, &id).await;
    assert_eq!((waiting.sha256, waiting.size, waiting.chunks), (Digest::of(CONTENT), Some(3), Some(1)));
    assert_eq!((waiting.name.as_str(), waiting.remote.as_str()), ("b.txt", "archive"));
    stage.store(&id, CONTENT).await;
    assert_eq!(stage.ada.get(&format!("/files/{id}")).await.text("phase"), "accepted");
}

#[tokio::test]
async fn a_waiting_request_is_replaced_by_the_next() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    assert_accepted(&stage.ada.finalise(&id, &Digest::of(b"wrong").to_string(), &archive()).await, &id, "prepared");
    let _held = stage.claim_chunking(&id).await;
    let body = json!({ "remote": "mirror" });
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &body).await, &id, "chunking");
    assert_eq!(expectation(&stage, &id).await.remote, "mirror");
}

#[tokio::test]
async fn a_stored_file_is_judged_at_once() {
    let stage = Stage::set().await;
    let id = stage.stored("a", CONTENT).await;
    let answer = stage.ada.finalise(&id, &sha256(), &archive()).await;
    assert_accepted(&answer, &id, "stored");
    assert_eq!(expectation(&stage, &id).await.sha256, Digest::of(CONTENT));
}

#[tokio::test]
async fn a_stored_file_that_differs_is_refused_with_what_was_found() {
    let stage = Stage::set().await;
    let id = stage.stored("a", CONTENT).await;
    let before = stage.snapshot().await;
    let wrong = Digest::of(b"wrong").to_string();
    let with = |member: &str, value: u64| json!({ "remote": "archive", member: value });
    for (sha, body, slug, expected, found) in [
        (&wrong, archive(), "digest-mismatch", json!(wrong), json!(sha256())),
        (&sha256(), with("fileSize", 4), "size-mismatch", json!(4), json!(3)),
        (&sha256(), with("chunks", 0), "chunk-count-mismatch", json!(0), json!(1)),
        (&sha256(), with("chunksCount", 2), "chunk-count-mismatch", json!(2), json!(1)),
    ] {
        let problem = stage.ada.finalise(&id, sha, &body).await.assert_problem(422, slug);
        assert_eq!((&problem["expected"], &problem["found"]), (&expected, &found));
    }
    stage.assert_unchanged(&before).await;
    assert!(stage.record(&id).await.expectation.is_none());
}

#[tokio::test]
async fn the_same_request_again_changes_nothing() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "prepared");
    let before = stage.snapshot().await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "prepared");
    stage.assert_unchanged(&before).await;
    stage.store(&id, CONTENT).await;
    let before = stage.snapshot().await;
    // Size and chunks are checked, but do not make it another request.
    let more = json!({ "remote": "archive", "fileSize": 3 });
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &more).await, &id, "stored");
    stage.assert_unchanged(&before).await;
    let _held = stage.claim_delivering(&id).await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "delivering");
}

#[tokio::test]
async fn another_request_after_one_was_accepted_is_a_conflict() {
    let stage = Stage::set().await;
    let id = stage.stored("a", CONTENT).await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "stored");
    let before = stage.snapshot().await;
    let wrong = Digest::of(b"wrong").to_string();
    let accepted = json!({ "sha256": sha256(), "filename": "a", "remote": "archive" });
    for (sha, body, asked) in [
        (&wrong, archive(), json!({ "sha256": wrong, "filename": "a", "remote": "archive" })),
        (&sha256(), json!({ "remote": "mirror" }), json!({ "sha256": sha256(), "filename": "a", "remote": "mirror" })),
        (
            &sha256(),
            json!({ "remote": "archive", "filename": "b" }),
            json!({ "sha256": sha256(), "filename": "b", "remote": "archive" }),
        ),
    ] {
        let problem = stage.ada.finalise(&id, sha, &body).await.assert_problem(409, "already-finalised");
        assert_eq!((&problem["expected"], &problem["found"]), (&asked, &accepted));
    }
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_delivered_file_accepts_only_the_same_request() {
    let stage = Stage::set().await;
    let id = stage.stored("a", CONTENT).await;
    stage.ada.finalise(&id, &sha256(), &archive()).await;
    let held = stage.claim_delivering(&id).await;
    let receipt = receipt(&held);
    stage.service.ledger.record_delivered(&held.lease, &receipt).await.unwrap().unwrap();
    let before = stage.snapshot().await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "delivered");
    stage.ada.finalise(&id, &sha256(), &json!({ "remote": "mirror" })).await.assert_problem(409, "already-finalised");
    stage.assert_unchanged(&before).await;
    let file = stage.ada.file(&id).await;
    assert_eq!((&file["state"], &file["phase"]), (&json!("delivered"), &json!("delivered")));
    assert_eq!(file["receipt"], json!(receipt));
    assert_eq!(file["bytes"], json!({ "stored": 3, "delivered": 3 }));
}

#[tokio::test]
async fn a_failed_file_is_not_delivered() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    stage.fail(&id).await;
    let before = stage.snapshot().await;
    let problem = stage.ada.finalise(&id, &sha256(), &archive()).await.assert_problem(409, "file-ended");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("failed") && detail.contains("it grew while it was read"), "{detail}");
    stage.assert_unchanged(&before).await;
    assert_eq!(stage.record(&id).await.state, State::Failed);
}

#[tokio::test]
async fn a_wrong_expectation_that_came_early_is_shown_and_can_be_corrected() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    stage.ada.finalise(&id, &Digest::of(b"wrong").to_string(), &archive()).await;
    stage.store(&id, CONTENT).await;
    let file = stage.ada.file(&id).await;
    assert_eq!((&file["state"], &file["phase"]), (&json!("stored"), &json!("stored")));
    assert_eq!(file["error"]["type"], "/problems/digest-mismatch");
    assert_eq!(file["error"]["found"], json!(sha256()));
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "stored");
    assert_eq!(stage.ada.file(&id).await["error"], Value::Null);
}

#[tokio::test]
async fn unknown_and_malformed_ids_are_not_found() {
    let stage = Stage::set().await;
    stage.prepared("a", CONTENT).await;
    let before = stage.snapshot().await;
    let unknown = FileId::generate().to_string();
    let upper = unknown.to_uppercase();
    for id in [unknown.as_str(), &upper, "1", "no-id", "%00", "%ff", "..%2f.."] {
        stage.ada.finalise(id, &sha256(), &archive()).await.assert_problem(404, "unknown-file");
        stage.ada.get(&format!("/files/{id}")).await.assert_problem(404, "unknown-file");
    }
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_missing_or_malformed_hash_is_refused() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    let before = stage.snapshot().await;
    let (good, repr, other) = (sha256(), Digest::of(CONTENT).to_repr_digest(), Digest::of(b"x").to_repr_digest());
    let bad: [&[(&str, &str)]; 9] = [
        &[],
        &[("content-sha256", "")],
        &[("content-sha256", &good[1..])],
        &[("content-sha256", &good.replace('a', "g"))],
        &[("content-sha256", &format!("sha256:{good}"))],
        &[("content-sha256", &good), ("content-sha256", &good)],
        &[("repr-digest", "sha-256=:abc:")],
        &[("repr-digest", "sha-512=:abc:")],
        &[("content-sha256", &good), ("repr-digest", &other)],
    ];
    let path = format!("/upload/{id}/finalise");
    for headers in bad {
        let answer = stage.ada.call("POST", &path, headers, archive().to_string()).await;
        answer.assert_problem(400, "bad-digest");
    }
    stage.assert_unchanged(&before).await;

    let answer = stage.ada.call("POST", &path, &[("repr-digest", &repr)], archive().to_string()).await;
    assert_accepted(&answer, &id, "prepared");
}

#[tokio::test]
async fn a_form_is_accepted_and_so_is_an_empty_body() {
    let stage = Stage::set_with(|settings| settings.default_remote = Some("mirror".into())).await;
    let id = stage.prepared("a", CONTENT).await;
    let path = format!("/upload/{id}/finalise");
    let sha256 = sha256();
    let headers = [("content-sha256", &*sha256), ("content-type", "application/x-www-form-urlencoded")];
    let form = "fileSize=3&chunksCount=1&fileName=b+c&remote=archive";
    assert_accepted(&stage.ada.call("POST", &path, &headers, form).await, &id, "prepared");
    let waiting = expectation(&stage, &id).await;
    assert_eq!((waiting.name.as_str(), waiting.remote.as_str()), ("b c", "archive"));
    assert_eq!((waiting.size, waiting.chunks), (Some(3), Some(1)));

    assert_accepted(&stage.ada.call("POST", &path, &headers[..1], "").await, &id, "prepared");
    let waiting = expectation(&stage, &id).await;
    assert_eq!((waiting.name.as_str(), waiting.remote.as_str()), ("a", "mirror"));
    assert_eq!((waiting.size, waiting.chunks), (None, None));
}

#[tokio::test]
async fn the_remote_of_the_request_wins_over_that_of_prepare() {
    let stage = Stage::set_with(|settings| settings.default_remote = Some("mirror".into())).await;
    stage.write("a", CONTENT);
    let prepared = stage.ada.prepare_with(&json!({ "file_path": "a", "remote": "archive" })).await;
    let id = prepared.file_id();
    stage.ada.finalise(&id, &sha256(), &json!({})).await;
    assert_eq!(expectation(&stage, &id).await.remote, "archive");
    stage.ada.finalise(&id, &sha256(), &json!({ "remote": "mirror" })).await;
    assert_eq!(expectation(&stage, &id).await.remote, "mirror");
}

#[tokio::test]
async fn a_remote_is_needed_and_must_be_configured() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    let before = stage.snapshot().await;
    stage.ada.finalise(&id, &sha256(), &json!({})).await.assert_problem(422, "no-remote");
    for remote in ["", "nowhere", "http://evil.example/"] {
        let answer = stage.ada.finalise(&id, &sha256(), &json!({ "remote": remote })).await;
        answer.assert_problem(422, "unknown-remote");
    }
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_name_must_be_plain() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    let before = stage.snapshot().await;
    for name in ["", ".", "..", "a/b", "../a", "a\0b", &"n".repeat(256)] {
        for field in ["filename", "fileName"] {
            let body = json!({ "remote": "archive", field: name });
            stage.ada.finalise(&id, &sha256(), &body).await.assert_problem(422, "bad-name");
        }
    }
    stage.assert_unchanged(&before).await;
    for name in ["..hidden", "a%2fb", "with space", "\"quoted\"", "new\nline", "größe"] {
        let body = json!({ "remote": "archive", "filename": name });
        assert_accepted(&stage.ada.finalise(&id, &sha256(), &body).await, &id, "prepared");
        assert_eq!(expectation(&stage, &id).await.name.as_str(), name);
    }
}

#[tokio::test]
async fn a_malformed_body_is_refused() {
    let stage = Stage::set().await;
    let id = stage.prepared("a", CONTENT).await;
    let before = stage.snapshot().await;
    let path = format!("/upload/{id}/finalise");
    let json_type = "application/json";
    let form_type = "application/x-www-form-urlencoded";
    for (content_type, body) in [
        (json_type, "{"),
        (json_type, "[]"),
        (json_type, r#"{"fileSize":-1}"#),
        (json_type, r#"{"fileSize":3.0}"#),
        (json_type, r#"{"fileSize":"three"}"#),
        (json_type, r#"{"chunks":[]}"#),
        (json_type, r#"{"chunks":1,"chunksCount":2}"#),
        (json_type, r#"{"filename":"a","fileName":"b"}"#),
        (json_type, r#"{"filename":1}"#),
        (json_type, r#"{"url":"http://evil.example/"}"#),
        (form_type, "fileSize=x"),
        (form_type, "fileSize=-3"),
        (form_type, "url=x"),
        (form_type, "remote=archive&remote=mirror"),
        ("multipart/form-data; boundary=x", "--x\r\n\r\n--x--"),
        ("text/plain", "fileSize=3"),
    ] {
        let headers = [("content-sha256", &*sha256()), ("content-type", content_type)];
        stage.ada.call("POST", &path, &headers, body).await.assert_problem(400, "malformed-request");
    }
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_waiting_request_of_another_user_is_not_replaced() {
    let stage = Stage::set().await;
    let eve = stage.another_user("eve").await;
    let id = stage.prepared("a", CONTENT).await;
    assert_accepted(&stage.ada.finalise(&id, &sha256(), &archive()).await, &id, "prepared");
    let before = stage.snapshot().await;
    let sized = json!({ "remote": "archive", "fileSize": 4 });
    let problem = eve.finalise(&id, &sha256(), &sized).await.assert_problem(409, "already-finalised");
    let asked = json!({ "sha256": sha256(), "filename": "a", "remote": "archive", "fileSize": 4, "chunks": null });
    let waiting = json!({ "sha256": sha256(), "filename": "a", "remote": "archive", "fileSize": null, "chunks": null });
    assert_eq!((&problem["expected"], &problem["found"]), (&asked, &waiting));
    for (sha256, body) in [(Digest::of(b"wrong").to_string(), archive()), (sha256(), json!({ "remote": "mirror" }))] {
        eve.finalise(&id, &sha256, &body).await.assert_problem(409, "already-finalised");
    }
    // The same request is answered in the same way, and remains ada's.
    assert_accepted(&eve.finalise(&id, &sha256(), &archive()).await, &id, "prepared");
    stage.assert_unchanged(&before).await;
    assert_eq!(stage.ada.file(&id).await["finalised_by"], "ada");
}

#[tokio::test]
async fn a_number_that_no_file_can_have_is_refused() {
    let stage = Stage::set().await;
    let (prepared, stored) = (stage.prepared("a", CONTENT).await, stage.stored("b", CONTENT).await);
    let before = stage.snapshot().await;
    for id in [prepared, stored] {
        for number in [1 << 63, u64::MAX] {
            for field in ["fileSize", "chunks", "chunksCount"] {
                let body = json!({ "remote": "archive", field: number });
                let problem = stage.ada.finalise(&id, &sha256(), &body).await.assert_problem(422, "file-too-large");
                assert!(problem["detail"].as_str().unwrap().contains(field), "{problem}");
            }
        }
    }
    stage.assert_unchanged(&before).await;
}
