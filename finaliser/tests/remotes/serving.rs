//! Servers in this process that speak HTTP as hyper does, of either version.

use std::convert::Infallible;

use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Answers every request by `answer`, over TLS if that is given. Returns the server's origin, and what ends it when dropped.
pub(crate) async fn serve<A, F, B>(tls: Option<TlsAcceptor>, answer: A) -> (String, AbortOnDropHandle<()>)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", listener.local_addr().unwrap());
    let accept = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                match tls {
                    None => connection(stream, answer).await,
                    Some(tls) => {
                        // A client that does not trust us hangs up.
                        if let Ok(stream) = tls.accept(stream).await {
                            connection(stream, answer).await;
                        }
                    }
                }
            });
        }
    };
    (origin, AbortOnDropHandle::new(tokio::spawn(accept)))
}

async fn connection<A, F, B>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    // Some tests are about a client that breaks off.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}
