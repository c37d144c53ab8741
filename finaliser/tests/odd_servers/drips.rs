//! Servers that drip: they are never silent, and never done.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::remotes::object::{IMPATIENT, http, later, object, within};
use crate::remotes::raw_server::{answer, raw_server, read_head, read_to_end};
use crate::remotes::webdav::open_webdav;

/// A server that answers one request after another, each on a connection of its own, as long as there are answers. Then
/// it drips: it repeats the last piece until the client hangs up.
#[expect(clippy::disallowed_methods, reason = "the thread is the server's own, and this is how it drips")]
fn dripping<const N: usize>(answers: [&'static str; N], drip: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut last: Option<TcpStream> = None;
        for text in answers {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            answer(&mut stream, text);
            last = Some(stream);
        }
        let mut last = last.unwrap();
        while last.write_all(drip).is_ok() {
            // Well within the idle timeout.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    (url, server)
}

#[tokio::test]
async fn a_file_that_drips_back_is_given_up() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    let (url, server) = dripping([long, long], b"x");
    let content = vec![0; 100_000];
    let (detail, _) = later(within(http(&url, IMPATIENT).compare(&object("x", &content))).await);
    assert!(detail.contains("too slow: only"), "{detail}");
    server.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up() {
    let head = "HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (url, server) = dripping([head], b"1\r\n \r\n");
    let idle = u64::try_from(IMPATIENT.as_millis()).unwrap();
    let remote = open_webdav(&url, |remote| remote.server.idle_timeout_ms = idle);
    let (detail, _) = later(within(remote.compare(&object("x", b"abc"))).await);
    assert!(detail.contains("not answered within 4s"), "{detail}");
    server.join().unwrap();
}

#[tokio::test]
async fn a_list_that_is_no_list_freezes_nothing() {
    let head = "HTTP/1.1 207 Multi-Status\r\nConnection: close\r\n\r\n";
    let attributes: String = (0..300_000).map(|number| format!("a{number}='' ")).collect();
    let (url, server) = raw_server(move |mut stream| {
        read_head(&mut stream);
        answer(&mut stream, head);
        answer(&mut stream, &format!("<multistatus xmlns='DAV:' {attributes}/>"));
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream);
    });
    let remote = open_webdav(&url, |_| {});
    let (detail, _) = later(within(remote.staging_files()).await);
    assert!(detail.contains("attributes"), "{detail}");
    server.join().unwrap();
}
