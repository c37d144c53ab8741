//! A remote that records: it takes PUTs, hashes what comes, keeps what is whole, and misbehaves on demand.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use contract::{Digest, Hasher};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};

/// What a sink does with a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Takes it, unless something has that name.
    Take,
    /// Answers this status without reading the body.
    Answer(u16),
    /// Reads so many bytes of the body, then closes the connection.
    HangUpAfter(u64),
    /// Reads so many bytes of the body and no more, and keeps the connection.
    StallAfter(u64),
    /// Takes it, and never answers.
    TakeInSilence,
    /// Just before, somebody else puts another object under that name.
    Overtaken,
}

/// A PUT that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The path, as it came.
    pub path: String,
    /// Bytes of the body that came.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Whether the body came whole.
    pub complete: bool,
    /// What was answered, if anything was.
    pub status: Option<u16>,
    /// `If-None-Match`, `Repr-Digest` and `Content-Length`, as they came.
    pub headers: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<String, (u64, Digest)>,
    puts: Vec<Put>,
    requests: Vec<String>,
    plans: HashMap<String, VecDeque<Behaviour>>,
}

/// The place of a sink that does not listen yet: connections are refused, and nobody else can take the port.
#[derive(Debug)]
pub struct ClosedSink(TcpSocket);

impl ClosedSink {
    /// Takes a port.
    pub fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    /// The address for `[remotes.NAME] url`.
    pub fn url(&self) -> String {
        format!("http://{}/in/", self.0.local_addr().unwrap())
    }

    /// Begins to listen.
    pub fn open(self) -> Sink {
        Sink::serve_at(self.0.listen(128).unwrap())
    }
}

/// A running sink; it ends with its runtime.
#[derive(Debug, Clone)]
pub struct Sink {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Sink {
    /// Starts a sink on a port of its own.
    pub async fn start() -> Self {
        ClosedSink::bind().open()
    }

    fn serve_at(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let sink = Self { address, kept: Arc::default(), behaviour: Arc::new(Mutex::new(Behaviour::Take)) };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| sink.serve(request));
                    let served = hyper::server::conn::http1::Builder::new();
                    // A connection that breaks is what some tests want.
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        sink
    }

    /// The address for `[remotes.NAME] url`.
    pub fn url(&self) -> String {
        format!("http://{}/in/", self.address)
    }

    /// Changes what it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// What it does with the next PUTs of `name`, one after the other; after them, it does as with all others.
    pub fn plan(&self, name: &str, behaviours: &[Behaviour]) {
        let plan = behaviours.iter().copied().collect();
        self.kept.lock().unwrap().plans.insert(format!("/in/{name}"), plan);
    }

    /// The PUTs that came.
    pub fn puts(&self) -> Vec<Put> {
        self.kept.lock().unwrap().puts.clone()
    }

    /// The requests that came, of any method: `HEAD /in/name`.
    pub fn requests(&self) -> Vec<String> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// Size and hash of what it has under `path`.
    pub fn object(&self, path: &str) -> Option<(u64, Digest)> {
        self.kept.lock().unwrap().objects.get(path).copied()
    }

    /// Puts something there by another way.
    pub fn place(&self, path: &str, bytes: &[u8]) {
        let object = (bytes.len() as u64, Digest::of(bytes));
        self.kept.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    /// How many objects it has.
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap().objects.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Hangup> {
        let line = format!("{} {}", request.method(), request.uri().path());
        self.kept.lock().unwrap().requests.push(line);
        match *request.method() {
            Method::PUT => self.put(request).await,
            _ => Ok(self.head(request.uri().path())),
        }
    }

    /// HEAD, and GET without a body: this sink proves what it has by its digest.
    fn head(&self, path: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        match self.object(path) {
            None => *response.status_mut() = StatusCode::NOT_FOUND,
            Some((size, sha256)) => {
                let headers = response.headers_mut();
                headers.insert("content-length", HeaderValue::from(size));
                headers.insert("repr-digest", HeaderValue::from_str(&sha256.to_repr_digest()).unwrap());
            }
        }
        response
    }

    async fn put(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Hangup> {
        let path = request.uri().path().to_owned();
        let behaviour = self.next_behaviour(&path);
        let headers = ["if-none-match", "repr-digest", "content-length"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), request.headers().get(name)?.to_str().ok()?.to_owned())))
            .collect();
        let mut put = Put { path, bytes: 0, sha256: Digest::of_nothing(), complete: false, status: None, headers };
        if let Behaviour::Answer(status) = behaviour {
            put.status = Some(status);
            self.kept.lock().unwrap().puts.push(put);
            return Ok(answer(status));
        }
        if behaviour == Behaviour::Overtaken {
            self.place(&put.path, b"somebody else's");
        }
        let mut body = request.into_body();
        put.sha256 = read(&mut body, &mut put, behaviour).await;
        if !put.complete {
            self.kept.lock().unwrap().puts.push(put);
            if matches!(behaviour, Behaviour::StallAfter(_)) {
                std::future::pending::<()>().await;
            }
            return Err(Hangup);
        }
        let status = self.keep(put, behaviour != Behaviour::TakeInSilence);
        if behaviour == Behaviour::TakeInSilence {
            std::future::pending::<()>().await;
        }
        Ok(answer(status))
    }

    fn next_behaviour(&self, path: &str) -> Behaviour {
        let planned = self.kept.lock().unwrap().plans.get_mut(path).and_then(VecDeque::pop_front);
        planned.unwrap_or_else(|| *self.behaviour.lock().unwrap())
    }

    /// Takes what came whole, unless something has that name.
    fn keep(&self, mut put: Put, answers: bool) -> u16 {
        let mut kept = self.kept.lock().unwrap();
        let conditional = put.headers.get("if-none-match").is_some_and(|value| value == "*");
        let status = match kept.objects.contains_key(&put.path) {
            true if conditional => 412,
            _ => {
                kept.objects.insert(put.path.clone(), (put.bytes, put.sha256));
                201
            }
        };
        put.status = answers.then_some(status);
        kept.puts.push(put);
        status
    }
}

/// Reads the body as far as `behaviour` goes.
async fn read(body: &mut Incoming, put: &mut Put, behaviour: Behaviour) -> Digest {
    let mut whole = Hasher::new();
    loop {
        match body.frame().await {
            None => {
                put.complete = true;
                return whole.finish();
            }
            Some(Err(_)) => return whole.finish(),
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    put.bytes += bytes.len() as u64;
                    whole.update(bytes);
                }
            }
        }
        let enough = match behaviour {
            Behaviour::HangUpAfter(limit) | Behaviour::StallAfter(limit) => put.bytes >= limit,
            _ => false,
        };
        if enough {
            return whole.finish();
        }
    }
}

fn answer(status: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if status == 201 {
        response.headers_mut().insert("etag", HeaderValue::from_static("\"sink-1\""));
    }
    response
}

/// Tells hyper to close the connection without an answer.
#[derive(Debug)]
struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the sink hangs up")
    }
}

impl std::error::Error for Hangup {}
