//! A server that accepts files by PUT.

mod server;
mod target;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use settings::HttpRemote as Settings;

use super::wire::{Uploaded, answer, encoded, evidence, on_condition};
use super::{Comparison, Evidence, Object, Remote, RemoteError, Source};
pub(super) use server::Server;
use target::Target;

/// The value of this header is a quoted string (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A server that accepts files by PUT under their final names.
#[derive(Debug)]
pub(super) struct HttpRemote {
    server: Server,
}

impl HttpRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        Ok(Self { server: Server::open(settings)? })
    }

    /// Sends the whole object, and again to every address that the server redirects to.
    async fn put(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        let address = self.address(&object.path);
        let mut what = format!("PUT {address}");
        let mut to = Target::own(&address)?;
        let mut request = self.server.request("PUT", &encoded(&object.path))?;
        let mut hops = 0;
        loop {
            // The key is the same for every attempt: a server that supports such keys acts only once.
            request = request.header(IDEMPOTENCY_KEY, format!("\"{}\"", object.file_id));
            request = on_condition(request, &object.precondition);
            let body = source.open().await;
            let Uploaded { head, text } = self.server.put(&what, Some(&to), request, object, body).await?;
            let Some(next) = self.server.follow(&what, &to, &head, hops)? else {
                return match head.status {
                    status if answer::is_done(status) => Ok(evidence(&head, RemoteProof::Put, object.size)),
                    status if status.is_success() => {
                        let said = answer::describe(&what, &head, &text);
                        self.server.confirm(&said, &head, &encoded(&object.path), object).await
                    }
                    StatusCode::PRECONDITION_FAILED => {
                        Err(RemoteError::Conflict(answer::describe(&what, &head, &text)))
                    }
                    _ => Err(answer::refusal(&what, &head, &text)),
                };
            };
            // The server has kept nothing, so the whole object goes to the next address.
            what = format!("PUT {next}");
            request = self.server.request_to("PUT", &next)?;
            (to, hops) = (next, hops + 1);
        }
    }
}

impl Remote for HttpRemote {
    fn address(&self, path: &ObjectPath) -> String {
        self.server.address(path)
    }

    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>> {
        Box::pin(async { self.server.compare(&encoded(&object.path), object).await })
    }

    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(object, source))
    }
}
