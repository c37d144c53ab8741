//! Limits of memory, connections and time, and how the gateway stops.

use contract::Role;
use serde_json::json;
use testing::{Api, DEADLINE, JSON, Sandbox, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{PASSWORD, Stage, USER};

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let stage = Stage::set_with(|settings| settings.gateway.body_limit = 2048).await;
    let id = stage.prepared("a", b"abc").await;
    let before = stage.snapshot().await;
    // The last is refused by its Content-Length, without being read.
    for size in [2049, 100_000, 3 << 20] {
        let body = format!("{}{}", r#"{"file_path":"a"}"#, " ".repeat(size - 17));
        if size < 1 << 20 {
            let prepare = stage.ada.call("POST", "/upload/prepare", &[JSON], body.clone()).await;
            prepare.assert_problem(413, "body-too-large");
            let sha256 = contract::Digest::of(b"abc").to_string();
            let finalise = format!("/upload/{id}/finalise");
            let finalise = stage.ada.call("POST", &finalise, &[("content-sha256", &sha256)], body).await;
            finalise.assert_problem(413, "body-too-large");
        } else {
            let head = format!(
                "POST /auth/token HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\nexpect: 100-continue\r\n\r\n"
            );
            let answer = raw(&stage, head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        }
    }
    let just = format!("{}{}", r#"{"file_path":"a"}"#, " ".repeat(2048 - 17));
    stage.assert_unchanged(&before).await;
    assert_eq!(stage.ada.call("POST", "/upload/prepare", &[], just).await.status, 201);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out() {
    let stage = Stage::set_with(|settings| settings.gateway.read_timeout_ms = 300).await;
    let answer = raw(&stage, b"POST /auth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nuser").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("/problems/request-timeout"), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_arrive_closes_the_connection() {
    let stage = Stage::set_with(|settings| settings.gateway.read_timeout_ms = 300).await;
    let whole = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for (sent, answers) in [("", 0), ("GET /healthz HTTP/1.1\r\nhost:", 0), (whole, 1), (&format!("{whole}GET"), 1)] {
        let answer = raw(&stage, sent.as_bytes()).await;
        assert_eq!(answer.matches("200 OK").count(), answers, "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_do_no_harm() {
    let stage = Stage::set().await;
    let endless = format!("GET /healthz HTTP/1.1\r\nx: {}", "x".repeat(1 << 20));
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"GET\r\n\r\n", endless.as_bytes()] {
        let answer = raw(&stage, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(stage.stranger.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_gateway_ends() {
    let stage = Stage::set_with(|settings| settings.work.grace_ms = 60_000).await;
    let login = format!("username={USER}&password={}", PASSWORD.replace(' ', "+"));
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let head = format!(
        "POST /auth/token HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        login.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The gateway asks for the body, so the request is under way.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    stage.service.life.stop();
    until("no further connection is accepted", async || TcpStream::connect(stage.address).await.err()).await;
    stream.write_all(login.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("access_token"), "{answer}");
    stage.service.life.ended().await.unwrap();
}

#[tokio::test]
async fn a_client_that_lingers_does_not_delay_the_end() {
    let stage = Stage::set().await;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(b"POST /auth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    assert_eq!(stage.ada.prepare("nothing").await.status, 404);
    stage.service.life.stop();
    stage.service.life.ended().await.unwrap();
}

/// Sends bytes as they are and reads until the connection ends.
async fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // The gateway may have closed the connection already.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer));
    let _ = reading.await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// 1 PiB. No disk here holds it; a sparse file in memory can be as large.
#[tokio::test]
async fn a_file_larger_than_the_free_space_is_refused() {
    let memory = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let stage = Stage::set_with(|settings| {
        settings.gateway.free_space_floor = 1;
        settings.files.max_size = 1 << 50;
        settings.files.roots = vec![memory.path().to_owned()];
    })
    .await;
    let file = std::fs::File::create(memory.path().join("sparse")).unwrap();
    let before = stage.snapshot().await;
    file.set_len(1 << 50).unwrap();
    let problem = stage.ada.prepare("sparse").await.assert_problem(507, "insufficient-storage");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("1125899906842624") && detail.contains("free_space_floor"), "{detail}");
    file.set_len((1 << 50) + 1).unwrap();
    let problem = stage.ada.prepare("sparse").await.assert_problem(422, "file-too-large");
    assert!(problem["detail"].as_str().unwrap().contains("files.max_size"), "{problem}");
    stage.assert_unchanged(&before).await;
    file.set_len(3).unwrap();
    assert_eq!(stage.ada.prepare("sparse").await.status, 201);
}

/// A sparse file of 8 TiB.
#[tokio::test]
async fn by_default_a_file_of_terabytes_is_refused() {
    let memory = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let stage = Stage::set_with(|settings| settings.files.roots = vec![memory.path().to_owned()]).await;
    std::fs::File::create(memory.path().join("sparse")).unwrap().set_len(8 << 40).unwrap();
    stage.ada.prepare("sparse").await.assert_problem(422, "file-too-large");
}

#[tokio::test]
async fn below_the_floor_of_free_space_new_files_are_refused_and_known_ones_go_on() {
    let stage = Stage::set_with(|settings| settings.gateway.free_space_floor = 1 << 50).await;
    stage.write("a", b"abc");
    let before = stage.snapshot().await;
    let refused = stage.ada.call("POST", "/upload/prepare", &[("idempotency-key", "k")], r#"{"file_path":"a"}"#).await;
    refused.assert_problem(507, "insufficient-storage");
    stage.assert_unchanged(&before).await;

    // The same database behind a gateway with a lower floor.
    let mut settings = stage.settings.clone();
    settings.gateway.free_space_floor = 1;
    let sandbox = Sandbox::of(settings).await;
    let service = sandbox.start(Role::Gateway).await.unwrap();
    let address = gateway::run(service).await.unwrap();
    let lower = Api::new(&format!("http://{address}")).logged_in(USER, PASSWORD).await;
    let id = lower.prepare("a").await.expect(201).file_id();
    stage.store(&id, b"abc").await;
    let sha256 = contract::Digest::of(b"abc").to_string();
    let finalised = stage.ada.finalise(&id, &sha256, &json!({ "remote": "archive" })).await;
    assert_eq!(finalised.status, 202, "a file that was accepted is delivered without more space: {finalised:?}");
}
