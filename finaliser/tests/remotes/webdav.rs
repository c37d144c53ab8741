//! WebDAV, against nginx with and without PROPFIND, and against SeaweedFS.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use contract::{FileId, ObjectPath};
use finaliser::remote::{Comparison, Precondition, Remote, RemoteError, StagingName};
use futures_util::future::join_all;
use servers::{NginxOptions, Seaweed};
use settings::{RemoteSettings, Secret, WebdavRemote};
use testing::{Served, ask_bucket, names};

use crate::remotes::conformance::{Place, suite};
use crate::remotes::object::{body, object, object_at, open_body, refused, send, within};

pub(crate) fn open_webdav(url: &str, change: impl FnOnce(&mut WebdavRemote)) -> Box<dyn Remote> {
    let mut settings = WebdavRemote::new(url);
    change(&mut settings);
    finaliser::remote::open(&RemoteSettings::Webdav(settings)).unwrap()
}

/// A folder that an nginx of its own serves, as a remote.
pub(crate) struct Share {
    pub(crate) remote: Box<dyn Remote>,
    served: Served,
}

impl Deref for Share {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Share {
    /// `None` where there is no nginx.
    pub(crate) async fn new(change: impl FnOnce(&mut NginxOptions)) -> Option<Self> {
        let served = Served::start(change).await?;
        Some(Self { remote: open_webdav(&served.url(), |_| {}), served })
    }
}

impl Place for Share {
    fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.path(""))
    }
}

/// A collection of its own in SeaweedFS.
struct Collection {
    remote: Box<dyn Remote>,
    seaweed: &'static Seaweed,
    folder: String,
}

impl Collection {
    async fn new() -> Self {
        let seaweed = testing::seaweed().await;
        let folder = FileId::generate().to_string();
        assert_eq!(ask_bucket(seaweed, &folder, "MKCOL", "", b"").0, 201);
        let url = format!("{}buckets/{}/{folder}/", seaweed.webdav_url(), Seaweed::BUCKET);
        Self { remote: open_webdav(&url, |_| {}), seaweed, folder }
    }

    fn ask(&self, method: &str, name: &str) -> (u16, Vec<u8>) {
        ask_bucket(self.seaweed, &self.folder, method, name, b"")
    }
}

