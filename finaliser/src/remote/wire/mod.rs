//! HTTP as a client of remotes speaks it. Every request has a connection of its own: a delivery is seldom and long, and the
//! end of a connection that is shared with nothing is always about this request.

pub(super) mod answer;
mod connection;
mod held_writes;
mod outgoing;
mod streams;

use std::error::Error;

use crate::sabotage;
use contract::{Hasher, ObjectName, ObjectPath, RemoteProof};
use hyper::body::{self, Incoming};
use hyper::http::{request, response};
use hyper::{Request, Response, Version, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Body, Evidence, Look, Occupant, Onto, Parcel, RemoteError};
pub(super) use connection::{Connection, Connector};
use outgoing::{Flow, Outgoing};

/// The unreserved characters of RFC 3986 stand for themselves; all others of a segment are encoded.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What our requests say that we are.
pub(super) const USER_AGENT: &str = concat!("waybill/", env!("CARGO_PKG_VERSION"));

/// The answer to a request with the bytes of a file.
pub(super) struct Uploaded {
    pub(super) head: response::Parts,
    /// The beginning of its text, for people; empty for a success.
    pub(super) text: String,
}

impl Connector {
    /// Sends a request with `size` bytes of a file, the last of them only if the claim still holds. The request has its
    /// `Content-Length` already.
    pub(super) async fn upload(
        &self,
        what: &str,
        request: request::Builder,
        (size, body): (u64, Body),
        still_ours: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Uploaded, RemoteError> {
        let (flow, pieces, outgoing) = Flow::new(size);
        let request = request.body(outgoing).map_err(|error| RemoteError::Refused(format!("{what}: {error}")))?;
        let mut connection: Connection<Outgoing> = self.connect(what).await?;
        // A file without bytes has no last piece before which `feed` could ask.
        if !still_ours() {
            return Err(RemoteError::Stopped);
        }
        // The answer comes first: where the remote refuses and hangs up at once, the refusal is what counts.
        let answer = tokio::select! {
            biased;
            answer = connection.ask(request) => answer.map_err(|why| later(what, &why))?,
            Err(stopped) = flow.feed(body, pieces, still_ours) => return Err(stopped),
            () = flow.stalled(self.idle()) => {
                return Err(later(what, &format!("neither took bytes nor answered for {:?}", self.idle())));
            }
        };
        // An honest server has every byte before it says so, and it can have only what the connection took.
        let taken = flow.taken();
        let (head, content) = answer.into_parts();
        match head.status {
            status if status.is_success() && taken == size => Ok(Uploaded { head, text: String::new() }),
            status if status.is_success() => {
                Err(later(what, &format!("answered {status} after {taken} of {size} bytes")))
            }
            _ => {
                let text = connection.text(&head, content).await;
                Ok(Uploaded { head, text })
            }
        }
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn exchange<B>(
        &self,
        what: &str,
        request: Request<B>,
    ) -> Result<(Connection<B>, Response<Incoming>), RemoteError>
    where
        B: body::Body<Data: Send> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut connection = self.connect(what).await?;
        match tokio::time::timeout(self.idle(), connection.ask(request)).await {
            Ok(answer) => Ok((connection, answer.map_err(|why| later(what, &why))?)),
            Err(_) => Err(later(what, &format!("did not answer for {:?}", self.idle()))),
        }
    }
}

/// Reads an answer's content and compares it with the file.
pub(super) async fn compare<B>(
    connection: &mut Connection<B>,
    what: &str,
    head: &response::Parts,
    mut content: Incoming,
    parcel: &Parcel,
) -> Result<Look, RemoteError>
where
    B: body::Body<Data: Send> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
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

/// The path with its segments encoded one by one.
pub(super) fn encoded(object: &ObjectPath) -> String {
    encoded_segments(object.segments())
}

/// Names as a path, each encoded.
pub(super) fn encoded_segments<'a>(names: impl IntoIterator<Item = &'a ObjectName>) -> String {
    let names = names.into_iter().map(|name| utf8_percent_encode(name.as_str(), SEGMENT).to_string());
    names.collect::<Vec<_>>().join("/")
}
