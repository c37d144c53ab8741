//! Heads of answers that a strict reader refuses.

use http_body_util::{BodyExt, Empty};
use hyper::Response;
use settings::{HttpRemote, HttpVersion, RemoteSettings};

use crate::remotes::object::{PATIENT, http, later, object, send, within};
use crate::remotes::raw_server::{answer, raw_server, read_body, read_head};
use crate::remotes::serving::serve;

/// Sends a file to a server that answers with these lines.
async fn etag_after(lines: String) -> Option<String> {
    let (url, server) = raw_server(move |mut stream| {
        read_head(&mut stream);
        read_body(&mut stream, 3);
        answer(&mut stream, &format!("HTTP/1.1 201 Created\r\n{lines}ETag: \"e\"\r\n\r\n"));
    });
    let evidence = send(&*http(&url, PATIENT), &object("x", b"abc"), b"abc").await.unwrap();
    server.join().unwrap();
    evidence.etag
}

#[tokio::test]
async fn a_head_of_many_fields_is_read() {
    let fields = |count: usize| (0..count).map(|n| format!("X-Policy-{n}: default-src 'self'\r\n")).collect::<String>();
    assert_eq!(etag_after(format!("Content-Length: 0\r\n{}", fields(900))).await.as_deref(), Some("\"e\""));

    // As many over HTTP/2.
    let (origin, _task) = serve(None, |request| async {
        drop(request.into_body().collect().await);
        let many =
            (0..900).fold(Response::builder().status(201), |head, n| head.header(format!("x-policy-{n}"), "self"));
        many.header("etag", "\"e\"").body(Empty::new()).unwrap()
    })
    .await;
    let settings = HttpRemote { http_version: HttpVersion::Two, ..HttpRemote::new(format!("{origin}/in/")) };
    let remote = finaliser::remote::open(&RemoteSettings::Http(settings)).unwrap();
    let evidence = send(&*remote, &object("x", b"abc"), b"abc").await.unwrap();
    assert_eq!(evidence.etag.as_deref(), Some("\"e\""));
}

#[tokio::test]
async fn values_on_several_lines_and_spaces_before_the_colon_are_read() {
    let folded = "X-Policy: default-src 'self';\r\n  script-src 'none'\r\nContent-Length: 0\r\n";
    assert_eq!(etag_after(folded.to_owned()).await.as_deref(), Some("\"e\""));
    assert_eq!(etag_after("X-Policy : self\r\nContent-Length : 0\r\n".to_owned()).await.as_deref(), Some("\"e\""));
}

#[tokio::test]
async fn a_head_that_is_none_is_still_refused() {
    let (url, server) = raw_server(|mut stream| {
        read_head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\nno colon at all\r\n\r\n");
    });
    later(within(http(&url, PATIENT).compare(&object("x", b"abc"))).await);
    server.join().unwrap();
}