impl Place for Collection {
    fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        match self.ask("GET", name) {
            (200, content) => Some(content),
            (404, _) => None,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn count(&self) -> usize {
        // Itself, and .waybill.
        match self.ask("PROPFIND", "") {
            (207, content) => String::from_utf8(content).unwrap().matches("<D:response>").count() - 2,
            other => panic!("{other:?}"),
        }
    }

    fn keeps(&self, name: &str) -> bool {
        // SeaweedFS treats a backslash as a slash.
        !name.contains('\\')
    }
}

#[tokio::test]
async fn webdav_conforms_at_nginx() {
    for propfind in [true, false] {
        let Some(served) = Share::new(|options| options.propfind = propfind).await else { return };
        suite(&served).await;
        assert_eq!(served.asides(), BTreeSet::new(), "left aside");
    }
}

#[tokio::test]
async fn webdav_conforms_at_seaweedfs() {
    let collection = Collection::new().await;
    suite(&collection).await;
    // SeaweedFS keeps the bytes of a PUT that broke off, and shows them at any time: tidying removes them.
    within(async {
        loop {
            let left = collection.remote.staging_files().await.unwrap();
            if left.is_empty() {
                break;
            }
            for leftover in left {
                collection.remote.remove_staging_file(leftover).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn leftovers_of_a_dead_attempt_are_found_and_removed() {
    let Some(served) = Share::new(|_| {}).await else { return };
    let collection = Collection::new().await;
    assert_eq!(within(served.remote.staging_files()).await.unwrap(), []);
    assert_eq!(within(collection.remote.staging_files()).await.unwrap(), []);

    let file_id = FileId::generate();
    let left = |names: &[String]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<StagingName>>();
    let found = async |remote: &dyn Remote| {
        let mut found = within(remote.staging_files()).await.unwrap();
        found.sort();
        found
    };
    let ours = [format!("{file_id}.6.0"), format!("{file_id}.6.11"), format!("{file_id}.7.3")];
    let others = [format!("{file_id}.6"), format!("{file_id}.6.01"), "notes & <more>".to_owned()];
    fs::create_dir(served.path(".waybill")).unwrap();
    fs::create_dir(served.path(".waybill/folder")).unwrap();
    for name in ours.iter().chain(&others) {
        fs::write(served.path(".waybill").join(name), "left").unwrap();
    }
    assert_eq!(found(&*served.remote).await, left(&ours));
    within(served.remote.remove_staging_file(left(&ours)[0])).await.unwrap();
    within(served.remote.remove_staging_file(left(&ours)[0])).await.unwrap();
    assert_eq!(found(&*served.remote).await, left(&ours[1..]));
    let kept = others.into_iter().chain(ours[1..].iter().cloned()).chain(["folder".into()]).collect();
    assert_eq!(served.asides(), kept);

    assert_eq!(collection.ask("MKCOL", ".waybill").0, 201);
    for name in &ours {
        assert_eq!(collection.ask("PUT", &format!(".waybill/{name}")).0, 201);
    }
    assert_eq!(found(&*collection.remote).await, left(&ours));
    within(collection.remote.remove_staging_file(left(&ours)[0])).await.unwrap();
    assert_eq!(found(&*collection.remote).await, left(&ours[1..]));
}

#[tokio::test]
async fn without_propfind_leftovers_are_not_found() {
    let Some(served) = Share::new(|options| options.propfind = false).await else { return };
    let name = format!("{}.6.0", FileId::generate());
    fs::create_dir(served.path(".waybill")).unwrap();
    fs::write(served.path(".waybill").join(&name), "left").unwrap();
    assert_eq!(within(served.remote.staging_files()).await.unwrap(), []);
    let another = format!("{}.6.0", FileId::generate());
    within(served.remote.remove_staging_file(another.parse().unwrap())).await.unwrap();
    assert_eq!(served.asides(), [name].into());
}

#[tokio::test]
async fn a_name_taken_meanwhile_is_a_clash() {
    for propfind in [true, false] {
        let Some(served) = Share::new(|options| options.propfind = propfind).await else { return };
        for onto in [Precondition::NameIsFree, Precondition::Replace(Some("\"another\"".into()))] {
            let mut object = object("x", b"abcdef");
            object.precondition = onto;
            let (to, body) = open_body(6);
            let meanwhile = async {
                to.send(b"abc".as_slice().into()).await.unwrap();
                fs::write(served.path("x"), "first").unwrap();
                to.send(b"def".as_slice().into()).await.unwrap();
                drop(to);
            };
            let (sent, ()) = within(async { tokio::join!(served.remote.send(&object, body), meanwhile) }).await;
            assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
            assert_eq!(fs::read(served.path("x")).unwrap(), b"first");
            assert_eq!(served.asides(), BTreeSet::new());
        }
    }
}

/// Replacing it would delete everything in it.
#[tokio::test]
async fn a_collection_in_the_way_stays() {
    async fn stays(remote: &dyn Remote) {
        let mut object = object("x y", b"abc");
        let found = within(remote.compare(&object)).await;
        assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what == "a collection"), "{found:?}");
        let sent = send(remote, &object, b"abc").await;
        assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
        for etag in [None, Some("\"any\"".to_owned())] {
            object.precondition = Precondition::Replace(etag);
            let detail = refused(send(remote, &object, b"abc").await);
            assert!(detail.contains("expected no collection"), "{detail}");
        }
    }
    for propfind in [true, false] {
        let Some(served) = Share::new(|options| options.propfind = propfind).await else { return };
        fs::create_dir(served.path("x y")).unwrap();
        fs::write(served.path("x y/kept"), "kept").unwrap();
        stays(&*served.remote).await;
        assert_eq!(fs::read(served.path("x y/kept")).unwrap(), b"kept");
        assert_eq!(served.asides(), BTreeSet::new());
    }
    let collection = Collection::new().await;
    assert_eq!((collection.ask("MKCOL", "x y").0, collection.ask("PUT", "x y/kept").0), (201, 201));
    stays(&*collection.remote).await;
    assert_eq!(collection.stored("x y/kept").as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn a_file_in_the_place_of_a_collection_is_refused() {
    async fn is_refused(remote: &dyn Remote) {
        for path in ["a/x", "a/b/x", "a/b/c/x"] {
            let detail = refused(send(remote, &object_at(path, b"abc"), b"abc").await);
            assert!(detail.contains("expected a collection, found something else"), "{path}: {detail}");
        }
    }
    for propfind in [true, false] {
        let Some(served) = Share::new(|options| options.propfind = propfind).await else { return };
        fs::write(served.path("a"), "1").unwrap();
        is_refused(&*served.remote).await;
        assert_eq!(fs::read(served.path("a")).unwrap(), b"1");
        assert_eq!(served.asides(), BTreeSet::new());
    }
    let collection = Collection::new().await;
    assert_eq!(collection.ask("PUT", "a").0, 201);
    is_refused(&*collection.remote).await;
    assert_eq!(collection.stored("a").as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn collections_are_made_only_for_what_becomes_visible() {
    let Some(served) = Share::new(|_| {}).await else { return };
    let mut object = object_at("a/b/x", b"abc");
    let (to, body) = open_body(3);
    drop(to);
    let sent = within(served.remote.send(&object, body)).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert_eq!(names(&served.path("")), [".waybill".to_owned()].into());
    // A name must not reach its own collection either.
    for path in [".waybill", ".waybill/x"] {
        object.path = ObjectPath::try_from(path.to_owned()).unwrap();
        assert!(refused(send(&*served.remote, &object, b"abc").await).contains("expected another name"));
        assert!(refused(within(served.remote.compare(&object)).await).contains("expected another name"));
    }
}

/// The server behind the proxy has another host name, so nginx takes our addresses for those of another server.
#[tokio::test]
async fn behind_a_proxy_that_changes_the_host_files_are_moved_by_path() {
    let Some(served) = Share::new(|_| {}).await else { return };
    let inner = served.nginx.url();
    let pass = format!("proxy_pass {};\nproxy_set_header Host inner.example;", inner.trim_end_matches('/'));
    let Some(proxy) = Share::new(|options| options.directives = pass).await else { return };
    for path in ["x", "a b;c", "2026/11/28/größe & ü"] {
        send(&*proxy.remote, &object_at(path, b"abc"), b"abc").await.unwrap();
        assert_eq!(served.stored(path).as_deref(), Some(&b"abc"[..]), "{path}");
    }
    assert_eq!(served.asides(), BTreeSet::new());
}

/// As at midnight, when the name of the day changes.
#[tokio::test]
async fn many_files_at_once_make_the_same_collections() {
    async fn all_arrive(remote: &dyn Remote) {
        let objects: Vec<_> = (0..12).map(|n| object_at(&format!("2026-11-28/acme/{n}"), b"abc")).collect();
        let deliver = async |object| {
            // A lock is for now; anything else that is not a delivery fails.
            while let Err(error) = remote.send(object, body(b"abc")).await {
                assert!(matches!(error, RemoteError::Later { .. }), "{error}");
                tokio::task::yield_now().await;
            }
        };
        within(join_all(objects.iter().map(deliver))).await;
        for object in &objects {
            assert!(matches!(within(remote.compare(object)).await, Ok(Comparison::Equal(_))));
        }
    }
    for propfind in [true, false] {
        let Some(served) = Share::new(|options| options.propfind = propfind).await else { return };
        all_arrive(&*served.remote).await;
    }
    all_arrive(&*Collection::new().await.remote).await;
}

#[tokio::test]
async fn the_folder_must_exist() {
    let Some(served) = Share::new(|_| {}).await else { return };
    fs::remove_dir(served.path("")).unwrap();
    let detail = refused(send(&*served.remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("/in/: expected a collection, found none"), "{detail}");
}

#[tokio::test]
async fn a_user_without_permission_is_refused() {
    let Some(locked) = Share::new(|options| options.user = Some(("ada".into(), "hush-pass".into()))).await else {
        return;
    };
    let url = locked.url();
    let as_ada = |password: &str| {
        open_webdav(&url, |remote| {
            remote.server.username = Some("ada".into());
            remote.server.password = Some(Secret::new(password.to_owned()));
        })
    };
    let object = object("x", b"abc");
    for remote in [open_webdav(&url, |_| {}), as_ada("hush-wrong")] {
        for detail in [
            refused(within(remote.compare(&object)).await),
            refused(send(&*remote, &object, b"abc").await),
            refused(within(remote.staging_files()).await),
        ] {
            assert!(detail.contains("401") && !detail.contains("hush"), "{detail}");
        }
    }
    send(&*as_ada("hush-pass"), &object, b"abc").await.unwrap();
    assert_eq!(locked.stored("x").as_deref(), Some(&b"abc"[..]));

    let Some(reading) = Share::new(|options| options.read_only = true).await else { return };
    assert!(refused(send(&*reading.remote, &object, b"abc").await).contains("403"));
    assert!(matches!(within(reading.remote.compare(&object)).await, Ok(Comparison::Absent)));
}
