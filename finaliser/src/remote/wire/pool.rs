use std::sync::{Mutex, PoisonError};

use hyper::http::request;

use super::connection::{Connection, Connector};
use super::upload::{Unanswered, Uploaded};
use crate::remote::RemoteError;
use crate::remote::body::Body;

/// Connections that the parts of one upload share, so that not every part pays for a handshake. An idle connection
/// makes no progress, and all of them are closed with the pool.
pub(in crate::remote) struct Pool<'a> {
    connector: &'a Connector,
    idle: Mutex<Vec<Connection>>,
}

impl<'a> Pool<'a> {
    pub(in crate::remote) const fn new(connector: &'a Connector) -> Self {
        Self { connector, idle: Mutex::new(Vec::new()) }
    }

    /// As [`Connector::upload`], on an idle connection if there is one.
    ///
    /// A server may close an idle connection while the next request is on its way. If one ends without an answer, the
    /// request is sent again on a new connection, so `request` must make one that is idempotent (RFC 9112, section
    /// 9.3.1).
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

    /// Keeps the connection after a success; [`Pool::take`] checks whether it can be used again.
    fn after(&self, connection: Connection, uploaded: Uploaded) -> Uploaded {
        if uploaded.head.status.is_success() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        uploaded
    }
}
