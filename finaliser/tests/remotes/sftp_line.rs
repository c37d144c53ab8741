//! SFTP over lines that break or fall silent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use finaliser::remote::{Comparison, RemoteError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::conformance::Place;
use crate::object::{DEADLINE, body, bytes, later, object, open_body, send, within};
use crate::sftp::{Inbox, open, settings, sshd, until_aside};

/// Short, but long enough to log in on a busy machine.
const IDLE: Duration = Duration::from_secs(8);

/// What becomes of a connection once so many bytes have gone to the server.
#[derive(Clone, Copy)]
enum Then {
    Cut,
    /// Nothing goes on in either direction.
    Freeze,
}

/// A line to a server that breaks.
struct BreakingLine {
    address: SocketAddr,
    /// Bytes that may still go to the server.
    left: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl BreakingLine {
    async fn start(server: u16, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let budget = Arc::clone(&left);
        let accept = async move {
            let mut lines = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                lines.spawn(pass(client, server, then, Arc::clone(&budget)));
            }
        };
        Self { address, left, _task: AbortOnDropHandle::new(tokio::spawn(accept)) }
    }

    fn break_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// The inbox over this line.
    async fn inbox(&self) -> Inbox {
        Inbox::with(|settings| {
            settings.port = self.address.port();
            settings.idle_timeout_ms = u64::try_from(IDLE.as_millis()).unwrap();
        })
        .await
    }
}

async fn pass(client: TcpStream, server: TcpStream, then: Then, budget: Arc<AtomicU64>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from_client.read(&mut buffer).await else { return };
            let left = budget.load(Ordering::SeqCst);
            let goes = left.min(count as u64);
            if to_server.write_all(&buffer[..usize::try_from(goes).unwrap()]).await.is_err() {
                return;
            }
            if left == u64::MAX {
                continue;
            }
            budget.store(left - goes, Ordering::SeqCst);
            if left == goes {
                return;
            }
        }
    };
    let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
    tokio::select! {
        () = there => {}
        _ = back => return,
    }
    if matches!(then, Then::Freeze) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_line_that_breaks_half_way_leaves_nothing_visible_and_the_next_try_delivers() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    for then in [Then::Cut, Then::Freeze] {
        let line = BreakingLine::start(sshd().await.port(), then).await;
        let (inbox, content) = (line.inbox().await, bytes(9_000_000));
        let object = object("x", &content);
        line.break_after(4_000_000);
        let (detail, after) = later(send(&*inbox.remote, &object, &content).await);
        assert!(detail.contains("cannot write the staging file") && after.is_none(), "{detail}");
        assert_eq!(inbox.stored("x"), None);
        assert_eq!(inbox.asides().len(), 1, "the line was not cut half way");
        // Nothing of ours goes on with a server that takes nothing: what is left is the line's.
        let of_the_line = if matches!(then, Then::Freeze) { 2 } else { 1 };
        let tasks = tokio::runtime::Handle::current().metrics();
        within(async {
            while tasks.num_alive_tasks() > of_the_line {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;

        line.break_after(u64::MAX);
        assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Absent)));
        // The same claim: what is aside has another name, and goes.
        send(&*inbox.remote, &object, &content).await.unwrap();
        assert!(inbox.stored("x").as_ref() == Some(&content), "other bytes");
        assert_eq!(inbox.asides(), BTreeSet::new());
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_while_nothing_is_sent_is_noticed() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    let line = BreakingLine::start(sshd().await.port(), Then::Freeze).await;
    let inbox = line.inbox().await;
    let object = object("x", &bytes(100));
    let (to, body) = open_body(100);
    let feed = async {
        to.send(bytes(100)[..50].to_vec().into()).await.unwrap();
        until_aside(&inbox, true).await;
        // What was sent is written, so no answer is waited for.
        let aside = inbox.path(".waybill").join(inbox.asides().first().unwrap());
        within(async {
            while std::fs::metadata(&aside).unwrap().len() < 50 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        line.break_after(1);
        // Nobody sends the rest before the session has ended.
        to.closed().await;
    };
    let (sent, ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(inbox.remote.send(&object, body), feed) })
        .await
        .expect("it waits for ever");
    later(sent);
    assert_eq!(inbox.stored("x"), None);
}

#[tokio::test]
async fn a_break_before_there_is_a_session_may_pass() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    // At the greeting, in the exchange of keys, in the login or behind it: wherever it comes.
    for (then, all) in [(Then::Cut, &[1, 700, 2_000, 2_500, 3_000][..]), (Then::Freeze, &[1, 2_000])] {
        let line = BreakingLine::start(sshd().await.port(), then).await;
        let inbox = line.inbox().await;
        for &bytes in all {
            line.break_after(bytes);
            let object = object("x", b"abc");
            match within(inbox.remote.compare(&object)).await {
                Err(RemoteError::Later { .. }) | Ok(Comparison::Absent) => {}
                other => panic!("after {bytes} bytes: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_somebody_may_later() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(sshd().await, &std::env::temp_dir());
    settings.port = listener.local_addr().unwrap().port();
    settings.idle_timeout_ms = 200;
    let remote = open(settings).unwrap();
    // It listens and says nothing.
    let (detail, _) = later(within(remote.compare(&object("x", b"abc"))).await);
    assert!(detail.contains("within 200 ms"), "{detail}");
    // It says something else.
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
