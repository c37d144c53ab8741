//! A server that takes files by PUT.

mod server;
mod target;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use settings::HttpRemote as Settings;

use super::wire::{Uploaded, answer, encoded, evidence, on_condition};
use super::{Evidence, Look, Parcel, Remote, RemoteError, Source};
pub(super) use server::Server;
use target::Target;

/// As draft-ietf-httpapi-idempotency-key-header has it: a string in quotes.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A server that takes files by PUT under their final names.
#[derive(Debug)]
pub(super) struct HttpRemote {
    server: Server,
}

impl HttpRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        Ok(Self { server: Server::open(settings)? })
    }

    /// Sends the whole, wherever the server sends it on to.
    async fn put(&self, parcel: &Parcel, source: Source) -> Result<Evidence, RemoteError> {
        let address = self.address(&parcel.object);
        let mut what = format!("PUT {address}");
        let mut to = Target::own(&address)?;
        let mut request = self.server.request("PUT", &encoded(&parcel.object))?;
        let mut hops = 0;
        loop {
            // The same for every attempt: a server that knows such keys does it once.
            request = request.header(IDEMPOTENCY_KEY, format!("\"{}\"", parcel.file_id));
            request = on_condition(request, &parcel.onto);
            let body = source.open().await;
            let Uploaded { head, text } = self.server.put(&what, Some(&to), request, parcel, body).await?;
            let Some(next) = self.server.follow(&what, &to, &head, hops)? else {
                return match head.status {
                    status if status.is_success() => Ok(evidence(&head, RemoteProof::Put, parcel.size)),
                    StatusCode::PRECONDITION_FAILED => Err(RemoteError::Clash(answer::describe(&what, &head, &text))),
                    _ => Err(answer::refusal(&what, &head, &text)),
                };
            };
            // It has taken nothing of the file: all of it goes there.
            what = format!("PUT {next}");
            request = self.server.request_to("PUT", &next)?;
            (to, hops) = (next, hops + 1);
        }
    }
}

impl Remote for HttpRemote {
    fn address(&self, object: &ObjectPath) -> String {
        self.server.address(object)
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.server.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(parcel, source))
    }
}
