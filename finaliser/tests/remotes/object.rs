use std::path::Path;
use std::time::Duration;

use contract::{Digest, Epoch, FileId, ObjectName, ObjectPath};
use finaliser::remote::{Evidence, Object, Precondition, Remote, RemoteError, Source};
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

pub(crate) fn object(name: &str, content: &[u8]) -> Object {
    Object {
        file_id: FileId::generate(),
        epoch: Epoch(7),
        path: ObjectName::new(name).unwrap().into(),
        precondition: Precondition::NameIsFree,
        may_replace: false,
        size: content.len() as u64,
        sha256: Digest::of(content),
        still_ours: Box::new(|| true),
    }
}

/// An object in folders, with `/` between them.
pub(crate) fn object_at(path: &str, content: &[u8]) -> Object {
    Object { path: ObjectPath::try_from(path.to_owned()).unwrap(), ..object("x", content) }
}

/// Bytes that come by themselves, in pieces, as often as they are opened.
pub(crate) fn body(content: &[u8]) -> Source {
    let (source, mut opened) = Source::new(content.len() as u64, 2);
    let content = content.to_vec();
    tokio::spawn(async move {
        while let Some(to) = opened.recv().await {
            for piece in content.chunks(300_000) {
                if to.send(piece.to_vec().into()).await.is_err() {
                    break;
                }
            }
        }
    });
    source
}

/// Bytes that the test feeds; to be opened once.
pub(crate) fn open_body(size: usize) -> (mpsc::Sender<bytes::Bytes>, Source) {
    let (source, mut opened) = Source::new(size as u64, 1);
    let (feed, mut pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let Some(to) = opened.recv().await else { return };
        loop {
            tokio::select! {
                biased;
                // So that whoever feeds it sees that nobody takes more.
                () = to.closed() => return,
                piece = pieces.recv() => match piece {
                    Some(piece) => drop(to.send(piece).await),
                    None => return,
                },
            }
        }
    });
    (feed, source)
}

pub(crate) async fn send(remote: &dyn Remote, object: &Object, content: &[u8]) -> Result<Evidence, RemoteError> {
    within(remote.send(object, body(content))).await
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
