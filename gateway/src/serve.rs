//! Connections: the gateway accepts them, bounds how many there are and how long they may stand still, and closes them
//! gracefully at the end.
//!
//! A connection beyond the limits, of all or of its peer, is not left waiting: it comes into a reserve, where only
//! health checks are answered, and everything else with `busy`. So a probe gets its answer although others, even at the
//! same address, hold all the connections that they can get.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use runtime::Reserve;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tower::Layer;

use crate::layers::limit::HEAD_MAX;
use crate::{Gateway, routes};

/// How long to wait after a connection could not be accepted: with all file descriptors in use, trying again at once
/// would only burn a core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections the system keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// How many bytes of answers the kernel keeps for a connection (it takes twice this). A client must take about a third
/// of them within `gateway.read_timeout_ms`, which is when the kernel tells that there is room again.
const SEND_BUFFER: u32 = 64 * 1024;

/// How long a connection in the reserve may take to send a head.
const RESERVED_HEAD: Duration = Duration::from_secs(5);

/// How often the log says that connections come into the reserve.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Where a request comes from: an address, or a network of IPv6, of which one host may have all the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Listens at `address`. Returns the actual address, because port 0 lets the system choose a port.
pub(crate) fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|error: std::io::Error| format!("gateway.listen: cannot listen at {address}: {error}"))
}

/// Accepts connections until the process stops, then lets the requests in progress finish.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: TcpListener) {
    let (router, crowded) = (routes::router(gateway.clone()), routes::crowded(gateway.clone()));
    let read_timeout = gateway.limits.read_timeout();
    let connections = GracefulShutdown::new();
    let (mut reserve, mut warned) = (Reserve::default(), None);
    let life = gateway.service.life.clone();
    while let Some((stream, address)) = tokio::select! {
        accepted = accept(&listener) => Some(accepted),
        () = life.stopping() => None,
    } {
        let peer = Peer::of(address.ip());
        let seat = gateway.limits.connection(peer);
        let reserved = seat.is_none();
        let (router, head_timeout) =
            if reserved { (&crowded, RESERVED_HEAD.min(read_timeout)) } else { (&router, read_timeout) };
        let line = Line { peer, head_timeout, write_timeout: read_timeout, reserved };
        let connection = connection(router.clone(), line, connections.watcher(), stream);
        let life = life.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                () = life.handing_back() => tracing::debug!("a connection was cut at the end of the process"),
            }
            drop(seat);
        });
        if reserved {
            reserve.keep(task.abort_handle());
            warn(&mut warned, peer);
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection. Cancel-safe.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Says now and then that connections come into the reserve.
fn warn(warned: &mut Option<Instant>, peer: Peer) {
    if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
        *warned = Some(Instant::now());
        tracing::warn!(
            %peer,
            "all connections are in use (gateway.max_connections), or all that this peer may have \
             (gateway.max_connections_per_peer): further ones get only health checks answered"
        );
    }
}

/// What is special about a connection.
#[derive(Debug, Clone, Copy)]
struct Line {
    peer: Peer,
    head_timeout: Duration,
    write_timeout: Duration,
    reserved: bool,
}

async fn connection(router: Router, line: Line, watcher: Watcher, stream: TcpStream) {
    // Answers are small. Without this, the second answer on a connection waits until the first is acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY was not set: {error}");
    }
    let mut stream = TimeoutStream::new(stream);
    // A client that takes none of its answers would hold its connection for ever.
    stream.set_write_timeout(Some(line.write_timeout));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(line.head_timeout)
        .max_buf_size(HEAD_MAX)
        .keep_alive(!line.reserved)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(Extension(line.peer).layer(router)));
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!("a connection broke off: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_network_of_ipv6() {
        let peer = |address: &str| Peer::of(address.parse().unwrap()).to_string();
        assert_eq!(peer("192.0.2.7"), "192.0.2.7");
        assert_eq!(peer("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(peer("2001:db8:1:2:ffff::1"), peer("2001:db8:1:2::"));
        assert_ne!(peer("2001:db8:1:3::1"), peer("2001:db8:1:2::1"));
    }
}
