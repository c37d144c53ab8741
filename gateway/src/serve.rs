//! Connections: taken up to a limit, each with a time limit for the head of a request, ended in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Gateway, answer, routes};

/// How long to wait after a connection could not be taken: with all file descriptors in use, trying on at once would
/// only burn a core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest head of a request in bytes: a token, a hash and an address take less than one KiB.
const HEAD_LIMIT: usize = 32 * 1024;

/// Listens at `address`; returns where that is, as port 0 picks one.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| format!("gateway.listen: {address} cannot be listened at: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Takes connections until the process stops, then lets the requests under way come to their answer.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(gateway.service.settings.gateway.max_connections));
    let router = routes::router(gateway.clone());
    let connections = GracefulShutdown::new();
    let life = gateway.service.life.clone();
    while let Some((stream, permit)) = tokio::select! {
        taken = take(&listener, &permits) => Some(taken),
        () = life.stopping() => None,
    } {
        let connection = connection(gateway.clone(), router.clone(), connections.watcher(), stream);
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

/// The next connection. Safe to drop half-way.
async fn take(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore, so there is always a permit.
    let permit = permits.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!("a connection was not taken: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(gateway: Arc<Gateway>, router: Router, watcher: Watcher, stream: TcpStream) {
    // Answers are small; without this the second of two on one connection waits for the acknowledgement of the first.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY was not set: {error}");
    }
    let read_timeout = gateway.read_timeout();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (gateway, router) = (gateway.clone(), router.clone());
        async move { Ok::<_, Infallible>(answer::answer(gateway, router, request.map(axum::body::Body::new)).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!("a connection broke off: {error}");
    }
}
