//! A server that takes files by PUT.

mod server;
mod target;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use settings::HttpRemote as Settings;

use super::wire::{Uploaded, answer, encoded, evidence, on_condition};
use super::{Body, Evidence, Look, Parcel, Remote, RemoteError};
pub(super) use server::Server;
pub use target::Target;

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

    async fn put(&self, parcel: &Parcel, body: Body) -> Result<Evidence, RemoteError> {
        let to = parcel.sent_on.last();
        let (address, request) = match to {
            None => (self.address(&parcel.object), self.server.request("PUT", &encoded(&parcel.object))?),
            Some(to) => (to.to_string(), self.server.request_to("PUT", to)?),
        };
        let what = format!("PUT {address}");
        // The same for every attempt: a server that knows such keys does it once.
        let request = request.header(IDEMPOTENCY_KEY, format!("\"{}\"", parcel.file_id));
        let request = on_condition(request, &parcel.onto);
        let Uploaded { head, text } = self.server.put(&what, to, request, parcel, body).await?;
        let from = to.map_or_else(|| Target::own(&address), |to| Ok(to.clone()))?;
        if let Some(to) = self.server.follow(&what, &from, &head, parcel.sent_on.len())? {
            return Err(RemoteError::SentOn(Box::new(to)));
        }
        match head.status {
            status if status.is_success() => Ok(evidence(&head, RemoteProof::Put, parcel.size)),
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Clash(answer::describe(&what, &head, &text))),
            _ => Err(answer::refusal(&what, &head, &text)),
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

    fn send<'a>(&'a self, parcel: &'a Parcel, body: Body) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(parcel, body))
    }
}
