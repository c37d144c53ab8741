//! SFTP over lines that break or fall silent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use finaliser::remote::{Comparison, RemoteError};
use servers::Sshd;
use testing::{NetFault, Proxy, sshd};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::remotes::conformance::Place;
use crate::remotes::object::{body, bytes, later, object, open_body, send, within};
use crate::remotes::sftp::{Inbox, open, settings, until_aside};

/// Short, but long enough to log in on a busy machine.
const IDLE: Duration = Duration::from_secs(8);

/// An inbox at the end of a line that can break.
async fn inbox_behind(line: &Proxy) -> Option<Inbox> {
    Inbox::with(|settings| {
        settings.port = line.address().port();
        settings.idle_timeout_ms = u64::try_from(IDLE.as_millis()).unwrap();
    })
    .await
}

/// A line to a server on this machine.
fn line_to(sshd: &Sshd) -> Proxy {
    Proxy::start(SocketAddr::from(([127, 0, 0, 1], sshd.port())))
}

#[tokio::test]
async fn a_line_that_breaks_half_way_leaves_nothing_visible_and_the_next_try_delivers() {
    let Some(sshd) = sshd().await else { return };
    for (fault, of_the_line) in [(NetFault::Truncate(4_000_000), 1), (NetFault::StallAfter(4_000_000), 2)] {
        let line = line_to(sshd);
        let Some(inbox) = inbox_behind(&line).await else { return };
        let content = bytes(9_000_000);
        let object = object("x", &content);
        line.begin(fault);
        let (detail, after) = later(send(&*inbox.remote, &object, &content).await);
        assert!(detail.contains("cannot write the staging file") && after.is_none(), "{detail}");
        assert_eq!(inbox.stored("x"), None);
        assert_eq!(inbox.asides().len(), 1, "the line was not cut half way");
        // None of our tasks outlives the delivery: those that are left belong to the line.
        let tasks = tokio::runtime::Handle::current().metrics();
        within(async {
            while tasks.num_alive_tasks() > of_the_line {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;

        line.heal();
        assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Absent)));
        // The same claim: what is aside has another name, and goes.
        send(&*inbox.remote, &object, &content).await.unwrap();
        assert!(inbox.stored("x").as_ref() == Some(&content), "other bytes");
        assert_eq!(inbox.asides(), BTreeSet::new());
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_while_nothing_is_sent_is_noticed() {
    let Some(sshd) = sshd().await else { return };
    let line = line_to(sshd);
    let Some(inbox) = inbox_behind(&line).await else { return };
    let object = object("x", &bytes(100));
    let (to, body) = open_body(100);
    let feed = async {
        to.send(bytes(100)[..50].to_vec().into()).await.unwrap();
        until_aside(&inbox, true).await;
        // All bytes so far are written, so no answer is missing.
        let aside = inbox.path(".waybill").join(inbox.asides().first().unwrap());
        within(async {
            while std::fs::metadata(&aside).unwrap().len() < 50 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        line.begin(NetFault::StallAfter(1));
        // The rest is not sent before the session has ended.
        to.closed().await;
    };
    let (sent, ()) = within(async { tokio::join!(inbox.remote.send(&object, body), feed) }).await;
    later(sent);
    assert_eq!(inbox.stored("x"), None);
}

#[tokio::test]
async fn a_break_before_the_session_is_tried_later() {
    // The line breaks at the greeting, in the key exchange, in the login or after it.
    let Some(sshd) = sshd().await else { return };
    let cuts = [1, 700, 2_000, 2_500, 3_000].map(NetFault::Truncate);
    for fault in cuts.into_iter().chain([1, 2_000].map(NetFault::StallAfter)) {
        let line = line_to(sshd);
        let Some(inbox) = inbox_behind(&line).await else { return };
        line.begin(fault);
        match within(inbox.remote.compare(&object("x", b"abc"))).await {
            Err(RemoteError::Later { .. }) | Ok(Comparison::Absent) => {}
            other => panic!("{fault:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_silent_or_strange_server_is_tried_later() {
    let Some(sshd) = sshd().await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(sshd, &std::env::temp_dir());
    settings.port = listener.local_addr().unwrap().port();
    settings.idle_timeout_ms = 200;
    let remote = open(settings).unwrap();
    // It listens and says nothing.
    let (detail, _) = later(within(remote.compare(&object("x", b"abc"))).await);
    assert!(detail.contains("within 200 ms"), "{detail}");
    // A server that speaks something else.
    let says = async {
        let (mut client, _) = listener.accept().await.unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    };
    let object = object("x", b"abc");
    let (sent, ()) = within(async { tokio::join!(remote.send(&object, body(b"abc")), says) }).await;
    later(sent);
    drop(listener);
    later(within(remote.compare(&object)).await);
}
