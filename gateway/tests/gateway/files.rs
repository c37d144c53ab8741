//! `GET /files` and `GET /files/{id}`

use std::time::Duration;

use contract::{Digest, ProblemKind, Timestamp};
use ledger::{Problem, Progress};
use serde_json::{Value, json};

use crate::stage::Stage;

#[tokio::test]
async fn a_file_is_shown_with_all_that_is_known() {
    let stage = Stage::set().await;
    stage.write("in/a.txt", &[7; (1 << 20) + 1]);
    let request = json!({ "file_path": "in/a.txt", "remote": "archive", "metadata": { "order": "7" } });
    let id = stage.ada.prepare_with(&request).await.file_id();
    let mut shown = stage.ada.file(&id).await;
    let (created, updated) = (shown["created_at"].take(), shown["updated_at"].take());
    let moment = |value: Value| Timestamp::try_from(value.as_str().unwrap().to_owned()).unwrap();
    assert_eq!(moment(created), stage.record(&id).await.created_at);
    assert_eq!(moment(updated), stage.record(&id).await.updated_at);
    assert_eq!(
        shown,
        json!({
            "file_id": id, "name": "a.txt", "media_type": "text/plain", "metadata": { "order": "7" },
            "file_path": "in/a.txt", "state": "prepared", "phase": "queued", "size": (1 << 20) + 1,
            "chunks": { "total": 2, "stored": 0 }, "bytes": { "stored": 0, "delivered": 0 }, "sha256": null,
            "remote": "archive", "prepared_by": "ada", "finalised_by": null, "attempts": 0, "generation": 1, "holder": null, "not_before": null, "error": null,
            "failures": [], "receipt": null, "created_at": null, "updated_at": null,
        })
    );
}

#[tokio::test]
async fn the_phase_follows_the_work() {
    let stage = Stage::set().await;
    let content = &[7; (1 << 20) + 1];
    let id = stage.prepared("a", content).await;
    let ledger = &stage.service.ledger;

    let held = stage.claim_chunking(&id).await;
    let progress = Progress { chunks_stored: 1, bytes_stored: 1 << 20, bytes_delivered: 0 };
    ledger.renew(&held.lease, Some(progress)).await.unwrap();
    let shown = stage.ada.file(&id).await;
    assert_eq!((&shown["state"], &shown["phase"]), (&json!("chunking"), &json!("chunking")));
    assert_eq!((&shown["holder"], &shown["attempts"]), (&json!("chunker-of-the-test"), &json!(1)));
    assert_eq!(shown["chunks"], json!({ "total": 2, "stored": 1 }));
    assert_eq!(shown["bytes"], json!({ "stored": 1 << 20, "delivered": 0 }));

    let problem = Problem::new(ProblemKind::SourceUnreadable, "no answer within 10 s");
    ledger.record_retry(&held.lease, &problem, Duration::from_millis(1)).await.unwrap().unwrap();
    let shown = stage.ada.file(&id).await;
    assert_eq!((&shown["state"], &shown["phase"]), (&json!("chunking"), &json!("waiting")));
    assert_eq!((&shown["holder"], &shown["error"]["type"]), (&Value::Null, &json!("/problems/source-unreadable")));
    assert!(shown["not_before"].is_string());
    let mut failure = shown["failures"][0].clone();
    assert_eq!(failure["at"].take(), shown["updated_at"]);
    let expected = json!({
        "phase": "chunking", "attempt": 1, "at": null, "type": "/problems/source-unreadable", "detail": "no answer within 10 s",
    });
    assert_eq!(failure, expected);

    stage.store(&id, content).await;
    let sha256 = Digest::of(content).to_string();
    let shown = stage.ada.file(&id).await;
    assert_eq!((&shown["phase"], &shown["sha256"]), (&json!("stored"), &json!(sha256)));
    assert_eq!(shown["chunks"], json!({ "total": 2, "stored": 2 }));
    assert_eq!((&shown["remote"], &shown["error"]), (&Value::Null, &Value::Null));

    stage.ada.finalise(&id, &sha256, &json!({ "remote": "archive" })).await;
    let shown = stage.ada.file(&id).await;
    assert_eq!((&shown["phase"], &shown["remote"]), (&json!("accepted"), &json!("archive")));
    assert_eq!((&shown["prepared_by"], &shown["finalised_by"]), (&json!("ada"), &json!("ada")));

    let held = stage.claim_delivering(&id).await;
    let shown = stage.ada.file(&id).await;
    assert_eq!((&shown["phase"], &shown["holder"]), (&json!("delivering"), &json!("finaliser-of-the-test")));
    ledger.record_retry(&held.lease, &problem, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(stage.ada.file(&id).await["phase"], "waiting");
}

#[tokio::test]
async fn the_list_is_newest_first_and_comes_in_pages() {
    let stage = Stage::set().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(stage.prepared(&n.to_string(), b"abc").await);
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/files?limit=2".to_owned());
    for length in [2, 2, 1] {
        let page = stage.ada.get(&path).await.body;
        let files = page["files"].as_array().unwrap();
        assert_eq!(files.len(), length);
        seen.extend(files.iter().map(|file| file["file_id"].as_str().unwrap().to_owned()));
        path = format!("/files?limit=2&cursor={}", page["next_cursor"].as_str().unwrap_or("none"));
    }
    assert!(path.ends_with("none"));
    assert_eq!(seen, ids);
    let all = stage.ada.get("/files").await.body;
    assert_eq!(all["files"].as_array().unwrap().len(), 5);
    assert_eq!(all["files"][0], stage.ada.file(&ids[0]).await);
    assert_eq!(all.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn the_list_can_be_filtered() {
    let stage = Stage::set().await;
    let stored = stage.stored("a", b"abc").await;
    stage.write("b", b"abc");
    let meant = stage.ada.prepare_with(&json!({ "file_path": "b", "remote": "archive" })).await.file_id();
    for (query, expected) in [
        ("state=stored", vec![&stored]),
        ("state=prepared", vec![&meant]),
        ("state=delivered", vec![]),
        ("remote=archive", vec![&meant]),
        ("remote=nowhere", vec![]),
        ("state=stored&remote=archive", vec![]),
    ] {
        let page = stage.ada.get(&format!("/files?{query}")).await.body;
        let found: Vec<_> = page["files"].as_array().unwrap().iter().map(|file| file["file_id"].clone()).collect();
        assert_eq!(json!(found), json!(expected), "{query}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let stage = Stage::set().await;
    for query in [
        "state=unknown",
        "state=",
        "cursor=x",
        "cursor=",
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=1&limit=2",
        "page=2",
    ] {
        stage.ada.get(&format!("/files?{query}")).await.assert_problem(400, "bad-parameter");
    }
}
