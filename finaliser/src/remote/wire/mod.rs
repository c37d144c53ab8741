//! HTTP as a client of remotes speaks it. Every request has a connection of its own: a delivery is seldom and long, and the
//! end of a connection that is shared with nothing is always about this request.

pub(super) mod answer;
mod connection;
mod outgoing;

use std::error::Error;

use contract::ObjectPath;
use hyper::body::{self, Incoming};
use hyper::http::{request, response};
use hyper::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Body, RemoteError};
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
        B: body::Body<Data: Send> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut connection = self.connect(what).await?;
        match tokio::time::timeout(self.idle(), connection.ask(request)).await {
            Ok(answer) => Ok((connection, answer.map_err(|why| later(what, &why))?)),
            Err(_) => Err(later(what, &format!("did not answer for {:?}", self.idle()))),
        }
    }
}

pub(super) fn later(what: &str, why: &str) -> RemoteError {
    RemoteError::Later { detail: format!("{what}: {why}"), after: None }
}

/// The path with its segments encoded one by one.
pub(super) fn encoded(object: &ObjectPath) -> String {
    let segments: Vec<_> =
        object.segments().map(|name| utf8_percent_encode(name.as_str(), SEGMENT).to_string()).collect();
    segments.join("/")
}
