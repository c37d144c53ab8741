//! A server that keeps objects in memory, as a good remote does. A test may switch off single virtues.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use contract::Digest;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, Version, header};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::serving::serve;

/// How the server differs from a plain one.
#[derive(Clone)]
pub(crate) struct Habits {
    /// Sends the SHA-256 in `Repr-Digest`.
    pub(crate) digest: bool,
    /// Sends the SHA-256 of something else.
    pub(crate) wrong_digest: bool,
    /// Sends the length in answers to HEAD and GET.
    pub(crate) length: bool,
    /// Claims that the content has this coding.
    pub(crate) coding: Option<&'static str>,
    /// Answers HEAD with this status and nothing else.
    pub(crate) head: Option<u16>,
    /// Answers HEAD with this length, whatever the content has.
    pub(crate) head_length: Option<usize>,
    /// Answers GET with this status and nothing else.
    pub(crate) get: Option<u16>,
    /// Reads a PUT and answers with this status and these fields.
    pub(crate) put: Option<Said>,
    /// Answers 202 to a PUT that it has kept.
    pub(crate) accepts: bool,
    /// Speaks TLS.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// A status, fields and a text.
pub(crate) type Said = (u16, &'static [(&'static str, &'static str)], &'static [u8]);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    broken_off: usize,
    calls: Vec<Method>,
    versions: Vec<Version>,
}

pub(crate) struct StoringServer {
    pub(crate) url: String,
    kept: Arc<Mutex<Kept>>,
    _task: AbortOnDropHandle<()>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl StoringServer {
    pub(crate) async fn start(change: impl FnOnce(&mut Habits)) -> Self {
        let mut habits = Habits {
            digest: false,
            wrong_digest: false,
            length: true,
            coding: None,
            head: None,
            head_length: None,
            get: None,
            put: None,
            accepts: false,
            tls: None,
        };
        change(&mut habits);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (tls, shared) = (habits.tls.clone(), Arc::clone(&kept));
        let answer = move |request| {
            let (habits, kept) = (habits.clone(), Arc::clone(&shared));
            async move { handle(request, &habits, &kept).await }
        };
        let (origin, task) = serve(tls, answer).await;
        Self { url: format!("{origin}/in/"), kept, _task: task }
    }

    pub(crate) fn stored(&self, name: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().objects.get(name).cloned()
    }

    pub(crate) fn keep(&self, name: &str, content: &[u8]) {
        self.kept.lock().unwrap().objects.insert(name.to_owned(), content.to_vec());
    }

    pub(crate) fn count(&self) -> usize {
        self.kept.lock().unwrap().objects.len()
    }

    pub(crate) fn broken_off(&self) -> usize {
        self.kept.lock().unwrap().broken_off
    }

    /// The HTTP versions, request by request.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.kept.lock().unwrap().versions.clone()
    }

    pub(crate) fn calls(&self) -> Vec<Method> {
        self.kept.lock().unwrap().calls.clone()
    }
}

async fn handle(request: Request<Incoming>, habits: &Habits, kept: &Mutex<Kept>) -> Answer {
    kept.lock().unwrap().calls.push(request.method().clone());
    kept.lock().unwrap().versions.push(request.version());
    // Decoded after splitting: one segment stays one name.
    let path = request.uri().path().strip_prefix("/in/").unwrap().to_owned();
    let decode = |segment| percent_encoding::percent_decode_str(segment).decode_utf8().unwrap().into_owned();
    let segments: Vec<String> = path.split('/').map(decode).collect();
    assert!(segments.iter().all(|segment| !segment.contains('/')), "a segment that is two: {path}");
    let name = segments.join("/");
    match *request.method() {
        Method::PUT => put(request, name, habits, kept).await,
        Method::HEAD => show(&name, habits, habits.head, true, kept),
        Method::GET => show(&name, habits, habits.get, false, kept),
        _ => status(405),
    }
}

async fn put(request: Request<Incoming>, name: String, habits: &Habits, kept: &Mutex<Kept>) -> Answer {
    let (head, body) = request.into_parts();
    assert!(!head.headers.contains_key(header::TRANSFER_ENCODING));
    assert!(head.headers.get(header::IF_NONE_MATCH).is_none_or(|value| value == "*"));
    let Ok(body) = body.collect().await else {
        kept.lock().unwrap().broken_off += 1;
        return status(400);
    };
    let content = body.to_bytes();
    assert_eq!(head.headers[header::CONTENT_LENGTH], content.len().to_string());
    assert_eq!(head.headers["repr-digest"], Digest::of(&content).to_repr_digest());
    if let Some((code, fields, text)) = habits.put {
        let mut answer = status(code);
        for (field, value) in fields {
            answer.headers_mut().insert(*field, value.parse().unwrap());
        }
        *answer.body_mut() = Full::from(text).boxed();
        return answer;
    }
    let mut kept = kept.lock().unwrap();
    let wanted = match head.headers.get(header::IF_MATCH) {
        // The ETag of HEAD and GET.
        Some(tag) => kept.objects.contains_key(&name) && tag == "\"two\"",
        None => !kept.objects.contains_key(&name) || !head.headers.contains_key(header::IF_NONE_MATCH),
    };
    if !wanted {
        return status(412);
    }
    kept.objects.insert(name, content.to_vec());
    let mut answer = status(if habits.accepts { 202 } else { 201 });
    answer.headers_mut().insert(header::ETAG, "\"one\"".parse().unwrap());
    answer
}

fn show(name: &str, habits: &Habits, only: Option<u16>, head: bool, kept: &Mutex<Kept>) -> Answer {
    if let Some(only) = only {
        return status(only);
    }
    let Some(content) = kept.lock().unwrap().objects.get(name).cloned() else { return status(404) };
    let mut answer = status(200);
    let fields = answer.headers_mut();
    fields.insert(header::ETAG, "\"two\"".parse().unwrap());
    if habits.digest || habits.wrong_digest {
        let digest = Digest::of(if habits.wrong_digest { b"else" } else { &content });
        fields.append("repr-digest", "sha-512=:AAAA:".parse().unwrap());
        fields.append("repr-digest", digest.to_repr_digest().parse().unwrap());
    }
    if let Some(coding) = habits.coding {
        fields.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
    }
    let length = content.len();
    *answer.body_mut() = match (head, habits.length) {
        (true, true) => {
            fields.insert(header::CONTENT_LENGTH, habits.head_length.unwrap_or(length).into());
            return answer;
        }
        (true, false) => return answer_without_length(answer),
        (false, true) => Full::from(content).boxed(),
        (false, false) => chunked(content),
    };
    answer
}

fn answer_without_length(mut answer: Answer) -> Answer {
    *answer.body_mut() = chunked(Vec::new());
    answer
}

/// A body whose length hyper cannot know.
fn chunked(content: Vec<u8>) -> BoxBody<Bytes, Infallible> {
    let pieces: Vec<_> = content.chunks(10_000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    BoxBody::new(StreamBody::new(futures_util::stream::iter(pieces)))
}

fn status(code: u16) -> Answer {
    let mut answer = Response::new(Full::default().boxed());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}
