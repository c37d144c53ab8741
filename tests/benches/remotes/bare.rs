//! A bare client of each kind: it reads the same bytes from MongoDB by a plain cursor of the driver, and sends them. It proves
//! nothing, asks nothing first and goes on nowhere. It is a process of its own, so that its CPU seconds are its own.

use std::convert::Infallible;
use std::io::Write;

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use contract::{Digest, FileId};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, doc};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::sign::signed;

/// Bytes of a part of an upload to S3.
const PART: usize = 8 * 1024 * 1024;

/// Chunks that may wait for the remote.
const AHEAD: usize = 4;

/// How the bytes go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// One PUT.
    Put,
    /// An upload in parts, each signed with its hash.
    S3,
    /// A file, synced.
    File,
    /// The standard input of `ssh ... 'cat > PATH'`; `--to` is port, user, private key and path, with spaces between.
    Ssh,
}

/// What a bare client is told.
#[derive(Debug, Args)]
pub(crate) struct Bare {
    /// How the bytes go out
    #[arg(long = "bare")]
    way: Option<Way>,
    #[arg(long, requires = "way", default_value = "")]
    mongodb: String,
    #[arg(long, requires = "way", default_value = "")]
    database: String,
    #[arg(long, requires = "way")]
    file: Option<FileId>,
    #[arg(long, requires = "way", default_value_t = 0)]
    size: u64,
    /// An address or a path
    #[arg(long, requires = "way", default_value = "")]
    to: String,
}

#[derive(Deserialize)]
struct Chunk {
    data: Binary,
}

impl Bare {
    /// The arguments for a bare client that sends a file.
    pub(crate) fn arguments(
        way: Way,
        (mongodb, database): (&str, &str),
        (file, size): (&str, u64),
        to: &str,
    ) -> Vec<String> {
        let way = way.to_possible_value().expect("every way has a name").get_name().to_owned();
        let size = size.to_string();
        let all =
            ["--bare", &way, "--mongodb", mongodb, "--database", database, "--file", file, "--size", &size, "--to", to];
        all.map(str::to_owned).into()
    }

    /// Sends the file, if this process is a bare client. Whether it is.
    pub(crate) async fn run(&self) -> bool {
        let (Some(way), Some(file)) = (self.way, self.file) else { return false };
        let (chunks, read) = mpsc::channel(AHEAD);
        let client = mongodb::Client::with_uri_str(&self.mongodb).await.expect("MongoDB answers");
        let collection = client.database(&self.database).collection::<Chunk>("chunks");
        let reading = tokio::spawn(async move {
            let key =
                |rest| Binary { subtype: BinarySubtype::Generic, bytes: [&file.as_bytes()[..], &[rest; 10]].concat() };
            let filter = doc! { "_id": { "$gte": key(0), "$lt": key(0xff) } };
            let mut cursor = collection.find(filter).sort(doc! { "_id": 1 }).await.expect("chunks can be read");
            while let Some(chunk) = cursor.try_next().await.expect("chunks can be read") {
                chunks.send(Bytes::from(chunk.data.bytes)).await.expect("somebody takes them");
            }
        });
        match way {
            Way::Put => put(&self.to, self.size, read).await,
            Way::S3 => upload(&self.to, read).await,
            Way::File => write(&self.to, read).await,
            Way::Ssh => pipe(&self.to, read).await,
        }
        reading.await.expect("the reader ends well");
        true
    }
}

/// Sends a request and reads the answer.
async fn ask<B>(to: &Uri, request: Request<B>) -> Response<Bytes>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let authority = to.authority().expect("an address has a host").as_str();
    let stream = TcpStream::connect(authority).await.expect("the remote listens");
    stream.set_nodelay(true).expect("a socket takes that");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    let driving = tokio::spawn(connection);
    let (head, content) = sender.send_request(request).await.expect("the remote answers").into_parts();
    let content = content.collect().await.expect("the answer is whole").to_bytes();
    assert!(head.status.is_success(), "{}: {}", head.status, String::from_utf8_lossy(&content));
    driving.abort();
    Response::from_parts(head, content)
}

async fn put(to: &str, size: u64, mut read: mpsc::Receiver<Bytes>) {
    let to: Uri = to.parse().expect("an address");
    let pieces = futures_util::stream::poll_fn(move |cx| read.poll_recv(cx));
    let body = StreamBody::new(futures_util::StreamExt::map(pieces, |piece| Ok::<_, Infallible>(Frame::data(piece))));
    let request = Request::put(to.path())
        .header("host", to.authority().expect("an address has a host").as_str())
        .header("content-length", size)
        .body(body)
        .expect("a request");
    ask(&to, request).await;
}

async fn upload(to: &str, mut read: mpsc::Receiver<Bytes>) {
    let to: Uri = to.parse().expect("an address");
    let call = async |method: &str, query: &[(&str, &str)], body: Bytes| {
        let request = signed(method, &to, query, Digest::of(&body)).header("content-length", body.len());
        ask(&to, request.body(Full::new(body)).expect("a request")).await
    };
    let begun = call("POST", &[("uploads", "")], Bytes::new()).await;
    let text = String::from_utf8_lossy(begun.body()).into_owned();
    let id = text.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).expect("an upload has an id");
    let mut parts = String::new();
    let (mut number, mut more) = (0, true);
    while more {
        let mut part = BytesMut::with_capacity(PART);
        while part.len() < PART && more {
            match read.recv().await {
                Some(chunk) => part.extend_from_slice(&chunk),
                None => more = false,
            }
        }
        if part.is_empty() {
            break;
        }
        number += 1;
        let answer = call("PUT", &[("partNumber", &number.to_string()), ("uploadId", id)], part.freeze()).await;
        let etag = answer.headers()["etag"].to_str().expect("an entity tag");
        parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    let whole = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    call("POST", &[("uploadId", id)], whole.into()).await;
}

async fn write(to: &str, mut read: mpsc::Receiver<Bytes>) {
    let mut file = std::fs::File::create_new(to).expect("nothing is there");
    while let Some(chunk) = read.recv().await {
        file.write_all(&chunk).expect("it can be written");
    }
    file.sync_all().expect("it can be synced");
}

async fn pipe(to: &str, mut read: mpsc::Receiver<Bytes>) {
    let [port, user, key, path] = to.split(' ').collect::<Vec<_>>()[..] else { panic!("expected four words") };
    let mut ssh = tokio::process::Command::new("ssh")
        .args(["-p", port, "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q"])
        .args([&format!("{user}@127.0.0.1"), &format!("cat > {path}")])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("ssh is there");
    let mut input = ssh.stdin.take().expect("it is piped");
    while let Some(chunk) = read.recv().await {
        input.write_all(&chunk).await.expect("ssh takes it");
    }
    drop(input);
    assert!(ssh.wait().await.expect("ssh ends").success());
}
