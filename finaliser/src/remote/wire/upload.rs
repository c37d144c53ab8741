//! A request with the bytes of a file.

use hyper::http::{request, response};

use super::connection::{Connection, Connector};
use super::later;
use super::outgoing::Flow;
use crate::remote::RemoteError;
use crate::remote::body::Body;

/// The answer to a request with the bytes of a file.
pub(in crate::remote) struct Uploaded {
    pub(in crate::remote) head: response::Parts,
    /// The beginning of its text; empty for a success.
    pub(in crate::remote) text: String,
}

/// Why a request with the bytes of a file has no answer.
pub(super) enum Unanswered {
    /// The connection ended first.
    Ended(RemoteError),
    /// We stopped, the server was silent or too slow, or it reported a success before it could have the whole body.
    Other(RemoteError),
}

impl From<Unanswered> for RemoteError {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::Ended(error) | Unanswered::Other(error) => error,
        }
    }
}

impl Connector {
    /// Sends a request with the bytes of a file on a connection of its own, the last of them only if the lease still
    /// holds. The caller has set `Content-Length`.
    pub(in crate::remote) async fn upload(
        &self,
        what: &str,
        request: request::Builder,
        body: Body,
        still_ours: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Uploaded, RemoteError> {
        Ok(self.connect(what).await?.upload(what, request, body, still_ours).await?)
    }
}

impl Connection {
    /// As [`Connector::upload`].
    pub(super) async fn upload(
        &mut self,
        what: &str,
        request: request::Builder,
        body: Body,
        still_ours: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Uploaded, Unanswered> {
        let size = body.left();
        let (flow, pieces, outgoing) = Flow::new(size);
        let request = request.body(outgoing);
        let request = request.map_err(|error| Unanswered::Other(RemoteError::Refused(format!("{what}: {error}"))))?;
        // An empty file has no last piece, before which `feed` would ask.
        if !still_ours() {
            return Err(Unanswered::Other(RemoteError::Stopped));
        }
        let (idle, queue) = (self.idle(), self.queue());
        // The answer comes first: if the remote refuses and hangs up at once, the refusal counts.
        let answer = tokio::select! {
            biased;
            answer = self.ask(request) => answer.map_err(|why| Unanswered::Ended(later(what, &why)))?,
            Err(stopped) = flow.feed(body, pieces, still_ours) => return Err(Unanswered::Other(stopped)),
            why = flow.runs_out(idle, &queue) => return Err(Unanswered::Other(later(what, &why))),
        };
        // The server can have only what the connection took, so an earlier success cannot be true.
        let taken = flow.taken();
        let (head, content) = answer.into_parts();
        match head.status {
            status if status.is_success() && taken == size => Ok(Uploaded { head, text: String::new() }),
            status if status.is_success() => {
                Err(Unanswered::Other(later(what, &format!("answered {status} after {taken} of {size} bytes"))))
            }
            _ => {
                let text = self.text(&head, content).await;
                Ok(Uploaded { head, text })
            }
        }
    }
}
