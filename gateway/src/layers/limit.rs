//! Limits of connections, heads and bodies, so that no client takes what others need. The limits of one resource are in
//! its own folder: logins in `auth`, inspected files in `upload/prepare`, the page size of the list in `files`.
//!
//! The layers of tower-http do not fit: they answer without a problem document, and do not read the rest of a body that
//! is too large, so a client that is still sending may see a reset connection instead of the answer.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use contract::ProblemKind;
use http_body_util::BodyExt;
use runtime::Reserve;
use settings::Settings;

use crate::refusal::Refusal;
use crate::seats::{Seat, Seats};
use crate::serve::Peer;
use crate::upload::prepare::INSPECTIONS_MAX;

/// The largest head of a request in bytes: a token, a hash and an address take less than one KiB.
pub(crate) const HEAD_MAX: usize = 32 * 1024;

/// How many bytes of a body beyond the limit are read and thrown away. A connection that is closed while its client
/// still sends is reset, and the client may never see the answer that says why.
const DISCARDED_MAX: u64 = 1024 * 1024;

/// How many files the gateway opens besides connections of callers and of MongoDB, and sources: its listener, NATS,
/// logs, and in `waybill up` what the other services need.
const OTHER_FILES: u64 = 256;

/// The limits that the settings give.
#[derive(Debug)]
pub(crate) struct Limits {
    connections: Seats<Peer>,
    read_timeout: Duration,
    body_max: u64,
}

impl Limits {
    pub(crate) fn new(settings: &Settings) -> Self {
        let gateway = &settings.gateway;
        let others =
            OTHER_FILES + Reserve::SIZE as u64 + INSPECTIONS_MAX as u64 + u64::from(settings.mongodb.pool_size);
        let connections = possible_connections(gateway.max_connections, runtime::open_files_max(), others);
        Self {
            connections: Seats::new(connections, gateway.max_connections_per_peer),
            read_timeout: Duration::from_millis(gateway.read_timeout_ms),
            body_max: gateway.body_limit as u64,
        }
    }

    /// A place for a connection of `peer`, as long as there are fewer than `gateway.max_connections` and, of this peer,
    /// `gateway.max_connections_per_peer`.
    pub(crate) fn connection(&self, peer: Peer) -> Option<Seat<Peer>> {
        self.connections.take(peer)
    }

    /// How long a client may take to send the head of a request, and then its body, and take nothing of an answer.
    pub(crate) const fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Reads a whole body, up to `gateway.body_limit` and `gateway.read_timeout_ms`.
    pub(crate) async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        match tokio::time::timeout(self.read_timeout, read(body, self.body_max)).await {
            Ok(read) => read,
            Err(_) => Err(Refusal::new(
                ProblemKind::RequestTimeout,
                format!("expected the whole body within {:?}, found it unfinished", self.read_timeout),
            )),
        }
    }
}

/// `wanted` connections, or fewer if this process may not open as many files.
fn possible_connections(wanted: usize, open_files_max: Option<u64>, others: u64) -> usize {
    let left = open_files_max.map_or(u64::MAX, |max| max.saturating_sub(others).max(1));
    let possible = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
    if possible < wanted {
        tracing::warn!(
            "gateway.max_connections is {wanted}, but this process may open only {} files (ulimit -n), and needs {others} \
             of them for other things: at most {possible} connections are taken",
            open_files_max.unwrap_or_default()
        );
    }
    possible
}

async fn read(mut body: Body, max: u64) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::new(ProblemKind::BodyTooLarge, format!("expected a body of at most {max} bytes, found more"));
    if body.size_hint().lower() > max + DISCARDED_MAX {
        return Err(too_large());
    }
    let (mut kept, mut received) = (BytesMut::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Refusal::new(ProblemKind::MalformedRequest, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        if received <= max {
            kept.extend_from_slice(&data);
        } else if received > max + DISCARDED_MAX {
            break;
        }
    }
    if received > max { Err(too_large()) } else { Ok(kept.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read(Body::from(vec![7; 10]), 10).await.unwrap(), vec![7; 10]);
        for length in [11, 5 << 20] {
            assert!(read(Body::from(vec![7; length]), 10).await.is_err());
        }
    }

    #[test]
    fn there_are_no_more_connections_than_files_may_be_open() {
        assert_eq!(possible_connections(1024, None, 400), 1024);
        assert_eq!(possible_connections(1024, Some(4096), 400), 1024);
        assert_eq!(possible_connections(1024, Some(1024), 400), 624);
        assert_eq!(possible_connections(1024, Some(256), 400), 1);
    }
}
