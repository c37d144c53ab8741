//! HTTP/2: negotiated over TLS, and in clear text if the settings say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use finaliser::remote::{Comparison, Remote, RemoteError};
use http_body_util::{BodyExt, Full};
use hyper::{Response, Version};
use servers::NginxTls;
use settings::{HttpRemote, HttpVersion, RemoteSettings};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::remotes::conformance::{Server, suite};
use crate::remotes::object::{IMPATIENT, PATIENT, bytes, later, object, open_body, refused, send, within};
use crate::remotes::serving::serve;
use crate::remotes::storing_server::StoringServer;
use crate::remotes::tls;
use crate::remotes::webdav::{Share, open_webdav};

/// More than any window.
const LARGE: usize = 32 * 1024 * 1024;

fn open(url: &str, version: HttpVersion, idle: Duration, ca: Option<&tempfile::NamedTempFile>) -> Box<dyn Remote> {
    finaliser::remote::open(&RemoteSettings::Http(HttpRemote {
        http_version: version,
        ca_file: ca.map(|file| file.path().to_owned()),
        idle_timeout_ms: u64::try_from(idle.as_millis()).unwrap(),
        ..HttpRemote::new(url)
    }))
    .unwrap()
}

/// A server that offers these protocols over TLS, and the file with its certificate.
async fn server(protocols: &[&str]) -> (StoringServer, tempfile::NamedTempFile) {
    let (acceptor, pem) = tls::acceptor(&["127.0.0.1"], protocols);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    (StoringServer::start(|habits| habits.tls = Some(acceptor)).await, file)
}

#[tokio::test]
async fn http_conforms_over_http_2() {
    let (server, ca) = server(&["h2", "http/1.1"]).await;
    let place = Server(open(&server.url, HttpVersion::Auto, PATIENT, Some(&ca)), server);
    suite(&place).await;
    assert!(place.1.versions().iter().all(|version| *version == Version::HTTP_2));
}

#[tokio::test]
async fn http_conforms_over_http_2_in_clear_text() {
    let server = StoringServer::start(|_| {}).await;
    let place = Server(open(&server.url, HttpVersion::Two, PATIENT, None), server);
    suite(&place).await;
    assert!(place.1.versions().iter().all(|version| *version == Version::HTTP_2));
}

