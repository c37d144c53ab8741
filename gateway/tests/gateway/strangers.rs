//! What strangers do to keep others out: they hold connections, take no answers, and guess passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ledger::{NewFile, NewUser};
use testing::{Api, new_file, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::stage::{PASSWORD, Stage, USER};

/// An address of this machine from which nobody else comes.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// A connection whose client has room for few bytes of answers.
async fn narrow(stage: &Stage) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(stage.address).await.unwrap()
}

/// The status and body of an answer on a connection of its own.
async fn ask(stage: &Stage, path: &str) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer.split_off("HTTP/1.1 ".len())
}

#[tokio::test]
async fn a_client_that_takes_no_answers_loses_its_connection() {
    let stage = Stage::set_with(|settings| settings.gateway.read_timeout_ms = 300).await;
    let mut stream = narrow(&stage).await;
    let requests = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    // The gateway takes requests until there is no room for its answers.
    within(async { while stream.write_all(requests.as_bytes()).await.is_ok() {} }).await;
}

#[tokio::test]
async fn health_checks_are_answered_although_others_hold_all_connections() {
    let stage = Stage::set_with(|settings| {
        settings.gateway.max_connections = 4;
        settings.gateway.read_timeout_ms = 600_000;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(stage.address).await.unwrap());
    }
    until("connections are in the reserve", async || ask(&stage, "/files").await.starts_with("503 ").then_some(()))
        .await;
    for _ in 0..20 {
        for path in ["/healthz", "/readyz"] {
            let answer = ask(&stage, path).await;
            assert!(answer.starts_with("200 "), "{path}: {answer}");
        }
    }
    let refused = ask(&stage, "/files").await;
    assert!(refused.contains("/problems/busy") && refused.contains("retry-after: 5"), "{refused}");
    // The reserve has ended the oldest to take in the newest.
    within(held[100].read_u8()).await.unwrap_err();
    drop(held);
    until("others are served again", async || ask(&stage, "/files").await.starts_with("401 ").then_some(())).await;
}

#[tokio::test]
async fn one_peer_gets_only_some_of_the_connections() {
    let stage = Stage::set_with(|settings| {
        settings.gateway.max_connections_per_peer = 2;
        settings.gateway.read_timeout_ms = 600_000;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(stage.address).await.unwrap());
    }
    until("the peer has all it may have", async || ask(&stage, "/files").await.starts_with("503 ").then_some(())).await;
    assert!(ask(&stage, "/healthz").await.starts_with("200 "));
    assert_eq!(stage.ada.at(ELSEWHERE.into()).get("/files").await.status, 200);
}

#[tokio::test]
async fn one_user_has_only_some_lists_under_way() {
    let stage = Stage::set_with(|settings| settings.gateway.read_timeout_ms = 600_000).await;
    let eve = stage.another_user("eve").await;
    for _ in 0..20 {
        let metadata = [("k".to_owned(), "v".repeat(60_000))].into();
        stage.service.ledger.create(NewFile { metadata, ..new_file(3) }).await.unwrap();
    }
    let token = stage.stranger.log_in(USER, PASSWORD).await.text("access_token").to_owned();
    let mut unread = Vec::new();
    // More than eight: a question of the wait below may take the place of one.
    for _ in 0..16 {
        let mut stream = narrow(&stage).await;
        let request = format!("GET /files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    let status = async |caller: &Api| caller.get("/files?limit=1").await.status.as_u16();
    until("eight lists are under way", async || (status(&stage.ada).await == 503).then_some(())).await;
    stage.ada.get("/files?limit=1").await.assert_problem(503, "busy");
    assert_eq!(status(&eve).await, 200);
    // A list of which the client has taken most is no longer under way.
    for mut stream in unread {
        tokio::spawn(async move { drop(stream.read_to_end(&mut Vec::new()).await) });
    }
    until("lists were taken", async || (status(&stage.ada).await == 200).then_some(())).await;
}

/// Guesses over and over on 100 connections until it is dropped.
struct Flood {
    going: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Flood {
    /// Against the name `username`, or another name each time.
    fn begin(guesser: &Api, username: Option<&'static str>) -> Self {
        let (going, refused) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        for number in 0..100 {
            let (guesser, going, refused) = (guesser.clone(), going.clone(), refused.clone());
            tokio::spawn(async move {
                for guess in 0.. {
                    let name = username.map_or_else(|| format!("n-{number}-{guess}"), str::to_owned);
                    if !going.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = guesser.log_in(&name, "battery staple").await;
                    assert!([401, 429, 503].contains(&answer.status.as_u16()), "{answer:?}");
                    refused.fetch_add(usize::from(answer.status == 429), Ordering::Relaxed);
                }
            });
        }
        Self { going, refused }
    }

    async fn until_refused(&self) {
        until("guesses are refused", async || (self.refused.load(Ordering::Relaxed) > 100).then_some(())).await;
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_guesses_keeps_nobody_at_another_address_out() {
    let stage = Stage::set().await;
    let users: Vec<_> = (0..5).map(|number| format!("user-{number}")).collect();
    for username in &users {
        stage.service.ledger.add_user(&NewUser { username, password: PASSWORD }).await.unwrap();
    }
    let flood = Flood::begin(&stage.stranger.at(ELSEWHERE.into()), None);
    for username in users.iter().cycle().take(30) {
        stage.stranger.log_in(username, PASSWORD).await.expect(200);
    }
    flood.until_refused().await;
    for username in users.iter().cycle().take(30) {
        stage.stranger.log_in(username, PASSWORD).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_guesses_does_not_lock_out_who_was_here_before() {
    let stage = Stage::set().await;
    // At the same address, as behind a proxy.
    let flood = Flood::begin(&stage.stranger, None);
    flood.until_refused().await;
    for _ in 0..10 {
        stage.stranger.log_in(USER, PASSWORD).await.expect(200);
    }
    drop(flood);
    // With the same name.
    let flood = Flood::begin(&stage.stranger.at(ELSEWHERE.into()), Some(USER));
    flood.until_refused().await;
    for _ in 0..10 {
        stage.stranger.log_in(USER, PASSWORD).await.expect(200);
    }
}

/// Guesses from many addresses count together for the name.
#[tokio::test]
async fn a_name_is_guarded_against_guesses_from_everywhere() {
    let stage = Stage::set().await;
    let guesses = (3..=102).map(|number| {
        let guesser = stage.stranger.at([127, 0, 0, number].into());
        tokio::spawn(async move { guesser.log_in("grace", "battery staple").await.status.as_u16() })
    });
    let mut wrong = 0;
    for guess in guesses.collect::<Vec<_>>() {
        match guess.await.unwrap() {
            401 => wrong += 1,
            status => assert_eq!(status, 429),
        }
    }
    // Further ones are free as time passes: one every three seconds.
    assert!((20..60).contains(&wrong), "{wrong} of 100 guesses were compared");
}
