//! Servers of the kind `http` that promise, lie about lengths, or want another login.

use std::time::Duration;

use finaliser::remote::{Comparison, RemoteError};
use hyper::Method;

use crate::remotes::object::{PATIENT, http, later, object, refused, send, within};
use crate::remotes::storing_server::{Habits, Said, StoringServer};

const PROMISE: Said = (202, &[], b"");

#[tokio::test]
async fn a_promise_is_a_delivery_only_once_the_server_has_the_file() {
    let server = StoringServer::start(|habits| habits.accepts = true).await;
    let evidence = send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await.unwrap();
    assert_eq!((evidence.proof.as_str(), evidence.sent), ("read-back", 3));
    assert_eq!(server.calls(), [Method::PUT, Method::HEAD, Method::GET]);

    type Case = (fn(&mut Habits), &'static str, u64);
    let promise = |habits: &mut Habits| habits.put = Some(PROMISE);
    let cases: [Case; 4] = [
        (promise, "found nothing", 10),
        (|habits| habits.put = Some((202, &[("retry-after", "7")], b"")), "found nothing", 7),
        (|habits| (habits.put, habits.head) = (Some(PROMISE), Some(405)), "405", 10),
        (|habits| (habits.put, habits.head) = (Some(PROMISE), Some(401)), "401", 10),
    ];
    for (change, found, wait) in cases {
        let server = StoringServer::start(change).await;
        let (detail, after) = later(send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await);
        assert!(detail.contains("answered 202 Accepted") && detail.contains(found), "{detail}");
        // A quick try would send it again.
        assert_eq!(after, Some(Duration::from_secs(wait)));
    }
    // What had the name before is not what was sent.
    let server = StoringServer::start(promise).await;
    server.keep("x", b"abd");
    let (detail, _) = later(send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("3 bytes with the SHA-256"), "{detail}");
}

/// A proxy that compresses, or a handler that answers HEAD with an empty page.
#[tokio::test]
async fn a_length_that_is_not_that_of_the_content_does_not_count() {
    for length in [0, 2, 4, 4096] {
        let server = StoringServer::start(|habits| habits.head_length = Some(length)).await;
        let (remote, object) = (http(&server.url, PATIENT), object("x", b"abc"));
        send(&*remote, &object, b"abc").await.unwrap();
        let found = within(remote.compare(&object)).await;
        assert!(matches!(&found, Ok(Comparison::Equal(found)) if found.proof.as_str() == "read-back"), "{found:?}");
    }
    // What cannot be read has the length that HEAD says.
    let server = StoringServer::start(|habits| (habits.head_length, habits.get) = (Some(4), Some(403))).await;
    server.keep("x", b"abc");
    let found = within(http(&server.url, PATIENT).compare(&object("x", b"abc"))).await;
    assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what == "4 bytes"), "{found:?}");
}

#[tokio::test]
async fn a_login_that_we_cannot_do_is_named() {
    let digest = (401, &[("www-authenticate", "Digest realm=\"in\", qop=\"auth\", nonce=\"1\"")][..], &b""[..]);
    let basic = (401, &[("www-authenticate", "Digest realm=\"in\", Basic realm=\"in\"")][..], &b""[..]);
    for (says, is_named) in [(digest, true), (basic, false)] {
        let server = StoringServer::start(|habits| habits.put = Some(says)).await;
        let detail = refused(send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await);
        let named = detail.ends_with("the server wants Digest, and Waybill can do only Basic and Bearer");
        assert_eq!(named, is_named, "{detail}");
    }
}

#[tokio::test]
async fn a_lock_is_for_now() {
    let locked: Said = (423, &[], b"");
    let server = StoringServer::start(|habits| (habits.put, habits.head) = (Some(locked), Some(423))).await;
    let (remote, object) = (http(&server.url, PATIENT), object("x", b"abc"));
    later(send(&*remote, &object, b"abc").await);
    let found = within(remote.compare(&object)).await;
    assert!(matches!(found, Err(RemoteError::Later { .. })), "{found:?}");
}
