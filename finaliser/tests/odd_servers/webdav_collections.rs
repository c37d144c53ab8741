//! MKCOL at servers that refuse it while another delivery makes the same collection.

use std::sync::Mutex;

use futures_util::future::join_all;

use super::webdav_server::{OddServer, status};
use crate::remotes::object::{body, later, object, object_at, refused, send, within};

/// Apache answered 403, rclone 423, and others 409.
const REFUSALS: [u16; 4] = [403, 409, 423, 500];

#[tokio::test]
async fn a_collection_that_another_made_meanwhile_is_there() {
    for code in REFUSALS {
        for collection in ["/in/.waybill", "/in/2026-11-28", "/in/2026-11-28/acme"] {
            let server = OddServer::start(move |asked, tree| {
                let made_by_another = asked.method == "MKCOL" && asked.path == collection;
                made_by_another.then(|| {
                    tree.insert(collection.to_owned(), None);
                    status(code)
                })
            })
            .await;
            let sent = send(&*server.remote, &object_at("2026-11-28/acme/x", b"abc"), b"abc").await;
            sent.unwrap_or_else(|error| panic!("{code} for {collection}: {error}"));
            assert_eq!(server.stored("2026-11-28/acme/x").as_deref(), Some(&b"abc"[..]));
        }
    }
}

#[tokio::test]
async fn a_collection_that_another_is_still_making_is_waited_for() {
    for code in REFUSALS {
        let looks = Mutex::new(None);
        let server = OddServer::start(move |asked, tree| {
            let mut looks = looks.lock().unwrap();
            match (asked.method.as_str(), asked.path.as_str(), &mut *looks) {
                ("MKCOL", "/in/a", _) => {
                    *looks = Some(0);
                    Some(status(code))
                }
                ("PROPFIND", "/in/a", Some(0)) => {
                    *looks = Some(1);
                    tree.insert("/in/a".to_owned(), None);
                    Some(status(404))
                }
                _ => None,
            }
        })
        .await;
        let sent = send(&*server.remote, &object_at("a/x", b"abc"), b"abc").await;
        sent.unwrap_or_else(|error| panic!("{code}: {error}"));
    }
}

/// As at midnight, when a new day begins.
#[tokio::test]
async fn six_files_at_once_make_their_collections() {
    for code in REFUSALS {
        let server = OddServer::start(move |asked, tree| {
            (asked.method == "MKCOL" && tree.contains_key(&asked.path)).then(|| status(code))
        })
        .await;
        let objects: Vec<_> = (0..6).map(|n| object_at(&format!("2026-11-28/acme/{n}"), b"abc")).collect();
        let sent = within(join_all(objects.iter().map(|object| server.remote.send(object, body(b"abc"))))).await;
        for sent in sent {
            sent.unwrap_or_else(|error| panic!("{code}: {error}"));
        }
        assert_eq!(server.names("/in/2026-11-28/acme"), ["0", "1", "2", "3", "4", "5"]);
    }
}

#[tokio::test]
async fn a_refusal_counts_where_there_is_no_collection() {
    for (code, is_later) in [(202, true), (403, false), (409, true), (415, false), (423, true), (500, true)] {
        for collection in ["/in/.waybill", "/in/a"] {
            let server = OddServer::start(move |asked, _| {
                (asked.method == "MKCOL" && asked.path == collection).then(|| status(code))
            })
            .await;
            let sent = send(&*server.remote, &object_at("a/x", b"abc"), b"abc").await;
            let detail = if is_later { later(sent).0 } else { refused(sent) };
            assert!(code == 409 || detail.contains(&format!("{collection}/: answered {code}")), "{code}: {detail}");
            assert_eq!((server.stored("a/x"), server.names("/in/.waybill")), (None, vec![]), "{code}");
        }
    }
    // As long as nobody knows whether it is there, nothing is final.
    let server = OddServer::start(|asked, _| match asked.method.as_str() {
        "MKCOL" => Some(status(403)),
        "PROPFIND" => Some(status(503)),
        _ => None,
    })
    .await;
    later(send(&*server.remote, &object("x", b"abc"), b"abc").await);
}

#[tokio::test]
async fn a_file_is_no_collection_though_mkcol_says_that_something_is_there() {
    let server = OddServer::start(|asked, tree| {
        (asked.method == "MKCOL" && asked.path == "/in/a").then(|| {
            tree.insert("/in/a".to_owned(), Some(Default::default()));
            status(403)
        })
    })
    .await;
    let detail = refused(send(&*server.remote, &object_at("a/x", b"abc"), b"abc").await);
    assert!(detail.contains("answered 403"), "{detail}");
}
