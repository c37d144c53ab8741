//! What the rest of the finaliser relies on, for every kind of remote.

use std::path::{Path, PathBuf};

use finaliser::remote::{Comparison, Precondition, Remote, RemoteError};
use testing::names as names_in;

use crate::remotes::object::{PATIENT, body, bytes, folder, http, object, object_at, open_body, send, within};
use crate::remotes::storing_server::StoringServer;

/// A remote whose content the test sees directly.
pub(crate) trait Place {
    fn remote(&self) -> &dyn Remote;

    /// The folder of this machine that holds its objects, if there is one.
    fn folder(&self) -> Option<PathBuf> {
        None
    }

    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder()?.join(name)).ok()
    }

    fn count(&self) -> usize {
        names_in(&self.folder().expect("a folder")).len() - 1 // .waybill
    }

    /// Whether the server keeps a name like this unchanged.
    fn keeps(&self, _name: &str) -> bool {
        true
    }
}

const NAMES: &[&str] = &[
    "plain.bin",
    "with space",
    "\"quoted\" 'twice'",
    "new\nline",
    "größe-文件.bin",
    "a%2fb",
    "..hidden",
    "...",
    "-~_.",
    "a?b#c&d=e+f;g:h@i",
    "back\\slash",
];

pub(crate) async fn suite(place: &dyn Place) {
    sizes(place).await;
    names(place).await;
    folders(place).await;
    clash(place).await;
    replaced(place).await;
    stopped_half_way(place).await;
    claim_lost(place).await;
    in_doubt(place).await;
}

async fn sizes(place: &dyn Place) {
    for size in [0, 1, 3 * 1024 * 1024] {
        let (name, content) = (format!("size {size}"), bytes(size));
        let object = object(&name, &content);
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Absent)), "{name}");
        send(place.remote(), &object, &content).await.unwrap();
        assert!(place.stored(&name).as_ref() == Some(&content), "{name}: other bytes");
        let found = within(place.remote().compare(&object)).await;
        assert!(matches!(found, Ok(Comparison::Equal(_))), "{name}: {found:?}");
    }
}

async fn names(place: &dyn Place) {
    let before = place.count();
    let names: Vec<_> = NAMES.iter().filter(|name| place.keeps(name)).collect();
    for name in &names {
        send(place.remote(), &object(name, name.as_bytes()), name.as_bytes()).await.unwrap();
        assert_eq!(place.stored(name).as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    assert_eq!(place.count(), before + names.len());
}

async fn folders(place: &dyn Place) {
    for path in ["2026/11/25/x y", "2026/11/26/x y", "2026/11/25/..z", "größe/a%2fb/文件"] {
        let object = object_at(path, path.as_bytes());
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Absent)), "{path}");
        send(place.remote(), &object, path.as_bytes()).await.unwrap();
        assert_eq!(place.stored(path).as_deref(), Some(path.as_bytes()));
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Equal(_))), "{path}");
        let again = send(place.remote(), &object, path.as_bytes()).await;
        assert!(matches!(again, Err(RemoteError::Conflict(_))), "{again:?}");
    }
}

async fn replaced(place: &dyn Place) {
    let (name, first, second) = ("replaced", bytes(70_000), bytes(200_001));
    send(place.remote(), &object(name, &first), &first).await.unwrap();
    for (content, seen) in [(&second, true), (&first, false)] {
        let mut object = object(name, content);
        let found = within(place.remote().compare(&object)).await;
        let Ok(Comparison::Different(found)) = found else { panic!("{found:?}") };
        object.precondition = Precondition::Replace(found.etag.filter(|_| seen));
        let mut stopped = self::object(name, content);
        (stopped.precondition, stopped.still_ours) = (object.precondition.clone(), Box::new(|| false));
        let sent = within(place.remote().send(&stopped, body(content))).await;
        assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
        assert!(place.stored(name).as_ref() != Some(content), "it was replaced before the end");

        send(place.remote(), &object, content).await.unwrap();
        assert!(place.stored(name).as_ref() == Some(content), "other bytes");
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Equal(_))));
    }
    // The object to replace may be gone, or may never have existed.
    let mut object = object("never there", &first);
    object.precondition = Precondition::Replace(None);
    send(place.remote(), &object, &first).await.unwrap();
}

async fn clash(place: &dyn Place) {
    let (name, first, second) = ("clash", bytes(1000), bytes(1001));
    send(place.remote(), &object(name, &first), &first).await.unwrap();
    for content in [&first, &second] {
        let again = send(place.remote(), &object(name, content), content).await;
        assert!(matches!(again, Err(RemoteError::Conflict(_))), "{again:?}");
        assert!(place.stored(name).as_ref() == Some(&first), "it was replaced");
    }
    let mut same_length = first.clone();
    same_length[500] ^= 1;
    for content in [second, same_length] {
        let found = within(place.remote().compare(&object(name, &content))).await;
        assert!(matches!(found, Ok(Comparison::Different(_))), "{found:?}");
    }
}

async fn stopped_half_way(place: &dyn Place) {
    let content = bytes(3 * 1024 * 1024);
    for fed in [0, 1, 1024 * 1024, content.len() - 1] {
        let object = object("stopped", &content);
        let (to, body) = open_body(content.len());
        let feed = async {
            to.send(content[..fed].to_vec().into()).await.unwrap();
            drop(to);
        };
        let (sent, ()) = within(async { tokio::join!(place.remote().send(&object, body), feed) }).await;
        assert!(matches!(sent, Err(RemoteError::Stopped)), "after {fed} bytes: {sent:?}");
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Absent)), "after {fed} bytes");
    }
}

async fn claim_lost(place: &dyn Place) {
    for size in [0, 1, 1024 * 1024] {
        let content = bytes(size);
        let mut object = object("lost", &content);
        object.still_ours = Box::new(|| false);
        let sent = within(place.remote().send(&object, body(&content))).await;
        assert!(matches!(sent, Err(RemoteError::Stopped)), "{size} bytes: {sent:?}");
        assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Absent)), "{size} bytes");
    }
}

/// The next claim of a file whose delivery was done but not recorded.
async fn in_doubt(place: &dyn Place) {
    let content = bytes(100_000);
    let mut object = object("in doubt", &content);
    send(place.remote(), &object, &content).await.unwrap();
    object.epoch.0 += 1;
    let again = send(place.remote(), &object, &content).await;
    assert!(matches!(again, Err(RemoteError::Conflict(_))), "{again:?}");
    assert!(matches!(within(place.remote().compare(&object)).await, Ok(Comparison::Equal(_))));
}

/// A remote, and its storing server.
pub(crate) struct Server(pub(crate) Box<dyn Remote>, pub(crate) StoringServer);

impl Place for Server {
    fn remote(&self) -> &dyn Remote {
        &*self.0
    }

    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        self.1.stored(name)
    }

    fn count(&self) -> usize {
        self.1.count()
    }
}

#[tokio::test]
async fn http_conforms() {
    let server = StoringServer::start(|_| {}).await;
    let place = Server(http(&server.url, PATIENT), server);
    suite(&place).await;
    assert!(place.1.broken_off() > 0, "the server saw no request that broke off");
}

struct Folder<'a>(Box<dyn Remote>, &'a Path);

impl Place for Folder<'_> {
    fn remote(&self) -> &dyn Remote {
        &*self.0
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.1.to_owned())
    }
}

#[tokio::test]
async fn directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    suite(&Folder(folder(root.path()).unwrap(), root.path())).await;
    let left: Vec<_> = std::fs::read_dir(root.path().join(".waybill")).unwrap().collect();
    assert!(left.is_empty(), "left aside: {left:?}");
}
