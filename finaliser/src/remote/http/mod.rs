//! A server that takes files by PUT.

mod server;

use contract::ObjectPath;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use runtime::settings::HttpRemote as Settings;

use super::wire::{Uploaded, answer, encoded, evidence, on_condition};
use super::{Body, Evidence, Look, Parcel, Remote, RemoteError};
pub(super) use server::Server;

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
        let what = format!("PUT {}", self.address(&parcel.object));
        let request = self
            .server
            .request("PUT", &encoded(&parcel.object))?
            // The same for every attempt: a server that knows such keys does it once.
            .header(IDEMPOTENCY_KEY, format!("\"{}\"", parcel.file_id));
        let request = on_condition(request, &parcel.onto);
        let Uploaded { head, text } = self.server.put(&what, request, parcel, body).await?;
        match head.status {
            status if status.is_success() => Ok(evidence(&head, "put", parcel.size)),
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
