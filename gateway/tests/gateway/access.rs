//! Who is admitted: all but three addresses need a token, which is checked before anything else.

use std::collections::BTreeSet;

use contract::FileId;
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use serde_json::{Value, json};
use testing::{Api, until};

use crate::stage::{PASSWORD, SECRET, Stage, USER};

/// Requests of all kinds, most of them wrong in another way too: address, method, id, body.
fn requests() -> Vec<(&'static str, String, &'static str)> {
    let id = FileId::generate();
    vec![
        ("POST", "/upload/prepare".into(), r#"{"file_path":"a"}"#),
        ("POST", "/upload/prepare/".into(), "{ no JSON"),
        ("GET", "/upload/prepare".into(), ""),
        ("POST", format!("/upload/{id}/finalise"), ""),
        ("POST", "/upload/no-id/finalise/".into(), ""),
        ("GET", "/files".into(), ""),
        ("GET", "/files?limit=wrong".into(), ""),
        ("GET", format!("/files/{id}/"), ""),
        ("GET", "/files/no-id".into(), ""),
        ("DELETE", format!("/files/{id}"), ""),
        ("GET", "/auth/token".into(), ""),
        ("GET", "/".into(), ""),
        ("GET", "/no/such/route".into(), ""),
    ]
}

async fn assert_kept_out(stage: &Stage, caller: &Api) {
    let before = stage.snapshot().await;
    let mut bodies = BTreeSet::new();
    for (method, path, body) in requests() {
        let answer = caller.call(method, &path, &[], body).await;
        answer.assert_problem(401, "unauthorized");
        // It would tell which addresses exist.
        assert_eq!(answer.header("allow"), None, "{method} {path}");
        bodies.insert(answer.bytes);
    }
    assert_eq!(bodies.len(), 1, "expected the same answer to every request, found {bodies:?}");
    stage.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_request_without_a_token_learns_nothing() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    assert_kept_out(&stage, &stage.stranger).await;
}

#[tokio::test]
async fn anything_but_one_bearer_token_is_refused() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let token = stage.ada.logged_in(USER, PASSWORD).await;
    assert_eq!(token.get("/files").await.status, 200);
    for field in ["", "Bearer", "Bearer ", "Basic YWRhOmNvcnJlY3QgaG9yc2U=", "correct horse"] {
        let body = r#"{"file_path":"a"}"#;
        let answer = stage.stranger.call("POST", "/upload/prepare", &[("authorization", field)], body).await;
        answer.assert_problem(401, "unauthorized");
    }
    let twice = stage.ada.call("GET", "/files", &[("authorization", "Bearer abc")], "").await;
    twice.assert_problem(401, "unauthorized");
}

#[tokio::test]
async fn open_addresses_need_no_token() {
    let stage = Stage::set().await;
    for path in ["/healthz", "/healthz/", "/readyz", "/readyz/"] {
        assert_ne!(stage.stranger.get(path).await.status, 401, "{path}");
        // Whatever the method.
        let answer = stage.stranger.call("POST", path, &[], "").await;
        answer.assert_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{path}");
    }
    for path in ["/auth/token", "/auth/token/"] {
        stage.stranger.form(path, &[]).await.assert_problem(400, "malformed-request");
        // Only POST is open there.
        for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
            let answer = stage.stranger.call(method, path, &[], "").await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (401, None), "{method} {path}");
            let answer = stage.ada.call(method, path, &[], "").await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")), "{method} {path}");
        }
    }
    for path in ["/healthz//", "/healthz/x", "/Healthz", "/auth/token//", "/auth/token/x"] {
        stage.stranger.get(path).await.assert_problem(401, "unauthorized");
        stage.ada.get(path).await.assert_problem(404, "not-found");
    }
}

fn claims() -> Value {
    let now = get_current_timestamp();
    json!({ "sub": USER, "iat": now, "exp": now + 60, "iss": "waybill" })
}

fn signed(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

#[tokio::test]
async fn expired_and_forged_tokens_are_refused() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    let good = signed(&claims(), SECRET);
    assert_eq!(stage.stranger.with_token(&good).get("/files").await.status, 200);

    let with = |member: &str, value: Value| {
        let mut claims = claims();
        claims[member] = value;
        signed(&claims, SECRET)
    };
    let payload = good.split('.').nth(1).unwrap();
    let signature = good.rsplit('.').next().unwrap();
    let bad = [
        ("expired", with("exp", json!(get_current_timestamp() - 1))),
        ("of another issuer", with("iss", json!("another"))),
        ("of nobody", with("sub", json!("nobody"))),
        ("of another key", signed(&claims(), "another secret of at least 32 bytes")),
        // {"alg":"none"}
        ("unsigned", format!("eyJhbGciOiJub25lIn0.{payload}.")),
        ("unsigned, with a signature", format!("eyJhbGciOiJub25lIn0.{payload}.{signature}")),
        ("cut", good[..good.len() - 1].to_owned()),
    ];
    for (what, token) in bad {
        let answer = stage.stranger.with_token(&token).get("/files").await;
        assert_eq!(answer.status, 401, "a token {what} was accepted");
        assert_kept_out(&stage, &stage.stranger.with_token(&token)).await;
    }
}

#[tokio::test]
async fn a_good_token_of_a_disabled_user_is_refused() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    stage.disable(USER, true).await;
    assert_kept_out(&stage, &stage.ada).await;
    stage.disable(USER, false).await;
    assert_eq!(stage.ada.get("/files").await.status, 200);
}

#[tokio::test]
async fn a_good_token_of_a_removed_user_is_refused() {
    let stage = Stage::set().await;
    stage.remove_user(USER).await;
    assert_kept_out(&stage, &stage.ada).await;
}

/// The gateway remembers an active user, but not for long.
#[tokio::test]
async fn a_user_who_is_disabled_while_at_work_is_refused_soon() {
    let stage = Stage::set().await;
    assert_eq!(stage.ada.get("/files").await.status, 200);
    stage.disable(USER, true).await;
    until("the user is refused", async || (stage.ada.get("/files").await.status == 401).then_some(())).await;
}
