//! WebDAV: answers that a real server does not give on demand.

use std::collections::BTreeSet;

use finaliser::remote::{Comparison, Remote, RemoteError};

use crate::remotes::conformance::Place;
use crate::remotes::object::{IMPATIENT, bytes, later, object, object_at, refused, send, within};
use crate::remotes::scripted_proxy::{Action, ScriptedProxy};
use crate::remotes::webdav::{Share, open_webdav};

fn says(status: &str) -> Action {
    Action::Answer(format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nsaid so"))
}

/// A remote behind a proxy that acts on requests that begin with `mark`; the proxy stands before an nginx.
async fn behind(
    mark: &'static str,
    action: impl Fn() -> Action + Send + Sync + 'static,
) -> Option<(Box<dyn Remote>, ScriptedProxy, Share)> {
    let served = Share::new(|_| {}).await?;
    let server = served.nginx.url().replace("http://", "").replace('/', "");
    let script = move |line: &str| if line.starts_with(mark) { action() } else { Action::Pass };
    let proxy = ScriptedProxy::start(server, script).await;
    let url = format!("http://{}/in/", proxy.address);
    let idle = u64::try_from(IMPATIENT.as_millis()).unwrap();
    let remote = open_webdav(&url, |remote| remote.server.idle_timeout_ms = 5 * idle);
    Some((remote, proxy, served))
}

/// The methods of the requests, in their order.
fn asked(proxy: &ScriptedProxy) -> Vec<String> {
    proxy.seen().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn requests_come_in_this_order() {
    let Some((remote, proxy, served)) = behind("nothing", || Action::Pass).await else { return };
    let object = object_at("a/b/x", b"abc");
    let evidence = send(&*remote, &object, b"abc").await.unwrap();
    assert_eq!((evidence.proof.as_str(), evidence.sent), ("put", 3));
    let put = proxy.seen().into_iter().find(|line| line.starts_with("PUT ")).unwrap();
    let written = put.split(' ').nth(1).unwrap();
    assert!(written.starts_with(&format!("/in/.waybill/{}.7.", object.file_id)), "{written}");
    let lines = [
        "MKCOL /in/.waybill/ HTTP/1.1".to_owned(),
        put.clone(),
        "PROPFIND /in/a/b HTTP/1.1".to_owned(),
        "PROPFIND /in/a HTTP/1.1".to_owned(),
        "MKCOL /in/a/ HTTP/1.1".to_owned(),
        "MKCOL /in/a/b/ HTTP/1.1".to_owned(),
        format!("MOVE {written} HTTP/1.1"),
        "PROPFIND /in/a/b/x HTTP/1.1".to_owned(),
    ];
    assert_eq!(proxy.seen(), lines);
    assert_eq!(remote.address(&object.path), format!("http://{}/in/a/b/x", proxy.address));
    // The next try of the same claim has another name.
    let again = send(&*remote, &object, b"abc").await;
    assert!(matches!(again, Err(RemoteError::Conflict(_))), "{again:?}");
    let puts: BTreeSet<_> = proxy.seen().into_iter().filter(|line| line.starts_with("PUT ")).collect();
    assert_eq!(puts.len(), 2, "{puts:?}");
    assert_eq!(served.asides(), BTreeSet::new());
}

#[tokio::test]
async fn a_refused_put_is_cleaned_up() {
    for (status, is_later) in [("507 Full", true), ("503 Busy", true), ("412 There", true), ("413 Large", false)] {
        let Some((remote, proxy, served)) = behind("PUT ", move || says(status)).await else { return };
        let content = bytes(1000);
        let sent = send(&*remote, &object("x", &content), &content).await;
        match is_later {
            true => drop(later(sent)),
            false => drop(refused(sent)),
        }
        assert_eq!(asked(&proxy), ["MKCOL", "PUT", "DELETE"], "{status}");
        assert_eq!(served.stored("x"), None);
    }
    // A line that breaks.
    let Some((remote, proxy, _served)) = behind("PUT ", || Action::CutAfter(500)).await else { return };
    let content = bytes(1000);
    later(send(&*remote, &object("x", &content), &content).await);
    assert_eq!(asked(&proxy), ["MKCOL", "PUT", "DELETE"]);
}

#[tokio::test]
async fn each_answer_to_a_move() {
    // Each status: whether the delivery is tried later, and whether the staged file is removed.
    for (status, is_later, removed) in [
        ("404 Gone", true, true),
        ("423 Locked", true, true),
        ("424 Depends", true, true),
        ("403 No", false, true),
        ("409 Conflict", false, true),
        ("301 Elsewhere", false, true),
        ("202 Accepted", true, false),
        ("207 Several", true, false),
        ("500 Broken", true, false),
        ("502 Elsewhere", true, false),
        ("507 Full", true, false),
    ] {
        let Some((remote, proxy, served)) = behind("MOVE ", move || says(status)).await else { return };
        let sent = send(&*remote, &object("x", b"abc"), b"abc").await;
        let detail = match is_later {
            true => later(sent).0,
            false => refused(sent),
        };
        assert!(detail.contains(&status[..3]) && detail.contains("said so"), "{status}: {detail}");
        assert_eq!(proxy.seen().last().unwrap().starts_with("DELETE "), removed, "{status}");
        assert_eq!(served.asides().is_empty(), removed, "{status}");
        assert_eq!(served.stored("x"), None);
    }
    let Some((remote, proxy, served)) = behind("MOVE ", || says("412 There")).await else { return };
    let sent = send(&*remote, &object("x", b"abc"), b"abc").await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
    assert_eq!(asked(&proxy), ["MKCOL", "PUT", "MOVE", "DELETE"]);
    assert!(served.asides().is_empty());
}

#[tokio::test]
async fn after_a_move_without_an_answer_the_server_is_asked() {
    for (action, done) in [((|| Action::Swallow) as fn() -> Action, true), (|| Action::CutAfter(0), false)] {
        let Some((remote, _proxy, served)) = behind("MOVE ", action).await else { return };
        let object = object("x", b"abc");
        later(send(&*remote, &object, b"abc").await);
        let found = within(remote.compare(&object)).await.unwrap();
        assert_eq!(matches!(found, Comparison::Equal(_)), done, "{found:?}");
        assert_eq!(matches!(found, Comparison::Absent), !done, "{found:?}");
        // It may have been under way; whoever tidies up finds what is left.
        assert_eq!(served.asides().len(), usize::from(!done));
    }
}

#[tokio::test]
async fn a_collection_that_cannot_be_made_ends_the_delivery() {
    for (status, is_later) in [("401 Who", false), ("403 No", false), ("507 Full", true), ("423 Locked", true)] {
        let Some((remote, proxy, _served)) = behind("MKCOL ", move || says(status)).await else { return };
        let sent = send(&*remote, &object("x", b"abc"), b"abc").await;
        match is_later {
            true => drop(later(sent)),
            false => drop(refused(sent)),
        }
        assert_eq!(asked(&proxy), ["MKCOL", "PROPFIND", "PROPFIND"], "{status}");
    }
}

#[tokio::test]
async fn a_propfind_that_is_forbidden_or_odd() {
    for status in ["403 No", "405 Not", "501 Not"] {
        let Some((remote, _proxy, served)) = behind("PROPFIND ", move || says(status)).await else { return };
        let object = object("x", b"abc");
        assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Absent)));
        assert_eq!(within(remote.staging_files()).await.unwrap(), []);
        std::fs::write(served.path("x"), "abc").unwrap();
        assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Equal(_))));
    }
    let odd = "HTTP/1.1 207 Multi-Status\r\nContent-Length: 4\r\n\r\n<a/>";
    let Some((remote, _proxy, _served)) = behind("PROPFIND ", move || Action::Answer(odd.to_owned())).await else {
        return;
    };
    let (detail, _) = later(within(remote.compare(&object("x", b"abc"))).await);
    assert!(detail.contains("expected a multistatus"), "{detail}");
    later(within(remote.staging_files()).await);
    let Some((remote, _proxy, _served)) = behind("PROPFIND ", || says("503 Busy")).await else { return };
    later(within(remote.compare(&object("x", b"abc"))).await);
    later(within(remote.staging_files()).await);
}
