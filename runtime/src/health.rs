//! `/healthz` and `/readyz` of a worker, and the probe that asks for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Reserve, Service};

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(5);

/// Answers health checks until the process stops.
pub(crate) async fn serve(service: Service, listener: TcpListener) {
    let mut reserve = Reserve::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.life.stopping() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a health check was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        let connection = tokio::spawn(async move {
            let answer = service_fn(|request| respond(&service, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PROBE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!("a health check broke off: {error}");
            }
        });
        reserve.keep(connection.abort_handle());
    }
}

async fn respond(service: &Service, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, problems) = match request.uri().path().trim_end_matches('/') {
        "/healthz" => (StatusCode::OK, Vec::new()),
        "/readyz" => match service.problems().await {
            problems if problems.is_empty() => (StatusCode::OK, problems),
            problems => (StatusCode::SERVICE_UNAVAILABLE, problems),
        },
        _ => (StatusCode::NOT_FOUND, vec!["expected /healthz or /readyz".into()]),
    };
    let body = serde_json::json!({ "ok": status == StatusCode::OK, "problems": problems }).to_string();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Asks `/readyz` at `address` (an unspecified one means this machine) and returns whether it is ready, and the whole
/// answer.
pub(crate) async fn probe(address: SocketAddr) -> std::io::Result<(bool, String)> {
    let ip = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let asked = tokio::time::timeout(PROBE, async {
        let mut stream = TcpStream::connect((ip, address.port())).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    });
    let answer = asked.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok((answer.starts_with("HTTP/1.1 200 "), answer))
}
