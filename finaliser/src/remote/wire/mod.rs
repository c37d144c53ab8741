//! HTTP as a client of remotes speaks it. A request has a connection of its own: a delivery is seldom and long, and the end of a
//! connection that is shared with nothing is always about this request. Only the parts of one upload share connections (`pool`).

pub(super) mod answer;
mod connection;
mod held_writes;
mod outgoing;
mod pool;
mod streams;
mod upload;
pub(super) mod xml;

use crate::sabotage;
use contract::{Hasher, ObjectName, ObjectPath, RemoteProof};
use hyper::body::{Bytes, Incoming};
use hyper::http::{request, response};
use hyper::{Response, Version, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Evidence, Look, Occupant, Onto, Parcel, RemoteError};
pub(super) use connection::{Connection, Connector};
use outgoing::Outgoing;
pub(super) use pool::Pool;
pub(super) use upload::Uploaded;

/// The unreserved characters of RFC 3986 stand for themselves; all others of a segment are encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What our requests say that we are.
pub(super) const USER_AGENT: &str = concat!("waybill/", env!("CARGO_PKG_VERSION"));

/// The answer to a request, whose content is still to be read.
pub(super) type Answered = (Connection, Response<Incoming>);

impl Connector {
    /// Sends a request with a short body, or none, and reads the head of its answer.
    pub(super) async fn exchange(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Answered, RemoteError> {
        let request = request.body(Outgoing::in_memory(body));
        let request = request.map_err(|error| RemoteError::Refused(format!("{what}: {error}")))?;
        let mut connection = self.connect(what).await?;
        let idle = connection.idle();
        match tokio::time::timeout(idle, connection.ask(request)).await {
            Ok(answer) => Ok((connection, answer.map_err(|why| later(what, &why))?)),
            Err(_) => Err(later(what, &format!("did not answer for {idle:?}"))),
        }
    }
}

/// Reads an answer's content and compares it with the file.
pub(super) async fn compare(
    connection: &mut Connection,
    what: &str,
    head: &response::Parts,
    mut content: Incoming,
    parcel: &Parcel,
) -> Result<Look, RemoteError> {
    let mut hasher = Hasher::new();
    let mut seen = 0;
    while let Some(bytes) = connection.next(&mut content).await.map_err(|why| later(what, &why))? {
        seen += bytes.len() as u64;
        if seen > parcel.size {
            return Ok(other(head, format!("{what}: more than {} bytes", parcel.size)));
        }
        hasher.update(&bytes);
    }
    let ended = head.version == Version::HTTP_2 || head.headers.contains_key(header::TRANSFER_ENCODING);
    if seen < parcel.size && !ended {
        // Only the end of the connection ended it, which does not tell a short file from a broken line.
        return Err(later(what, &format!("ended after {seen} of {} bytes", parcel.size)));
    }
    Ok(match hasher.finish() {
        found if found == parcel.sha256 => Look::Equal(evidence(head, RemoteProof::ReadBack, 0)),
        found => other(head, format!("{what}: {seen} bytes with the SHA-256 {found}")),
    })
}

/// What an answer shows of a file that the remote has, after so many bytes were sent.
pub(super) fn evidence(head: &response::Parts, proof: RemoteProof, sent: u64) -> Evidence {
    Evidence {
        status: Some(head.status.as_u16()),
        etag: answer::etag(head),
        version: answer::version(head),
        ..Evidence::new(proof, sent)
    }
}

pub(super) fn other(head: &response::Parts, what: String) -> Look {
    Look::Other(Occupant { what, etag: answer::etag(head) })
}

/// The condition under which a request makes the file visible.
pub(super) fn on_condition(request: request::Builder, onto: &Onto) -> request::Builder {
    match onto {
        Onto::Nothing if sabotage::is_broken("break-ask") => request.header(header::IF_NONE_MATCH, "\"nothing\""),
        Onto::Nothing => request.header(header::IF_NONE_MATCH, "*"),
        // A weak tag never matches (RFC 9110, section 13.1.1).
        Onto::Replacing(Some(etag)) if !etag.starts_with("W/") => request.header(header::IF_MATCH, etag),
        Onto::Replacing(_) => request,
    }
}

pub(super) fn later(what: &str, why: &str) -> RemoteError {
    RemoteError::Later { detail: format!("{what}: {why}"), after: None }
}

/// A segment of a path, or a part of a query, as an address has it.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A path as an address has it: its segments are encoded one by one.
pub(super) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// [`encode_path`] of an object's path.
pub(super) fn encoded(object: &ObjectPath) -> String {
    encode_path(&object.to_string())
}

/// [`encode_path`] of a path of folders.
pub(super) fn encoded_folders(names: &[ObjectName]) -> String {
    names.iter().map(|name| encode(name.as_str())).collect::<Vec<_>>().join("/")
}
