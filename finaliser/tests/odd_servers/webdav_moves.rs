//! MOVE: destinations that a server takes for another's, names that it changes, and answers that promise only.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use finaliser::remote::{Comparison, RemoteError};

use super::webdav_server::{Answer, Asked, OddServer, path_of, status};
use crate::remotes::object::{later, object, refused, send, within};

/// A server that has another address than its clients know: it takes only a path in `Destination`.
fn another_server(code: u16, asked: &Asked) -> Option<Answer> {
    (asked.method == "MOVE" && !asked.destination.starts_with('/')).then(|| status(code))
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_the_path_is_the_destination() {
    for code in [502, 400] {
        let server = OddServer::start(move |asked, _| another_server(code, asked)).await;
        for name in ["x", "a b;c"] {
            send(&*server.remote, &object(name, b"abc"), b"abc").await.unwrap();
            assert_eq!(server.stored(name).as_deref(), Some(&b"abc"[..]));
        }
        let again = send(&*server.remote, &object("x", b"abc"), b"abc").await;
        assert!(matches!(again, Err(RemoteError::Conflict(_))), "{code}: {again:?}");
    }
}

#[tokio::test]
async fn both_answers_are_told_where_the_path_is_refused_too() {
    // Whether each answer is final, and how many staging files are left: a move may be under way after a 502.
    for (first, second, is_later, left) in [(502, 502, true, 1), (502, 400, false, 1), (400, 400, false, 0)] {
        let server = OddServer::start(move |asked, _| {
            another_server(first, asked).or_else(|| (asked.method == "MOVE").then(|| status(second)))
        })
        .await;
        let sent = send(&*server.remote, &object("x", b"abc"), b"abc").await;
        let detail = if is_later { later(sent).0 } else { refused(sent) };
        for said in [format!("MOVE to {}x: answered {first}", server.url), format!("MOVE to /in/x: answered {second}")]
        {
            assert!(detail.contains(&said), "{said} is not in {detail}");
        }
        assert_eq!(server.names("/in/.waybill").len(), left, "{first}, {second}");
    }
}

#[tokio::test]
async fn a_claim_that_was_lost_between_both_moves_moves_nothing() {
    let server = OddServer::start(|asked, _| another_server(502, asked)).await;
    let mut object = object("x", b"abc");
    // Before the body, before its last bytes, and before the first MOVE.
    let asked = AtomicUsize::new(0);
    object.still_ours = Box::new(move || asked.fetch_add(1, Ordering::Relaxed) < 3);
    let sent = send(&*server.remote, &object, b"abc").await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert_eq!((server.count("MOVE"), server.stored("x")), (1, None));
}

/// The move was done, but the proxy lost the answer.
#[tokio::test]
async fn a_move_that_was_done_before_a_502_is_found() {
    let server = OddServer::start(|asked, tree| {
        another_server(502, asked).inspect(|_| {
            let content = tree.remove(&asked.path).unwrap();
            tree.insert(path_of(&asked.destination), content);
        })
    })
    .await;
    let object = object("x", b"abc");
    later(send(&*server.remote, &object, b"abc").await);
    let found = within(server.remote.compare(&object)).await;
    assert!(matches!(found, Ok(Comparison::Equal(_))), "{found:?}");
    assert_eq!(server.names("/in/.waybill"), Vec::<String>::new());
}

/// As wsgidav does: it cuts at `;` and drops line ends.
#[tokio::test]
async fn a_file_that_is_stored_under_another_name_is_not_delivered() {
    let server = OddServer::start(|asked, _| {
        let to = path_of(&asked.destination);
        asked.destination = to.split(';').next().unwrap().replace('\n', "");
        None
    })
    .await;
    for (name, other) in [("a;b", "a"), ("new\nline", "newline")] {
        let detail = refused(send(&*server.remote, &object(name, b"abc"), b"abc").await);
        assert!(detail.contains("answered 201") && detail.contains("no file of that name"), "{detail}");
        assert_eq!(server.stored(other).as_deref(), Some(&b"abc"[..]));
    }
    send(&*server.remote, &object("plain", b"abc"), b"abc").await.unwrap();
    assert_eq!(server.names("/in/.waybill"), Vec::<String>::new());
}

/// As in a folder from which somebody takes what appears.
#[tokio::test]
async fn a_file_that_is_taken_at_once_is_delivered() {
    let server = OddServer::start(|asked, tree| {
        if asked.method == "PROPFIND" && asked.path == "/in/x" {
            tree.remove("/in/x");
        }
        None
    })
    .await;
    send(&*server.remote, &object("x", b"abc"), b"abc").await.unwrap();
}

#[tokio::test]
async fn a_move_that_did_nothing_is_not_a_delivery() {
    let server = OddServer::start(|asked, _| (asked.method == "MOVE").then(|| status(204))).await;
    refused(send(&*server.remote, &object("x", b"abc"), b"abc").await);
    assert_eq!(server.names("/in/.waybill"), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_shows_a_moment_late_is_delivered() {
    let looks = Mutex::new(0);
    let server = OddServer::start(move |asked, tree| {
        let is_look = asked.method == "PROPFIND" && asked.path == "/in/x" && tree.contains_key("/in/x");
        let mut looks = looks.lock().unwrap();
        *looks += usize::from(is_look);
        (is_look && *looks == 1).then(|| status(404))
    })
    .await;
    send(&*server.remote, &object("x", b"abc"), b"abc").await.unwrap();
}

/// The file is there, so nothing that happens to the question may fail it for good.
#[tokio::test]
async fn a_look_that_fails_is_no_refusal() {
    for code in [401, 503] {
        let server = OddServer::start(move |asked, tree| {
            (asked.method == "PROPFIND" && tree.contains_key("/in/x")).then(|| status(code))
        })
        .await;
        let (detail, _) = later(send(&*server.remote, &object("x", b"abc"), b"abc").await);
        assert!(detail.contains("answered 201") && detail.contains(&code.to_string()), "{detail}");
    }
}

#[tokio::test]
async fn a_promise_to_move_is_a_delivery_only_once_the_file_is_there() {
    for is_done in [true, false] {
        let server = OddServer::start(move |asked, tree| {
            (asked.method == "MOVE").then(|| {
                if is_done {
                    let content = tree.remove(&asked.path).unwrap();
                    tree.insert(path_of(&asked.destination), content);
                }
                status(202)
            })
        })
        .await;
        let sent = send(&*server.remote, &object("x", b"abc"), b"abc").await;
        match is_done {
            true => {
                assert_eq!(sent.map(|evidence| (evidence.proof.as_str(), evidence.sent)).unwrap(), ("read-back", 3))
            }
            false => {
                let (detail, after) = later(sent);
                assert!(detail.contains("answered 202 Accepted; expected the file there by now"), "{detail}");
                assert!(after.is_some(), "a quick try would send it again");
                // It may still be moved.
                assert_eq!(server.names("/in/.waybill").len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_promise_to_keep_the_staging_file_moves_nothing_yet() {
    for is_kept in [true, false] {
        let server = OddServer::start(move |asked, tree| {
            (asked.method == "PUT").then(|| {
                if is_kept {
                    tree.insert(asked.path.clone(), Some("abc".into()));
                }
                status(202)
            })
        })
        .await;
        let sent = send(&*server.remote, &object("x", b"abc"), b"abc").await;
        match is_kept {
            true => drop(sent.unwrap()),
            false => drop(later(sent)),
        }
        assert_eq!(server.count("MOVE"), usize::from(is_kept));
    }
}
