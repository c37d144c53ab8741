//! Servers that redirect a request to another address.

use std::sync::{Arc, Mutex};

use contract::Digest;
use finaliser::remote::{Comparison, Remote};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request;
use hyper::{Method, Request, Response};
use settings::{HttpRemote, RemoteSettings, Secret};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::object::{bytes, object, refused, send, within};
use crate::remotes::serving::serve;
use crate::remotes::tls;

/// More than the buffers of any pair of sockets hold.
const LARGE: usize = 32 * 1024 * 1024;

/// A request that was answered here, and the hash of its body.
struct Taken {
    head: request::Parts,
    sha256: Digest,
}

impl Taken {
    fn line(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri.path_and_query().unwrap())
    }
}

/// What a server was asked, and what it took.
#[derive(Default)]
struct Seen {
    asked: Vec<Method>,
    taken: Vec<Taken>,
}

/// A server that redirects some paths and accepts PUT at all others; HEAD and GET show what was put there.
struct Router {
    origin: String,
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

/// The target of a redirect for a path, its status, and whether the body is read first.
type Route = Arc<dyn Fn(&str) -> Option<(u16, String, bool)> + Send + Sync>;

impl Router {
    async fn start(route: impl Fn(&str) -> Option<(u16, String, bool)> + Send + Sync + 'static) -> Self {
        Self::serve(route, None).await
    }

    async fn serve(
        route: impl Fn(&str) -> Option<(u16, String, bool)> + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let (route, seen): (Route, _) = (Arc::new(route), Arc::new(Mutex::new(Seen::default())));
        let kept = Arc::clone(&seen);
        let (origin, task) = serve(tls, move |request| answer(request, Arc::clone(&route), Arc::clone(&kept))).await;
        Self { origin, seen, _task: task }
    }

    fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().taken.iter().map(Taken::line).collect()
    }

    /// How many requests of a method came, redirected or not.
    fn asked(&self, method: Method) -> usize {
        self.seen.lock().unwrap().asked.iter().filter(|asked| **asked == method).count()
    }

    fn url(&self) -> String {
        format!("{}/in/", self.origin)
    }
}

async fn answer(request: Request<Incoming>, route: Route, kept: Arc<Mutex<Seen>>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    kept.lock().unwrap().asked.push(head.method.clone());
    if let Some((status, to, read)) = route(head.uri.path()) {
        if read {
            body.collect().await.unwrap();
        }
        return Response::builder().status(status).header("location", to).body(Full::default()).unwrap();
    }
    let put = |taken: &&Taken| taken.head.method == Method::PUT && taken.head.uri == head.uri;
    let found = kept.lock().unwrap().taken.iter().find(put).map(|taken| taken.sha256.to_repr_digest());
    let Ok(body) = body.collect().await else { return Response::new(Full::default()) };
    let answer = Response::builder();
    let answer = match (&head.method, found) {
        (&Method::PUT, _) => answer.status(201),
        (_, Some(digest)) => answer.header("repr-digest", digest),
        (_, None) => answer.status(404),
    };
    kept.lock().unwrap().taken.push(Taken { head, sha256: Digest::of(&body.to_bytes()) });
    answer.body(Full::default()).unwrap()
}

fn open(url: &str, redirects: u8, origins: &[&str], ca: Option<&tempfile::NamedTempFile>) -> Box<dyn Remote> {
    finaliser::remote::open(&RemoteSettings::Http(HttpRemote {
        token: Some(Secret::new("hush-token".into())),
        headers: [("X-Tenant".to_owned(), Secret::new("hush-tenant".into()))].into(),
        redirects,
        redirect_origins: origins.iter().map(ToString::to_string).collect(),
        ca_file: ca.map(|file| file.path().to_owned()),
        ..HttpRemote::new(url)
    }))
    .unwrap()
}

/// Redirects from `/in/` to `/kept/` at `to`.
fn moved(status: u16, to: &str, read: bool) -> impl Fn(&str) -> Option<(u16, String, bool)> + Send + Sync + 'static {
    let to = to.to_owned();
    move |path| {
        let name = path.strip_prefix("/in/")?;
        Some((status, format!("{to}/kept/{name}?sig=hush"), read))
    }
}

#[tokio::test]
async fn redirects_are_not_followed_by_default() {
    for status in [307, 308] {
        let router = Router::start(moved(status, "", false)).await;
        let remote = open(&router.url(), 0, &[], None);
        let object = object("x", b"abc");
        let detail = refused(send(&*remote, &object, b"abc").await);
        assert!(detail.contains(&status.to_string()), "{detail}");
        assert_eq!(router.asked(Method::PUT), 1);
        refused(within(remote.compare(&object)).await);
        assert_eq!(router.lines(), [""; 0]);
    }
}

