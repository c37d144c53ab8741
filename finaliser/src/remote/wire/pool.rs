use std::sync::{Mutex, PoisonError};

use hyper::http::request;

use super::connection::{Connection, Connector};
use super::upload::{Unanswered, Uploaded};
use crate::remote::RemoteError;
use crate::remote::body::Body;

/// Connections that the requests of one delivery share: a handshake for each part of an upload costs more than most parts. Nothing
/// moves on a connection between two requests, and all of them end with the delivery.
pub(in crate::remote) struct Pool<'a> {
    connector: &'a Connector,
    idle: Mutex<Vec<Connection>>,
}

impl<'a> Pool<'a> {
    pub(in crate::remote) const fn new(connector: &'a Connector) -> Self {
        Self { connector, idle: Mutex::new(Vec::new()) }
    }

    /// As [`Connector::upload`], on a connection that has become free, if there is one. `request` makes the request, which must be
    /// one that may be sent twice: a server may close a connection that was kept at any moment, and what met that on its way is
    /// sent again on a new connection, as RFC 9112 has it (section 9.3.1).
    pub(in crate::remote) async fn upload(
        &self,
        what: &str,
        request: impl Fn() -> Result<(request::Builder, Body), RemoteError>,
        still_ours: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Uploaded, RemoteError> {
        if let Some(mut connection) = self.take() {
            let (head, body) = request()?;
            match connection.upload(what, head, body, still_ours).await {
                Ok(uploaded) => return Ok(self.after(connection, uploaded)),
                Err(Unanswered::Ended(why)) => tracing::debug!("{why}; sending it again on a new connection"),
                Err(error) => return Err(error.into()),
            }
        }
        let mut connection = self.connector.connect(what).await?;
        let (head, body) = request()?;
        let uploaded = connection.upload(what, head, body, still_ours).await?;
        Ok(self.after(connection, uploaded))
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find_map(|mut connection| connection.is_ready().then_some(connection))
    }

    /// Keeps the connection after a success. Whether it can be used again shows when it is taken.
    fn after(&self, connection: Connection, uploaded: Uploaded) -> Uploaded {
        if uploaded.head.status.is_success() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        uploaded
    }
}
