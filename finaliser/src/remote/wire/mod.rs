//! The HTTP client. Each request has a connection of its own, so that the end of a connection always concerns that
//! request; deliveries are few and long. Only the parts of one upload share connections (`pool`).

pub(super) mod answer;
mod connection;
mod held_writes;
mod outgoing;
mod pool;
mod streams;
mod upload;
pub(super) mod xml;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sabotage;
use contract::{Hasher, ObjectName, ObjectPath, RemoteProof};
use hyper::body::{Bytes, Incoming};
use hyper::http::{request, response};
use hyper::{Response, Version, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::patience::{Moved, QUESTION, overdue, runs_out};
use super::{Comparison, Evidence, Object, Occupant, Precondition, RemoteError};
pub(super) use connection::{Connection, Connector};
use outgoing::Outgoing;
pub(super) use pool::Pool;
pub(super) use upload::Uploaded;

/// The unreserved characters of RFC 3986 stand for themselves; all others of a segment are encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name of this client in its requests.
pub(super) const USER_AGENT: &str = concat!("waybill/", env!("CARGO_PKG_VERSION"));

/// The most bytes of a list: 1,000 uploads of S3, or about 10,000 names of WebDAV.
pub(super) const LIST_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes of any other answer that is read as a whole.
pub(super) const ANSWER_BYTES: usize = 64 * 1024;

/// The answer to a request. Its content has not been read.
pub(super) type Answered = (Connection, Response<Incoming>);

impl Connector {
    /// Sends a request with a short body, or none, and reads the head of its answer.
    pub(super) async fn exchange(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Answered, RemoteError> {
        let (flow, outgoing) = Outgoing::in_memory(body);
        let request = request.body(outgoing);
        let request = request.map_err(|error| RemoteError::Refused(format!("{what}: {error}")))?;
        let mut connection = self.connect(what).await?;
        let (idle, queue) = (connection.idle(), connection.queue());
        let answer = tokio::select! {
            biased;
            answer = connection.ask(request) => answer,
            why = flow.runs_out(idle, &queue) => Err(why),
            () = tokio::time::sleep(idle * QUESTION) => Err(overdue(idle)),
        };
        Ok((connection, answer.map_err(|why| later(what, &why))?))
    }
}

/// Reads the content of an answer and compares it with the object.
pub(super) async fn compare_content(
    connection: &mut Connection,
    what: &str,
    head: &response::Parts,
    mut content: Incoming,
    object: &Object,
) -> Result<Comparison, RemoteError> {
    if let Some(length) = other_length(head, object) {
        return Ok(different(head, format!("{length} bytes")));
    }
    let mut hasher = Hasher::new();
    let (idle, read) = (connection.idle(), AtomicU64::new(0));
    let seen = || read.load(Ordering::Relaxed);
    let reading = async {
        while let Some(bytes) = connection.next(&mut content).await? {
            if read.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64 > object.size {
                break;
            }
            hasher.update(&bytes);
        }
        Ok(())
    };
    let read = tokio::select! {
        biased;
        read = reading => read,
        why = runs_out(idle, 1, || Some(Moved { bytes: seen(), more: true })) => Err(why),
    };
    read.map_err(|why: String| later(what, &why))?;
    let seen = seen();
    if seen > object.size {
        return Ok(different(head, format!("{what}: more than {} bytes", object.size)));
    }
    let ended = head.version == Version::HTTP_2 || head.headers.contains_key(header::TRANSFER_ENCODING);
    if seen < object.size && !ended {
        // The connection ended, which may mean a short file or a broken line.
        return Err(later(what, &format!("ended after {seen} of {} bytes", object.size)));
    }
    Ok(match hasher.finish() {
        found if found == object.sha256 => Comparison::Equal(evidence(head, RemoteProof::ReadBack, 0)),
        found => different(head, format!("{what}: {seen} bytes with the SHA-256 {found}")),
    })
}

/// The length that an answer names, if it is not that of the object.
pub(super) fn other_length(head: &response::Parts, object: &Object) -> Option<u64> {
    answer::length(head).filter(|length| *length != object.size)
}

/// What an answer confirms about an object, after `sent` bytes were sent.
pub(super) fn evidence(head: &response::Parts, proof: RemoteProof, sent: u64) -> Evidence {
    Evidence {
        status: Some(head.status.as_u16()),
        etag: answer::etag(head),
        version: answer::version(head),
        ..Evidence::new(proof, sent)
    }
}

/// Something other than the object, with its entity tag.
pub(super) fn different(head: &response::Parts, what: String) -> Comparison {
    Comparison::Different(Occupant { what, etag: answer::etag(head) })
}

/// Adds the condition under which the request makes the object visible.
pub(super) fn on_condition(request: request::Builder, precondition: &Precondition) -> request::Builder {
    match precondition {
        Precondition::NameIsFree if sabotage::is_broken("break-ask") => {
            request.header(header::IF_NONE_MATCH, "\"nothing\"")
        }
        Precondition::NameIsFree => request.header(header::IF_NONE_MATCH, "*"),
        // A weak tag never matches (RFC 9110, section 13.1.1).
        Precondition::Replace(Some(etag)) if !etag.starts_with("W/") => request.header(header::IF_MATCH, etag),
        Precondition::Replace(_) => request,
    }
}

pub(super) fn later(what: &str, why: &str) -> RemoteError {
    RemoteError::Later { detail: format!("{what}: {why}"), after: None }
}

/// Percent-encodes a segment of a path, or a key or value of a query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Percent-encodes a path segment by segment.
pub(super) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// [`encode_path`] of an object's path.
pub(super) fn encoded(path: &ObjectPath) -> String {
    encode_path(&path.to_string())
}

/// [`encode_path`] of a path of folders.
pub(super) fn encoded_folders(names: &[ObjectName]) -> String {
    names.iter().map(|name| encode(name.as_str())).collect::<Vec<_>>().join("/")
}
