//! What the gateway does while NATS or MongoDB is down, and what it announces while they are up.

use std::net::TcpListener;

use contract::{Cause, Hint, Role, Step};
use futures_util::StreamExt;
use serde_json::json;
use servers::Nats;
use settings::{Secret, Settings};
use tempfile::TempDir;
use testing::{DEADLINE, own_mongo, own_nats, until};

use crate::stage::{self, Stage};

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn without_nats(settings: &mut Settings) {
    settings.nats.url = format!("nats://127.0.0.1:{}", closed_port());
}

#[tokio::test]
async fn prepare_and_finalise_are_answered_while_nats_is_down() {
    let stage = Stage::set_with(without_nats).await;
    let id = stage.stored("a", b"abc").await;
    let sha256 = contract::Digest::of(b"abc").to_string();
    let answer = stage.ada.finalise(&id, &sha256, &json!({ "remote": "archive" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(stage.stranger.get("/healthz").await.status, 200);
    let answer = stage.stranger.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), &answer.body["ok"]), (503, &json!(false)));
    assert_eq!(answer.body["problems"], json!(["NATS is not connected"]));
}

#[tokio::test]
async fn prepare_and_finalise_are_announced() {
    let stage = Stage::set().await;
    let names = &stage.service.names;
    // The streams are made in the background; hints from before that are left to the sweep.
    until("ready", async || (stage.stranger.get("/readyz").await.status == 200).then_some(())).await;
    let client = async_nats::connect(&stage.service.settings.nats.url).await.unwrap();
    let mut prepares = client.subscribe(names.hints(Step::Prepare)).await.unwrap();
    let mut finalises = client.subscribe(names.hints(Step::Finalise)).await.unwrap();
    client.flush().await.unwrap();

    let id = stage.prepared("a", b"abc").await;
    let sha256 = contract::Digest::of(b"abc").to_string();
    assert_announced(&mut prepares, &names.hint(Step::Prepare, id.parse().unwrap())).await;

    stage.store(&id, b"abc").await;
    stage.ada.finalise(&id, &sha256, &json!({ "remote": "archive" })).await;
    assert_announced(&mut finalises, &names.hint(Step::Finalise, id.parse().unwrap())).await;
}

/// The first hint is the gateway's own: a hint that is not published at once comes from a sweep, after 15 s, and says so.
async fn assert_announced(hints: &mut async_nats::Subscriber, subject: &str) {
    let message = tokio::time::timeout(DEADLINE, hints.next()).await.unwrap().unwrap();
    assert_eq!(message.subject.as_str(), subject);
    let hint = Hint::from_json(&message.payload).unwrap();
    assert!(subject.ends_with(&hint.file_id.to_string()));
    assert_ne!(hint.cause, Cause::Sweep);
}

#[tokio::test]
async fn it_registers_in_the_services_api() {
    assert_registered(&Stage::set().await).await;
}

#[tokio::test]
async fn it_registers_when_nats_starts_later_than_the_gateway() {
    let nats = own_nats(8 << 20).await;
    let (options, url) = (nats.options().clone(), nats.url());
    nats.kill().await.unwrap();
    let stage = Stage::set_with(|settings| settings.nats.url = url.clone()).await;
    assert_eq!(stage.stranger.get("/readyz").await.status, 503);
    let nats = Nats::start(options).await.unwrap();
    assert_eq!(nats.url(), url);
    assert_registered(&stage).await;
    until("ready", async || (stage.stranger.get("/readyz").await.status == 200).then_some(())).await;
}

async fn assert_registered(stage: &Stage) {
    let client = async_nats::connect(&stage.service.settings.nats.url).await.unwrap();
    let subject = format!("$SRV.INFO.{}", stage.service.names.service(Role::Gateway));
    let info = until("registered", async || client.request(subject.clone(), "".into()).await.ok()).await;
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["metadata"]["worker"], json!(stage.service.worker));
    assert_eq!(info["endpoints"][0]["name"], "status");
}

#[tokio::test]
async fn without_mongodb_callers_are_only_told_to_try_again() {
    let mongo = own_mongo().await;
    let stage = Stage::set_with(|settings| {
        settings.mongodb.uri = Secret::new(mongo.uri());
        settings.mongodb.server_selection_timeout_ms = 500;
        settings.mongodb.operation_timeout_ms = 3_000;
    })
    .await;
    stage.write("a", b"abc");
    assert_eq!(stage.ada.get("/files").await.status, 200);
    let id = stage.prepared("a", b"abc").await;
    mongo.kill().await.unwrap();

    let sha256 = contract::Digest::of(b"abc").to_string();
    let answers = [
        stage.ada.prepare("a").await,
        stage.ada.finalise(&id, &sha256, &json!({ "remote": "archive" })).await,
        stage.ada.get(&format!("/files/{id}")).await,
        stage.ada.get("/files").await,
        stage.stranger.log_in("ada", "x").await,
    ];
    for answer in &answers {
        answer.assert_problem(503, "unavailable");
    }
    let ready =
        until("not ready", async || Some(stage.stranger.get("/readyz").await).filter(|answer| answer.status == 503))
            .await;
    for answer in answers.iter().chain([&ready]) {
        let body = String::from_utf8_lossy(&answer.bytes);
        assert!(!body.contains("127.0.0.1") && !body.contains(&mongo.port().to_string()), "{body}");
    }
    assert_eq!(stage.stranger.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_gateway_that_cannot_serve_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    type Change = Box<dyn Fn(&mut Settings)>;
    let changes: [(&str, Change); 6] = [
        ("auth.jwt_secret", Box::new(|settings| settings.auth.jwt_secret = None)),
        ("auth.jwt_secret", Box::new(|settings| settings.auth.jwt_secret = Some(Secret::new("x".repeat(31))))),
        ("files.roots", Box::new(|settings| settings.files.roots.clear())),
        ("files.roots", Box::new(|settings| settings.files.roots.push("/nowhere".into()))),
        ("files.roots", Box::new(|settings| settings.files.roots.push("/etc/passwd".into()))),
        ("gateway.listen", Box::new(move |settings| settings.gateway.listen = taken_at)),
    ];
    for (key, change) in changes {
        let folder = TempDir::new().unwrap();
        let sandbox = stage::sandbox(folder.path(), change).await;
        let service = sandbox.start(Role::Gateway).await.unwrap();
        let error = gateway::run(service.clone()).await.unwrap_err().to_string();
        assert!(error.contains(key), "{key} is not named in {error:?}");
        assert!(!error.contains("xxx"), "{error}");
        service.life.stop();
    }
}
