//! HEAD and GET: what the finaliser learns about an object.

use std::io::Write;
use std::time::Duration;

use finaliser::remote::{Comparison, RemoteError};
use hyper::Method;

use crate::remotes::object::{IMPATIENT, PATIENT, bytes, http, later, object, refused, within};
use crate::remotes::raw_server::{SilentServer, answer, read_head};
use crate::remotes::storing_server::{Habits, StoringServer};

/// Looks for `wanted` at a server with these habits that has `has`. Also returns the methods that it was asked.
async fn look(
    change: impl FnOnce(&mut Habits),
    has: &[u8],
    wanted: &[u8],
) -> (Result<Comparison, RemoteError>, Vec<Method>) {
    let server = StoringServer::start(change).await;
    server.keep("x", has);
    let found = within(http(&server.url, PATIENT).compare(&object("x", wanted))).await;
    (found, server.calls())
}

#[track_caller]
fn equal(found: (Result<Comparison, RemoteError>, Vec<Method>), proof: &str, calls: &[Method]) {
    match found.0 {
        Ok(Comparison::Equal(evidence)) => {
            assert_eq!(
                (evidence.status, evidence.etag.as_deref(), evidence.proof.as_str()),
                (Some(200), Some("\"two\""), proof)
            );
            // The receipt has the checksum as the server wrote it.
            let named = evidence.checksum.map(|checksum| (checksum.field, checksum.value));
            let digest = contract::Digest::of(b"abc").to_repr_digest();
            let digest = ("repr-digest".to_owned(), format!("sha-512=:AAAA:, {digest}"));
            assert_eq!(named, (proof == "digest").then_some(digest));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(found.1, calls);
}

#[track_caller]
fn other(found: (Result<Comparison, RemoteError>, Vec<Method>), why: &str, calls: &[Method]) {
    match found.0 {
        Ok(Comparison::Different(found)) => assert!(found.what.contains(why), "{found:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(found.1, calls);
}

const HEAD: &[Method] = &[Method::HEAD];
const BOTH: &[Method] = &[Method::HEAD, Method::GET];

#[tokio::test]
async fn a_digest_is_enough_to_compare() {
    equal(look(|habits| habits.digest = true, b"abc", b"abc").await, "digest", HEAD);
    other(look(|habits| habits.digest = true, b"abd", b"abc").await, "the SHA-256", HEAD);
    other(look(|habits| habits.wrong_digest = true, b"abc", b"abc").await, "the SHA-256", HEAD);
}

#[tokio::test]
async fn another_length_is_enough_to_compare() {
    other(look(|_| {}, b"abcd", b"abc").await, "4 bytes", BOTH);
    other(look(|habits| habits.digest = true, b"", b"abc").await, "the SHA-256", HEAD);
}

#[tokio::test]
async fn without_a_digest_it_is_read_back() {
    let content = bytes(3_000_000);
    equal(look(|_| {}, &content, &content).await, "read-back", BOTH);
    equal(look(|_| {}, b"", b"").await, "read-back", BOTH);
    other(look(|_| {}, b"abd", b"abc").await, "3 bytes with the SHA-256", BOTH);
}

#[tokio::test]
async fn without_a_length_it_is_read_back() {
    let content = bytes(3_000_000);
    equal(look(|habits| habits.length = false, &content, &content).await, "read-back", BOTH);
    other(look(|habits| habits.length = false, &content, &content[1..]).await, "more than 2999999 bytes", BOTH);
    other(look(|habits| habits.length = false, &content[1..], &content).await, "2999999 bytes with", BOTH);
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown() {
    let unknown =
        |found: Result<Comparison, RemoteError>| assert!(matches!(found, Ok(Comparison::Unknown(_))), "{found:?}");
    for code in [405, 501] {
        unknown(look(|habits| habits.head = Some(code), b"abc", b"abc").await.0);
    }
    for code in [403, 405, 501] {
        unknown(look(|habits| habits.get = Some(code), b"abc", b"abc").await.0);
    }
    unknown(look(|habits| habits.coding = Some("gzip"), b"abcd", b"abc").await.0);
}

#[tokio::test]
async fn an_object_that_is_gone_is_absent() {
    for code in [404, 410] {
        assert!(matches!(look(|habits| habits.head = Some(code), b"abc", b"abc").await.0, Ok(Comparison::Absent)));
        assert!(matches!(look(|habits| habits.get = Some(code), b"abc", b"abc").await.0, Ok(Comparison::Absent)));
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_what_it_has() {
    for code in [301, 400, 401, 403, 412] {
        refused(look(|habits| habits.head = Some(code), b"abc", b"abc").await.0);
    }
    for code in [400, 401] {
        refused(look(|habits| habits.get = Some(code), b"abc", b"abc").await.0);
    }
    for code in [408, 425, 429, 500, 503] {
        later(look(|habits| habits.head = Some(code), b"abc", b"abc").await.0);
        later(look(|habits| habits.get = Some(code), b"abc", b"abc").await.0);
    }
}

/// Looks at a server that answers HEAD with nothing to compare, and GET with `head` and `content`, without hanging up.
async fn read_back(idle: Duration, head: &'static str, content: &'static [u8]) -> Result<Comparison, RemoteError> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(read_head(&mut stream).starts_with("HEAD "));
        answer(&mut stream, "HTTP/1.1 200 OK\r\n\r\n");
        let (mut stream, _) = listener.accept().unwrap();
        assert!(read_head(&mut stream).starts_with("GET "));
        answer(&mut stream, head);
        stream.write_all(content).unwrap();
        if head.contains("close") {
            return;
        }
        let _ = is_done.recv();
    });
    let found = within(http(&url, idle).compare(&object("x", b"abcdef"))).await;
    drop(done);
    server.join().unwrap();
    found
}

#[tokio::test]
async fn an_interrupted_reading_is_not_another_file() {
    let (detail, _) = later(read_back(IMPATIENT, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc").await);
    assert!(detail.contains("for 200ms"), "{detail}");
    later(read_back(PATIENT, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n", b"abc").await);
    let (detail, _) = later(read_back(PATIENT, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"abc").await);
    assert!(detail.contains("ended after 3 of 6 bytes"), "{detail}");
    let whole = read_back(PATIENT, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"abcdef").await;
    assert!(matches!(whole, Ok(Comparison::Equal(_))), "{whole:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = SilentServer::start(|stream| drop(read_head(stream)));
    let (detail, _) = later(within(http(&server.url, IMPATIENT).compare(&object("x", b"abc"))).await);
    assert!(detail.contains("nor answered for 200ms"), "{detail}");
}
