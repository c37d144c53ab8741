//! S3: the parts of an upload take turns on a few connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use finaliser::remote::{Remote, RemoteError};
use settings::{RemoteSettings, S3Remote, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::object::{IMPATIENT, PATIENT, bytes, later, refused, within};
use crate::remotes::s3::{MIB, claim, send};

/// Six parts.
const SIZE: usize = 40 * MIB + 7;

/// What the server does with a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It takes the part, and keeps the connection.
    Keep,
    /// It takes the part and closes the connection, without having said so.
    Close,
    /// It takes the part, and closes the connection when the next request comes: a request that met a close on its way.
    CloseAtNext,
    /// It closes the connection once it has read the head.
    HangUp,
    /// It refuses the part before it has read any of it, and closes the connection.
    Refuse,
    /// It reads the head, and nothing more.
    Stall,
}

/// What the server has seen.
#[derive(Default)]
struct Seen {
    /// Connections on which at least one part came.
    connections: usize,
    /// Parts that came, whatever became of them.
    parts: usize,
    /// Parts that were read whole.
    wholes: usize,
}

/// A bucket that says what S3 says and keeps nothing. `manner` gets the number of a part, from 1 on, in the order in
/// which they come.
struct Bucket {
    url: String,
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

impl Bucket {
    async fn start(manner: fn(usize) -> Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/bucket/in/", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = Arc::clone(&seen);
        let accept = async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&counted), manner));
            }
        };
        Self { url, seen, _task: AbortOnDropHandle::new(tokio::spawn(accept)) }
    }

    /// The bucket as a remote, with so many parts on their way at once.
    fn remote(&self, parts_at_once: u64, idle: Duration) -> Box<dyn Remote> {
        let settings = S3Remote {
            access_key: Some("key".into()),
            secret_key: Some(Secret::new("secret".into())),
            // One more part is gathered meanwhile.
            in_flight_bytes: (parts_at_once + 1) * 8 * MIB as u64,
            idle_timeout_ms: u64::try_from(idle.as_millis()).unwrap(),
            ..S3Remote::new(&self.url)
        };
        finaliser::remote::open(&RemoteSettings::S3(settings)).unwrap()
    }

    /// Connections that had parts, parts that came, parts that were read whole.
    fn seen(&self) -> (usize, usize, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.connections, seen.parts, seen.wholes)
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>, manner: fn(usize) -> Manner) {
    let mut had_parts = false;
    while let Some((line, length)) = head(&mut stream).await {
        let is_part = line.starts_with("PUT ");
        let manner = if is_part { manner(count(&seen, &mut had_parts)) } else { Manner::Close };
        match manner {
            Manner::HangUp => return,
            Manner::Refuse => {
                answer(&mut stream, "403 Forbidden", "<Error><Code>AccessDenied</Code></Error>").await;
                return;
            }
            Manner::Stall => return std::future::pending().await,
            Manner::Keep | Manner::Close | Manner::CloseAtNext => {}
        }
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            return;
        }
        if is_part {
            seen.lock().unwrap().wholes += 1;
        }
        let text = match &*line {
            line if line.ends_with("?uploads=") => "<R><UploadId>u</UploadId></R>",
            line if line.starts_with("POST ") => "<R><ETag>&quot;e&quot;</ETag></R>",
            _ => "",
        };
        answer(&mut stream, "200 OK", text).await;
        match manner {
            Manner::Close => return,
            // Closed with bytes unread, it is reset.
            Manner::CloseAtNext => return drop(stream.peek(&mut [0]).await),
            _ => {}
        }
    }
}

/// Counts a part; returns how many came before it, and itself.
fn count(seen: &Mutex<Seen>, had_parts: &mut bool) -> usize {
    let mut seen = seen.lock().unwrap();
    seen.connections += usize::from(!std::mem::replace(had_parts, true));
    seen.parts += 1;
    seen.parts
}

/// Method and address of the next request, and the length of its body.
async fn head(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    Some((head.split(" HTTP/").next().unwrap().to_owned(), length))
}

async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status}\r\nETag: \"e\"\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n");
    // A client that hung up is what some tests are about.
    let _ = stream.write_all(format!("{head}\r\n{text}").as_bytes()).await;
}

