//! PUT: what is sent, and what each answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use contract::RemoteProof;
use finaliser::remote::{Evidence, RemoteError};
use tokio::sync::oneshot;

use settings::{HttpRemote, RemoteSettings, Secret};

use crate::remotes::object::{
    IMPATIENT, PATIENT, bytes, http, later, object, open_body, open_http, refused, send, within,
};
use crate::remotes::raw_server::{
    SilentServer, answer, raw_server, read_body, read_head, read_to_end, write_until_closed,
};
use crate::remotes::storing_server::StoringServer;

/// More than the buffers of any pair of sockets hold.
const LARGE: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn credentials_and_fields_of_the_settings_are_sent() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush-first\n").unwrap();
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let basic = |remote: &mut HttpRemote| {
        (remote.username, remote.password) = (Some("ada".into()), secret("hush:pass"));
        remote.headers = [("X-Tenant".to_owned(), Secret::new("hush-tenant".into()))].into();
    };
    let bearer = |remote: &mut HttpRemote| remote.token_file = Some(file.path().to_owned());
    type Change<'a> = &'a dyn Fn(&mut HttpRemote);
    let changes: [(Change<'_>, &[&str]); 2] = [
        (&basic, &["authorization: basic ywrhomh1c2g6cgfzcw==", "x-tenant: hush-tenant"]),
        (&bearer, &["authorization: bearer hush-second"]),
    ];
    for (change, lines) in changes {
        let (url, server) = raw_server(|mut stream| {
            let head = read_head(&mut stream);
            answer(&mut stream, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
            head
        });
        let mut settings = HttpRemote::new(&url);
        change(&mut settings);
        let remote = finaliser::remote::open(&RemoteSettings::Http(settings)).unwrap();
        assert!(!format!("{remote:?}").contains("hush"));
        // A token may be renewed while the service runs.
        std::fs::write(file.path(), "hush-second\n").unwrap();
        let detail = refused(send(&*remote, &object("x", b""), b"").await);
        assert!(!detail.contains("hush"), "{detail}");
        let head = server.join().unwrap().to_lowercase();
        for line in lines {
            assert!(head.lines().any(|found| found == *line), "{line} is not in {head}");
        }
    }
    let gone = HttpRemote { token_file: Some("/no/token".into()), ..HttpRemote::new("http://127.0.0.1:1/") };
    assert!(refused(finaliser::remote::open(&RemoteSettings::Http(gone))).contains("/no/token"));
}

#[tokio::test]
async fn a_request_on_the_wire() {
    for content in [&b""[..], b"abc"] {
        let size = content.len();
        let (url, server) = raw_server(move |mut stream| {
            let head = read_head(&mut stream);
            read_body(&mut stream, size);
            answer(&mut stream, "HTTP/1.1 201 Created\r\nETag: W/\"x\"\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(read_to_end(&mut stream), 0, "more than the body");
            head
        });
        let remote = http(&url, PATIENT);
        let object = object("a%2fb c", content);
        assert_eq!(remote.address(&object.path), format!("{url}a%252fb%20c"));
        let evidence = send(&*remote, &object, content).await.unwrap();
        let etag = Some("W/\"x\"".into());
        let sent = size as u64;
        assert_eq!(evidence, Evidence { status: Some(201), etag, ..Evidence::new(RemoteProof::Put, sent) });
        let head = server.join().unwrap().to_lowercase();
        let host = url.strip_prefix("http://").unwrap().strip_suffix("/in/").unwrap();
        for line in [
            "put /in/a%252fb%20c http/1.1",
            &format!("host: {host}"),
            &format!("content-length: {size}"),
            "content-type: application/octet-stream",
            &format!("idempotency-key: \"{}\"", object.file_id),
            "if-none-match: *",
            &format!("repr-digest: {}", object.sha256.to_repr_digest().to_lowercase()),
            &format!("user-agent: waybill/{}", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(head.lines().filter(|found| found == &line).count(), 1, "{line} in {head}");
        }
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
}

#[tokio::test]
async fn each_status_is_delivered_refused_later_or_a_clash() {
    for code in [
        200, 201, 202, 204, 207, 300, 301, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 418, 423, 425,
        429, 500, 501, 503, 507,
    ] {
        let server = StoringServer::start(|habits| habits.put = Some((code, &[], b""))).await;
        let content = bytes(100_000);
        let result = send(&*http(&server.url, PATIENT), &object("x", &content), &content).await;
        let detail = match (code, result) {
            (200 | 201 | 204, Ok(evidence)) => {
                assert_eq!((evidence.status, evidence.proof.as_str()), (Some(code), "put"));
                continue;
            }
            (412, Err(RemoteError::Conflict(detail))) => detail,
            // The server has nothing after all.
            (202 | 207, Err(RemoteError::Later { detail, after: Some(_) })) => detail,
            (408 | 423 | 425 | 429 | 500.., Err(RemoteError::Later { detail, after: None })) => detail,
            (300..=499, Err(RemoteError::Refused(detail))) if ![408, 412, 423, 425, 429].contains(&code) => detail,
            (_, result) => panic!("{code}: {result:?}"),
        };
        assert!(detail.starts_with(&format!("PUT {}x: answered {code}", server.url)), "{detail}");
    }
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let server = StoringServer::start(|habits| habits.put = Some((503, &[("retry-after", "7")], b""))).await;
    let result = send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await;
    assert_eq!(later(result).1, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_the_server_says_is_shown_on_one_line() {
    let says = (404, &[("content-type", "text/plain")][..], &b"no\r\nsuch \x1b[31mfolder"[..]);
    let server = StoringServer::start(|habits| habits.put = Some(says)).await;
    let detail = refused(send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.ends_with("answered 404 Not Found: no such \\u{1b}[31mfolder"), "{detail:?}");

    let says = (404, &[("content-type", "image/png")][..], &b"PNG"[..]);
    let server = StoringServer::start(|habits| habits.put = Some(says)).await;
    let detail = refused(send(&*http(&server.url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.ends_with("answered 404 Not Found"), "{detail:?}");
}

#[tokio::test]
async fn a_refusal_without_end_is_cut() {
    let (url, server) = raw_server(|mut stream| {
        read_head(&mut stream);
        answer(&mut stream, "HTTP/1.1 400 No\r\nContent-Type: text/plain\r\n\r\n");
        write_until_closed(&mut stream, &[b'x'; 1000])
    });
    let detail = refused(send(&*http(&url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.len() < 1024, "{} bytes", detail.len());
    assert!(server.join().unwrap() < LARGE, "it was read on and on");
}

#[tokio::test]
async fn a_head_without_end_is_cut() {
    let (url, server) = raw_server(|mut stream| {
        read_head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\n");
        write_until_closed(&mut stream, b"X-More: and more and more and more\r\n")
    });
    later(send(&*http(&url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(server.join().unwrap() < LARGE, "it was read on and on");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_tried_later() {
    // The port is bound, so that nobody else gets it, but nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/in/", socket.local_addr().unwrap());
    let (detail, _) = later(send(&*http(&url, PATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_server_that_hangs_up_half_way_is_tried_later() {
    let (url, server) = raw_server(|mut stream| {
        read_head(&mut stream);
        read_body(&mut stream, 1000);
    });
    let content = vec![0; LARGE];
    later(send(&*http(&url, PATIENT), &object("x", &content), &content).await);
    server.join().unwrap();
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_counts() {
    for (code, text) in [(401, "bad token"), (413, "too large"), (507, "full")] {
        let (url, server) = raw_server(move |mut stream| {
            read_head(&mut stream);
            let length = text.len();
            answer(
                &mut stream,
                &format!("HTTP/1.1 {code} No\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"),
            );
            // Dropped with the body unread: a reset.
        });
        let content = vec![0; LARGE];
        let (detail, is_later) = match send(&*http(&url, PATIENT), &object("x", &content), &content).await {
            Err(RemoteError::Refused(detail)) => (detail, false),
            Err(RemoteError::Later { detail, .. }) => (detail, true),
            other => panic!("{code}: {other:?}"),
        };
        assert_eq!(is_later, code == 507);
        assert!(detail.contains(&format!("answered {code}")), "{detail}");
        server.join().unwrap();
    }
}

/// As above, made sure that our write fails before we could see the answer: the runtime of this test has one thread,
/// which the test blocks until the server has reset the connection, and so the next piece is written before the socket
/// is polled.
#[tokio::test(flavor = "current_thread")]
async fn a_refusal_counts_even_where_a_write_failed_first() {
    let (began, begun) = oneshot::channel();
    let (go, gone) = mpsc::channel();
    let (url, server) = raw_server(move |mut stream| {
        read_head(&mut stream);
        stream.peek(&mut [0]).unwrap();
        began.send(()).unwrap();
        gone.recv().unwrap();
        answer(&mut stream, "HTTP/1.1 401 No\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nbad token");
    });
    let object = object("x", &[0; 3000]);
    let (to, body) = open_body(3000);
    let sent = tokio::spawn(async move { http(&url, PATIENT).send(&object, body).await });
    to.send(vec![0; 1000].into()).await.unwrap();
    within(begun).await.unwrap();
    go.send(()).unwrap();
    server.join().unwrap();
    to.try_send(vec![0; 1000].into()).unwrap();
    let detail = refused(within(sent).await.unwrap());
    assert!(detail.contains("401") && detail.contains("bad token"), "{detail}");
}

#[tokio::test]
async fn a_success_before_the_whole_body_was_sent_does_not_count() {
    let (answered, has_answered) = oneshot::channel();
    let (url, server) = raw_server(move |mut stream| {
        read_head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        answered.send(()).unwrap();
        read_to_end(&mut stream)
    });
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    let sent = tokio::spawn(async move { http(&url, PATIENT).send(&object, body).await });
    to.send(b"abc".as_slice().into()).await.unwrap();
    within(has_answered).await.unwrap();
    let (detail, _) = later(within(sent).await.unwrap());
    assert!(detail.contains("answered 200 OK after") && detail.contains("of 6 bytes"), "{detail}");
    drop(to);
    assert!(server.join().unwrap() <= 3);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = SilentServer::start(|stream| {
        read_head(stream);
        read_body(stream, 3);
    });
    let (detail, _) = later(send(&*http(&server.url, IMPATIENT), &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("nor answered for 200ms"), "{detail}");
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up() {
    let server = SilentServer::start(|stream| drop(read_head(stream)));
    let content = vec![0; LARGE];
    let (detail, _) = later(send(&*http(&server.url, IMPATIENT), &object("x", &content), &content).await);
    assert!(detail.contains("neither took bytes"), "{detail}");
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up_though_the_source_is_slow_too() {
    let server = SilentServer::start(|stream| drop(read_head(stream)));
    let content = vec![0; LARGE];
    let (to, body) = open_body(LARGE);
    to.send(content[1..].to_vec().into()).await.unwrap();
    let (detail, _) = later(within(http(&server.url, IMPATIENT).send(&object("x", &content), body)).await);
    assert!(detail.contains("neither took bytes"), "{detail}");
    drop(to);
}

#[tokio::test]
async fn a_server_that_never_speaks_tls_is_given_up() {
    let server = SilentServer::start(|_| {});
    let remote = open_http(&server.url.replace("http://", "https://"), IMPATIENT, None).unwrap();
    let (detail, _) = later(send(&*remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("no connection within 200ms"), "{detail}");
}

#[tokio::test]
async fn a_slow_source_is_not_the_servers_fault() {
    let server = StoringServer::start(|_| {}).await;
    let remote = http(&server.url, IMPATIENT);
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    let feed = async {
        for piece in [&b"abc"[..], b"def"] {
            // The test is about time: this must be more than the idle timeout.
            tokio::time::sleep(4 * IMPATIENT).await;
            to.send(piece.into()).await.unwrap();
        }
        // The channel stays open: the last byte ends the body, not the end of the channel.
        &to
    };
    let (sent, _) = within(async { tokio::join!(remote.send(&object, body), feed) }).await;
    sent.unwrap();
}

#[tokio::test]
async fn the_claim_is_checked_before_the_last_piece() {
    let (url, server) = raw_server(|mut stream| {
        read_head(&mut stream);
        read_to_end(&mut stream)
    });
    let content = bytes(900_000);
    let mut object = object("x", &content);
    let asked = Arc::new(AtomicUsize::new(0));
    object.still_ours = Box::new(move || asked.fetch_add(1, Ordering::SeqCst) == 0);
    let sent = send(&*http(&url, PATIENT), &object, &content).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert!(server.join().unwrap() <= 600_000, "the last piece went out");
}

#[tokio::test]
async fn a_dropped_delivery_hangs_up() {
    let (began, begun) = oneshot::channel();
    let (url, server) = raw_server(move |mut stream| {
        read_head(&mut stream);
        began.send(()).unwrap();
        read_to_end(&mut stream)
    });
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    to.send(b"abc".as_slice().into()).await.unwrap();
    let remote = http(&url, PATIENT);
    within(async {
        tokio::select! {
            sent = remote.send(&object, body) => panic!("{sent:?}"),
            begun = begun => begun.unwrap(),
        }
    })
    .await;
    assert!(server.join().unwrap() <= 3);
}

#[tokio::test]
async fn impossible_addresses_are_refused() {
    for url in ["http:///in/", "http://host name/", "nonsense", "https://[::1/"] {
        refused(open_http(url, PATIENT, None));
    }
}
