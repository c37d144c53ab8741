use std::path::Path;
use std::time::Duration;

use contract::{Digest, Epoch, FileId, ObjectName};
use finaliser::remote::{Body, Evidence, Onto, Parcel, Remote, RemoteError, UploadLog};
use settings::{DirectoryRemote, HttpRemote, RemoteSettings};
use tokio::sync::mpsc;

pub(crate) use testing::within;

/// An idle timeout that no machine needs, for tests in which it must not strike.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// An idle timeout for tests in which it must strike.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(200);

pub(crate) fn http(url: &str, idle: Duration) -> Box<dyn Remote> {
    open_http(url, idle, None).unwrap()
}

pub(crate) fn open_http(url: &str, idle: Duration, ca_file: Option<&Path>) -> Result<Box<dyn Remote>, RemoteError> {
    finaliser::remote::open(&RemoteSettings::Http(HttpRemote {
        ca_file: ca_file.map(Path::to_owned),
        idle_timeout_ms: u64::try_from(idle.as_millis()).unwrap(),
        ..HttpRemote::new(url)
    }))
}

pub(crate) fn folder(path: &Path) -> Result<Box<dyn Remote>, RemoteError> {
    finaliser::remote::open(&RemoteSettings::Directory(DirectoryRemote::new(path)))
}

/// Bytes that repeat nowhere within a file.
pub(crate) fn bytes(size: usize) -> Vec<u8> {
    testing::bytes(size, 0)
}

pub(crate) fn parcel(name: &str, content: &[u8]) -> Parcel {
    Parcel {
        file_id: FileId::generate(),
        epoch: Epoch(7),
        object: ObjectName::new(name).unwrap().into(),
        onto: Onto::Nothing,
        size: content.len() as u64,
        sha256: Digest::of(content),
        still_ours: Box::new(|| true),
        sent_on: Vec::new(),
        upload: UploadLog::unkept(None),
    }
}

/// A body that arrives by itself, in pieces.
pub(crate) fn body(content: &[u8]) -> Body {
    let (to, body) = open_body(content.len());
    let content = content.to_vec();
    tokio::spawn(async move {
        for piece in content.chunks(300_000) {
            if to.send(piece.to_vec().into()).await.is_err() {
                return;
            }
        }
    });
    body
}

/// A body that the test feeds.
pub(crate) fn open_body(size: usize) -> (mpsc::Sender<bytes::Bytes>, Body) {
    let (to, pieces) = mpsc::channel(2);
    (to, Body::new(size as u64, pieces))
}

pub(crate) async fn send(remote: &dyn Remote, parcel: &Parcel, content: &[u8]) -> Result<Evidence, RemoteError> {
    within(remote.send(parcel, body(content))).await
}

#[track_caller]
pub(crate) fn later<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> (String, Option<Duration>) {
    match result {
        Err(RemoteError::Later { detail, after }) => (detail, after),
        other => panic!("expected Later, found {other:?}"),
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> String {
    match result {
        Err(RemoteError::Refused(detail)) => detail,
        other => panic!("expected Refused, found {other:?}"),
    }
}