#[tokio::test]
async fn the_settings_choose_the_version_of_http() {
    use HttpVersion::{Auto, One, Two};
    for (offered, version, spoken) in [
        (&["h2", "http/1.1"][..], Auto, Some(Version::HTTP_2)),
        (&["h2", "http/1.1"], One, Some(Version::HTTP_11)),
        (&["h2", "http/1.1"], Two, Some(Version::HTTP_2)),
        (&["http/1.1"], Auto, Some(Version::HTTP_11)),
        (&["http/1.1"], One, Some(Version::HTTP_11)),
        (&["http/1.1"], Two, None),
        (&[], Auto, Some(Version::HTTP_11)),
        (&[], Two, None),
    ] {
        let (server, ca) = server(offered).await;
        let remote = open(&server.url, version, PATIENT, Some(&ca));
        let sent = send(&*remote, &object("x", b"abc"), b"abc").await;
        match spoken {
            Some(spoken) => {
                sent.unwrap();
                assert_eq!(server.versions(), [spoken], "{offered:?} {version:?}");
            }
            None => drop(later(sent)),
        }
    }
    let plain = StoringServer::start(|_| {}).await;
    send(&*open(&plain.url, Auto, PATIENT, None), &object("x", b"abc"), b"abc").await.unwrap();
    assert_eq!(plain.versions(), [Version::HTTP_11]);
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_counts() {
    for code in [401, 413, 507] {
        let (origin, _server) = serve(None, move |request| async move {
            assert_eq!(request.uri().path(), "/in/x");
            assert!(request.uri().authority().is_some() && !request.headers().contains_key("host"));
            // The body is not read: the stream is reset, without an error.
            drop(request);
            let answer = Response::builder().status(code).header("content-type", "text/plain");
            answer.body(Full::from("said so")).unwrap()
        })
        .await;
        let content = vec![0; LARGE];
        let sent =
            send(&*open(&format!("{origin}/in/"), HttpVersion::Two, PATIENT, None), &object("x", &content), &content)
                .await;
        let detail = match code {
            507 => later(sent).0,
            _ => refused(sent),
        };
        assert!(detail.contains(&format!("answered {code}")) && detail.contains("said so"), "{detail}");
    }
}

#[tokio::test]
async fn a_success_before_the_whole_body_was_sent_does_not_count() {
    let (origin, _server) = serve(None, |_| async { Response::new(Full::default()) }).await;
    let (to, body) = open_body(6);
    to.send(b"abc".as_slice().into()).await.unwrap();
    let sent =
        within(open(&format!("{origin}/in/"), HttpVersion::Two, PATIENT, None).send(&object("x", b"abcdef"), body))
            .await;
    let (detail, _) = later(sent);
    assert!(detail.contains("answered 200 OK after") && detail.contains("of 6 bytes"), "{detail}");
    drop(to);
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up() {
    let (origin, _server) = serve(None, |request| async move {
        std::future::pending::<()>().await;
        drop(request);
        Response::new(Full::default())
    })
    .await;
    for size in [3, LARGE] {
        let content = vec![0; size];
        let sent =
            send(&*open(&format!("{origin}/in/"), HttpVersion::Two, IMPATIENT, None), &object("x", &content), &content)
                .await;
        let (detail, _) = later(sent);
        assert!(detail.contains("neither took bytes nor answered for 200ms"), "{detail}");
    }
}

/// For the server the body must break off; it must never seem to end.
#[tokio::test]
async fn a_dropped_delivery_resets_its_stream() {
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let wholes = Arc::new(AtomicUsize::new(0));
    let (began, at_end, whole) = (Arc::clone(&begun), Arc::clone(&ended), Arc::clone(&wholes));
    let (origin, _server) = serve(None, move |request| {
        let (began, at_end, whole) = (Arc::clone(&began), Arc::clone(&at_end), Arc::clone(&whole));
        async move {
            let mut body = request.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
            began.notify_one();
            if body.collect().await.is_ok() {
                whole.fetch_add(1, Ordering::SeqCst);
            }
            at_end.notify_one();
            Response::new(Full::default())
        }
    })
    .await;
    let remote = open(&format!("{origin}/in/"), HttpVersion::Two, PATIENT, None);
    for dropped in [true, false] {
        let object = object("x", b"abcdef");
        let (to, body) = open_body(6);
        to.send(b"abc".as_slice().into()).await.unwrap();
        if dropped {
            within(async {
                tokio::select! {
                    sent = remote.send(&object, body) => panic!("{sent:?}"),
                    () = begun.notified() => {}
                }
            })
            .await;
        } else {
            let stop = async {
                begun.notified().await;
                drop(to);
            };
            let (sent, ()) = within(async { tokio::join!(remote.send(&object, body), stop) }).await;
            assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
        }
        within(ended.notified()).await;
    }
    assert_eq!(wholes.load(Ordering::SeqCst), 0, "a part was taken for the whole");
}

#[tokio::test]
async fn a_connection_that_ends_is_later() {
    let (went, gone) = oneshot::channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let server = async {
        drop(listener.accept().await.unwrap());
        went.send(()).unwrap();
    };
    let remote = open(&url, HttpVersion::Two, PATIENT, None);
    let content = bytes(1000);
    let object = object("x", &content);
    let (sent, ()) = tokio::join!(send(&*remote, &object, &content), within(server));
    later(sent);
    gone.await.unwrap();
}

/// nginx over TLS, with HTTP/2 only.
#[tokio::test]
async fn webdav_conforms_at_nginx_over_http_2() {
    let (certificate, key) = tls::pem(&["127.0.0.1"]);
    let tls = NginxTls { certificate: certificate.clone(), key };
    let share = Share::new(|options| (options.tls, options.http2) = (Some(tls), true)).await;
    let Some(mut served) = share else { return };
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certificate).unwrap();
    served.remote = open_webdav(&served.url(), |remote| {
        (remote.server.http_version, remote.server.ca_file) = (HttpVersion::Two, Some(ca.path().to_owned()));
    });
    suite(&served).await;
    let content = bytes(LARGE);
    let object = object("large", &content);
    send(&*served.remote, &object, &content).await.unwrap();
    assert!(std::fs::read(served.path("large")).unwrap() == content, "other bytes");
    assert!(matches!(within(served.remote.compare(&object)).await, Ok(Comparison::Equal(_))));
}
