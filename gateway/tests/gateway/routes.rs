//! Addresses and methods.

use serde_json::json;
use testing::{JSON, until};

use crate::stage::Stage;

#[tokio::test]
async fn an_unknown_address_is_not_found() {
    let stage = Stage::set().await;
    for path in ["/", "/nothing", "/upload", "/upload//", "/upload/prepare//", "/files/a/b", "/auth"] {
        stage.ada.get(path).await.assert_problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_answer_to_a_wrong_method_lists_the_right_ones() {
    let stage = Stage::set().await;
    for (method, path, allowed) in [
        ("GET", "/upload/prepare", "POST"),
        ("PUT", "/upload/prepare/", "POST"),
        ("GET", "/upload/x/finalise", "POST"),
        ("POST", "/files", "GET,HEAD"),
        ("DELETE", "/files/x/", "GET,HEAD"),
        ("GET", "/auth/token", "POST"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let answer = stage.ada.call(method, path, &[], "").await;
        answer.assert_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn addresses_end_with_a_slash_or_without() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    for slash in ["", "/"] {
        let answer = stage.ada.post(&format!("/upload/prepare{slash}"), &json!({ "file_path": "a" })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.file_id();
        assert_eq!(stage.ada.get(&format!("/files/{id}{slash}")).await.status, 200);
        assert_eq!(stage.ada.get(&format!("/files{slash}?limit=1")).await.status, 200);
        let sha256 = contract::Digest::of(b"abc").to_string();
        let path = format!("/upload/{id}/finalise{slash}");
        let headers = [JSON, ("content-sha256", &sha256)];
        stage.ada.call("POST", &path, &headers, r#"{"remote":"archive"}"#).await.expect(202);
        for health in ["/healthz", "/readyz"] {
            let path = format!("{health}{slash}");
            let answer = until("NATS is connected", async || {
                Some(stage.stranger.get(&path).await).filter(|answer| answer.status != 503)
            })
            .await;
            assert_eq!((answer.status.as_u16(), answer.body), (200, json!({ "ok": true })));
        }
    }
}
