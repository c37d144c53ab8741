//! Servers at the end of a slow line. The kernel takes megabytes from us at once, so the line is busy for longer than
//! the idle timeout after our last write, and between two writes: nobody is silent meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use finaliser::remote::Remote;
use hyper::Method;
use servers::Seaweed;
use settings::{HttpRemote, HttpVersion, RemoteSettings};
use testing::{Proxy, sshd};

use crate::remotes::conformance::Place;
use crate::remotes::object::{bytes, object, open_http, send};
use crate::remotes::s3::Bucket;
use crate::remotes::sftp::Inbox;
use crate::remotes::storing_server::StoringServer;
use crate::remotes::tls;
use crate::remotes::webdav::{Share, open_webdav};

/// Long enough for a busy machine, and much shorter than the line needs for what the kernel holds.
const IDLE: Duration = Duration::from_secs(3);

/// What the line carries in a second.
const RATE: u64 = 300_000;

const SIZE: usize = 4_000_000;

fn idle_ms() -> u64 {
    u64::try_from(IDLE.as_millis()).unwrap()
}

/// A line that reads slowly, to a server at this address.
fn slow_line(server: &str, rate: u64) -> Proxy {
    let server = server.split('/').nth(2).unwrap_or(server);
    let line = Proxy::start(server.parse::<SocketAddr>().unwrap());
    line.pace(Some(rate));
    line
}

#[tokio::test]
async fn http_is_sent_once() {
    let server = StoringServer::start(|_| {}).await;
    let line = slow_line(&server.url, RATE);
    let remote = open_http(&format!("http://{}/in/", line.address()), IDLE, None).unwrap();
    sent_once(&*remote, &server).await;
}

#[tokio::test]
async fn https_is_sent_once() {
    let (acceptor, pem) = tls::acceptor(&["127.0.0.1"], &[]);
    let server = StoringServer::start(|habits| habits.tls = Some(acceptor)).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let line = slow_line(&server.url, RATE);
    let remote = open_http(&format!("https://{}/in/", line.address()), IDLE, Some(file.path())).unwrap();
    sent_once(&*remote, &server).await;
}

#[tokio::test]
async fn http_2_is_sent_once() {
    let server = StoringServer::start(|_| {}).await;
    let line = slow_line(&server.url, RATE);
    let remote = finaliser::remote::open(&RemoteSettings::Http(HttpRemote {
        http_version: HttpVersion::Two,
        idle_timeout_ms: idle_ms(),
        ..HttpRemote::new(format!("http://{}/in/", line.address()))
    }));
    sent_once(&*remote.unwrap(), &server).await;
}

async fn sent_once(remote: &dyn Remote, server: &StoringServer) {
    let content = bytes(SIZE);
    send(remote, &object("x", &content), &content).await.unwrap();
    assert!(server.stored("x").as_ref() == Some(&content), "other bytes");
    assert_eq!((server.calls(), server.broken_off()), (vec![Method::PUT], 0));
}

#[tokio::test]
async fn webdav_is_sent_once() {
    let Some(share) = Share::new(|_| {}).await else { return };
    let line = slow_line(&share.nginx.url(), RATE);
    let remote = open_webdav(&format!("http://{}/in/", line.address()), |remote| {
        remote.server.idle_timeout_ms = idle_ms();
    });
    let content = bytes(SIZE);
    send(&*remote, &object("x", &content), &content).await.unwrap();
    assert!(share.stored("x").as_ref() == Some(&content), "other bytes");
    assert!(share.asides().is_empty());
}

#[tokio::test]
async fn s3_is_sent_once() {
    let seaweed = testing::seaweed().await;
    let line = slow_line(&seaweed.s3_url(), RATE);
    let folder = contract::FileId::generate().to_string();
    let mut bucket = Bucket::new(|settings| {
        settings.url = format!("http://{}/{}/{folder}/", line.address(), Seaweed::BUCKET);
        settings.idle_timeout_ms = idle_ms();
    })
    .await;
    bucket.folder = folder;
    let content = bytes(SIZE);
    send(&*bucket.remote, &object("x", &content), &content).await.unwrap();
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
    assert!(line.carried() < 2 * SIZE as u64);
}

#[tokio::test]
async fn sftp_is_sent_once() {
    let Some(sshd) = sshd().await else { return };
    // So slow that the answer to one write takes longer than the idle timeout.
    let line = slow_line(&format!("127.0.0.1:{}", sshd.port()), 50_000);
    let Some(inbox) = Inbox::with(|settings| {
        settings.port = line.address().port();
        settings.idle_timeout_ms = idle_ms();
    })
    .await
    else {
        return;
    };
    let content = bytes(600_000);
    send(&*inbox.remote, &object("x", &content), &content).await.unwrap();
    assert!(inbox.stored("x").as_ref() == Some(&content), "other bytes");
    assert!(line.carried() < 2 * content.len() as u64);
    assert!(inbox.asides().is_empty());
}