#[tokio::test]
async fn the_whole_file_goes_to_the_target_of_a_redirect() {
    let content = bytes(LARGE);
    for (status, read, size) in [(307, false, LARGE), (308, true, LARGE), (307, false, 3), (308, true, 0)] {
        let router = Router::start(moved(status, "", read)).await;
        let remote = open(&router.url(), 1, &[], None);
        let content = &content[..size];
        let object = object("a b", content);
        assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Absent)));
        let evidence = send(&*remote, &object, content).await.unwrap();
        assert_eq!((evidence.status, evidence.sent), (Some(201), size as u64));
        assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Equal(_))));
        let lines = ["HEAD", "PUT", "HEAD"].map(|method| format!("{method} /kept/a%20b?sig=hush"));
        assert_eq!(router.lines(), lines);
        let taken = &router.seen.lock().unwrap().taken;
        assert_eq!(taken[1].sha256, object.sha256);
        for field in ["if-none-match", "idempotency-key", "repr-digest", "content-length"] {
            assert!(taken[1].head.headers.contains_key(field), "{field}");
        }
        // It is the same server, so it gets our credentials.
        assert!(taken.iter().all(|taken| taken.head.headers["authorization"] == "Bearer hush-token"));
        // The receipt's address is the configured one.
        assert_eq!(remote.address(&object.path), format!("{}a%20b", router.url()));
    }
}

#[tokio::test]
async fn a_redirect_to_another_server_must_be_allowed_and_carries_no_credentials() {
    let other = Router::start(|_| None).await;
    let router = Router::start(moved(307, &other.origin, false)).await;
    for origins in [&[][..], &["http://127.0.0.1:1"], &["https://127.0.0.1"]] {
        let remote = open(&router.url(), 5, origins, None);
        let object = object("x", b"abc");
        for detail in [refused(send(&*remote, &object, b"abc").await), refused(within(remote.compare(&object)).await)] {
            assert!(detail.contains("redirect_origins") && !detail.contains("hush"), "{detail}");
        }
    }
    assert_eq!(other.lines(), [""; 0]);

    let remote = open(&router.url(), 1, &[&other.origin], None);
    let object = object("x", b"abc");
    send(&*remote, &object, b"abc").await.unwrap();
    assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Equal(_))));
    assert_eq!(other.lines(), ["PUT /kept/x?sig=hush", "HEAD /kept/x?sig=hush"]);
    for taken in &other.seen.lock().unwrap().taken {
        let fields = &taken.head.headers;
        assert!(!fields.contains_key("authorization") && !fields.contains_key("x-tenant"), "{fields:?}");
        assert_eq!(fields["host"], other.origin.replace("http://", ""));
    }
}

#[tokio::test]
async fn redirects_have_a_limit() {
    for most in [1, 2, 5] {
        let router = Router::start(|path| Some((307, format!("{path}x"), false))).await;
        let remote = open(&router.url(), most, &[], None);
        let object = object("x", b"abc");
        let detail = refused(send(&*remote, &object, b"abc").await);
        assert!(detail.contains(&format!("at most {most} redirects")), "{detail}");
        assert_eq!(router.asked(Method::PUT), 1 + usize::from(most));
        refused(within(remote.compare(&object)).await);
    }
}

#[tokio::test]
async fn impossible_addresses_are_refused() {
    for to in ["ftp://host/x", "http://ada:hush@127.0.0.1/x", "http://", "https://[::1/"] {
        let router = Router::start(move |_| Some((308, to.to_owned(), false))).await;
        let remote = open(&router.url(), 5, &["http://127.0.0.1"], None);
        let object = object("x", b"abc");
        let detail = refused(send(&*remote, &object, b"abc").await);
        assert!(detail.contains("Location") && !detail.contains("hush"), "{to}: {detail}");
        refused(within(remote.compare(&object)).await);
    }
    // A client may change the method after these.
    for status in [301, 302, 303] {
        let router = Router::start(moved(status, "", false)).await;
        let object = object("x", b"abc");
        refused(send(&*open(&router.url(), 5, &[], None), &object, b"abc").await);
        assert_eq!(router.lines(), [""; 0]);
    }
}

#[tokio::test]
async fn no_redirect_leads_from_https_to_http() {
    let other = Router::start(|_| None).await;
    let (acceptor, pem) = tls::acceptor(&["127.0.0.1"], &[]);
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), pem).unwrap();
    let router = Router::serve(moved(307, &other.origin, false), Some(acceptor)).await;
    let remote = open(&router.url(), 5, &[&other.origin], Some(&ca));
    let object = object("x", b"abc");
    assert!(refused(send(&*remote, &object, b"abc").await).contains("from https to http"));
    assert!(refused(within(remote.compare(&object)).await).contains("from https to http"));
    assert_eq!(other.lines(), [""; 0]);
}
