//! A remote that records: it accepts PUTs, hashes their bodies, keeps what arrives complete, and misbehaves on demand.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// Accepts it, unless an object has that name.
    Take,
    /// Answers this status without reading the body.
    Answer(u16),
    /// The same, with so many seconds as `Retry-After`.
    Later(u16, u8),
    /// Accepts it, and answers after this time.
    TakeSlowly(Duration),
    /// Reads so many bytes of the body, then closes the connection.
    HangUpAfter(u64),
    /// Reads so many bytes of the body and no more, and keeps the connection.
    StallAfter(u64),
    /// Accepts it, and never answers.
    TakeInSilence,
    /// Accepts it, never answers, and hides it from the next HEAD: whoever sends it again gets a 412 because of an earlier
    /// success.
    TakeUnseen,
    /// Before it accepts it, somebody else puts another object under that name.
    Overtaken,
}

/// What kind of server a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Honours `If-None-Match: *`; else it overwrites what it has.
    pub conditional: bool,
    /// Answers HEAD with the digest of the object; else it answers 405.
    pub tells: bool,
    /// Compares the body with `Repr-Digest`, and answers 400 if they differ.
    pub checks: bool,
}

impl Default for Manners {
    /// The best behaved server.
    fn default() -> Self {
        Self { conditional: true, tells: true, checks: true }
    }
}

/// A PUT that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The path, as it was sent.
    pub path: String,
    /// How many bytes of the body arrived.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Whether the body arrived complete.
    pub complete: bool,
    /// Whether it became the object of that name, whatever was answered.
    pub kept: bool,
    /// What was answered, if anything was.
    pub status: Option<u16>,
    /// `If-None-Match`, `Repr-Digest` and `Content-Length`, as they were sent.
    pub headers: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<String, (u64, Digest)>,
    puts: Vec<Put>,
    requests: Vec<String>,
    plans: HashMap<String, VecDeque<Behaviour>>,
    /// Paths that the next HEAD does not show.
    unseen: HashSet<String>,
}

/// A sink that does not listen yet: connections are refused, and nobody else can take the port.
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
        Sink::serve_at(self.0.listen(128).unwrap(), Manners::default())
    }
}

/// A running sink; it ends with its runtime.
#[derive(Debug, Clone)]
pub struct Sink {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    behaviour: Arc<Mutex<Behaviour>>,
    manners: Manners,
}

impl Sink {
    /// Starts a sink on a port of its own.
    pub async fn start() -> Self {
        ClosedSink::bind().open()
    }

    /// Starts a sink of another kind.
    pub async fn start_with(manners: Manners) -> Self {
        Self::serve_at(ClosedSink::bind().0.listen(128).unwrap(), manners)
    }

    fn serve_at(listener: TcpListener, manners: Manners) -> Self {
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour::Take));
        let sink = Self { address, kept: Arc::default(), behaviour, manners };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| sink.serve(request));
                    let served = hyper::server::conn::http1::Builder::new();
                    // Some tests want a connection that breaks.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What kind of server it is.
    pub fn manners(&self) -> Manners {
        self.manners
    }

    /// All objects it has, by path.
    pub fn objects(&self) -> Vec<(String, u64, Digest)> {
        let kept = self.kept.lock().unwrap();
        kept.objects.iter().map(|(path, (size, sha256))| (path.clone(), *size, *sha256)).collect()
    }

    /// Changes what it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// How it treats the next PUTs of `name`, one after the other; later ones are treated like all others.
    pub fn plan(&self, name: &str, behaviours: &[Behaviour]) {
        let plan = behaviours.iter().copied().collect();
        self.kept.lock().unwrap().plans.insert(format!("/in/{name}"), plan);
    }

    /// The PUTs that arrived.
    pub fn puts(&self) -> Vec<Put> {
        self.kept.lock().unwrap().puts.clone()
    }

    /// The requests that arrived, of any method: `HEAD /in/name`.
    pub fn requests(&self) -> Vec<String> {
        self.kept.lock().unwrap().requests.clone()
    }

    /// Size and hash of what it has under `path`.
    pub fn object(&self, path: &str) -> Option<(u64, Digest)> {
        self.kept.lock().unwrap().objects.get(path).copied()
    }

    /// Puts an object there directly.
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

    async fn serve(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let line = format!("{} {}", request.method(), request.uri().path());
        self.kept.lock().unwrap().requests.push(line);
        match *request.method() {
            Method::PUT => self.put(request).await,
            _ => Ok(self.head(request.uri().path())),
        }
    }

    /// HEAD, and GET without a body: this sink identifies an object by its digest.
    fn head(&self, path: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        if !self.manners.tells {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return response;
        }
        let unseen = self.kept.lock().unwrap().unseen.remove(path);
        match self.object(path).filter(|_| !unseen) {
            None => *response.status_mut() = StatusCode::NOT_FOUND,
            Some((size, sha256)) => {
                let headers = response.headers_mut();
                headers.insert("content-length", HeaderValue::from(size));
                headers.insert("repr-digest", HeaderValue::from_str(&sha256.to_repr_digest()).unwrap());
            }
        }
        response
    }

    async fn put(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let behaviour = self.next_behaviour(&path);
        let headers = ["if-none-match", "if-match", "repr-digest", "content-length"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), request.headers().get(name)?.to_str().ok()?.to_owned())))
            .collect();
        let sha256 = Digest::of_nothing();
        let mut put = Put { path, bytes: 0, sha256, complete: false, kept: false, status: None, headers };
        if let Behaviour::Answer(status) | Behaviour::Later(status, _) = behaviour {
            put.status = Some(status);
            self.kept.lock().unwrap().puts.push(put);
            return Ok(match behaviour {
                Behaviour::Later(_, seconds) => answer_later(status, seconds),
                _ => answer(status),
            });
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
            // hyper closes the connection without an answer.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let silent = matches!(behaviour, Behaviour::TakeInSilence | Behaviour::TakeUnseen);
        if behaviour == Behaviour::TakeUnseen {
            self.kept.lock().unwrap().unseen.insert(put.path.clone());
        }
        let status = self.keep(put, !silent);
        match behaviour {
            Behaviour::TakeSlowly(pause) => tokio::time::sleep(pause).await,
            _ if silent => std::future::pending().await,
            _ => {}
        }
        Ok(answer(status))
    }

    fn next_behaviour(&self, path: &str) -> Behaviour {
        let planned = self.kept.lock().unwrap().plans.get_mut(path).and_then(VecDeque::pop_front);
        planned.unwrap_or_else(|| *self.behaviour.lock().unwrap())
    }

    /// Keeps a complete body, unless an object has that name.
    fn keep(&self, mut put: Put, answers: bool) -> u16 {
        let mut kept = self.kept.lock().unwrap();
        let asked = put.headers.get("if-none-match").is_some_and(|value| value == "*");
        let conditional = self.manners.conditional && asked;
        let differs = put.headers.get("repr-digest").is_some_and(|digest| *digest != put.sha256.to_repr_digest());
        let status = match kept.objects.contains_key(&put.path) {
            true if conditional => 412,
            _ if differs && self.manners.checks => 400,
            _ => {
                kept.objects.insert(put.path.clone(), (put.bytes, put.sha256));
                put.kept = true;
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

fn answer_later(status: u16, seconds: u8) -> Response<Full<Bytes>> {
    let mut response = answer(status);
    response.headers_mut().insert("retry-after", HeaderValue::from(u16::from(seconds)));
    response
}
