//! Connections: the gateway accepts them up to a limit, gives each a time limit for the head of a request, and closes
//! them gracefully at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::layers::limit::{HEAD_MAX, Limits};
use crate::{Gateway, routes};

/// How long to wait after a connection could not be accepted: with all file descriptors in use, trying again at once
/// would only burn a core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `address`. Returns the actual address, because port 0 lets the system choose a port.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| format!("gateway.listen: cannot listen at {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Accepts connections until the process stops, then lets the requests in progress finish.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: TcpListener) {
    let router = routes::router(gateway.clone());
    let connections = GracefulShutdown::new();
    let life = gateway.service.life.clone();
    while let Some((stream, permit)) = tokio::select! {
        accepted = accept(&listener, &gateway.limits) => Some(accepted),
        () = life.stopping() => None,
    } {
        let connection = connection(router.clone(), gateway.limits.read_timeout(), connections.watcher(), stream);
        let life = life.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                () = life.handing_back() => tracing::debug!("a connection was cut at the end of the process"),
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection, as soon as the limit allows one. Cancel-safe.
async fn accept(listener: &TcpListener, limits: &Limits) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let permit = limits.connection().await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(router: Router, read_timeout: Duration, watcher: Watcher, stream: TcpStream) {
    // Answers are small. Without this, the second answer on a connection waits until the first is acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY was not set: {error}");
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!("a connection broke off: {error}");
    }
}