#[tokio::test]
async fn parts_take_turns_on_a_few_connections() {
    let content = bytes(SIZE);
    for at_once in [1, 3] {
        let bucket = Bucket::start(|_| Manner::Keep).await;
        let evidence = send(&*bucket.remote(at_once, PATIENT), &claim("x", &content), &content).await.unwrap();
        assert_eq!(evidence.sent, SIZE as u64);
        let (connections, parts, wholes) = bucket.seen();
        assert_eq!((parts, wholes), (6, 6));
        assert!(
            (1..=usize::try_from(at_once).unwrap()).contains(&connections),
            "{connections} connections, {at_once} parts at once"
        );
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_between_parts_is_no_failure() {
    let content = bytes(SIZE);
    for manner in [
        (|_| Manner::Close) as fn(usize) -> Manner,
        |_| Manner::CloseAtNext,
        |number| {
            if number % 2 == 0 { Manner::CloseAtNext } else { Manner::Keep }
        },
    ] {
        let bucket = Bucket::start(manner).await;
        let evidence = send(&*bucket.remote(1, PATIENT), &claim("x", &content), &content).await.unwrap();
        assert_eq!(evidence.sent, SIZE as u64);
        let (connections, parts, wholes) = bucket.seen();
        assert_eq!((parts, wholes), (6, 6));
        assert_eq!(connections, if manner(1) == Manner::Keep { 3 } else { 6 });
    }
}

#[tokio::test]
async fn a_new_connection_that_ends_is_a_failure() {
    let content = bytes(SIZE);
    let bucket = Bucket::start(|number| if number == 1 { Manner::Keep } else { Manner::HangUp }).await;
    let claim = claim("x", &content);
    later(send(&*bucket.remote(1, PATIENT), &claim, &content).await);
    assert_eq!(bucket.seen(), (2, 3, 1), "the second part goes once more, on a connection of its own");
    assert_eq!(claim.log.current().unwrap().parts.len(), 1);
}

#[tokio::test]
async fn a_refusal_on_a_connection_that_was_kept_counts() {
    let content = bytes(SIZE);
    let bucket = Bucket::start(|number| if number == 1 { Manner::Keep } else { Manner::Refuse }).await;
    let detail = refused(send(&*bucket.remote(1, PATIENT), &claim("x", &content), &content).await);
    assert!(detail.contains("AccessDenied"), "{detail}");
    assert_eq!(bucket.seen(), (1, 2, 1));
}

#[tokio::test]
async fn a_server_that_stops_reading_a_connection_that_was_kept_is_given_up() {
    let content = bytes(SIZE);
    let bucket = Bucket::start(|number| if number == 1 { Manner::Keep } else { Manner::Stall }).await;
    let (detail, _) = later(send(&*bucket.remote(1, IMPATIENT), &claim("x", &content), &content).await);
    assert!(detail.contains("neither took bytes nor answered for 200ms"), "{detail}");
    assert_eq!(bucket.seen(), (1, 2, 1));
}

#[tokio::test]
async fn the_claim_is_asked_before_the_last_bytes_of_each_part() {
    let content = bytes(SIZE);
    let bucket = Bucket::start(|_| Manner::Keep).await;
    let mut claim = claim("x", &content);
    // It is asked before each part, and before the last bytes of each.
    let asked = AtomicUsize::new(0);
    claim.object.still_ours = Box::new(move || asked.fetch_add(1, Ordering::Relaxed) < 3);
    let sent = send(&*bucket.remote(1, PATIENT), &claim, &content).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert_eq!(bucket.seen(), (1, 2, 1));
}

/// Whoever stops waiting has stopped sending, and keeps no connection open.
#[tokio::test]
async fn no_connection_outlives_its_upload() {
    let content = bytes(SIZE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bucket/in/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let server = async {
        let mut connections = JoinSet::new();
        // The upload begins, its parts have one connection, and it ends.
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(serve(stream, Arc::clone(&seen), |_| Manner::Keep));
        }
        // A connection that nobody closed is waited for here.
        connections.join_all().await;
    };
    let bucket = Bucket { url, ..Bucket::start(|_| Manner::Keep).await };
    let remote = bucket.remote(1, PATIENT);
    let claim = claim("x", &content);
    let (sent, ()) = tokio::join!(send(&*remote, &claim, &content), within(server));
    sent.unwrap();
}
