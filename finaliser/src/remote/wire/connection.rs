use std::error::Error;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::http::response;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::Service;
use hyper::{Request, Response, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::{answer, later};
use crate::remote::RemoteError;

/// Opens connections to one server.
#[derive(Clone)]
pub(in crate::remote) struct Connector {
    open: TowerToHyperService<HttpsConnector<HttpConnector>>,
    server: Uri,
    idle: Duration,
}

impl Connector {
    /// For `server`, which is trusted by the certificates in `ca_file`, or else by the public authorities.
    pub(in crate::remote) fn open(server: &Uri, ca_file: Option<&Path>, idle: Duration) -> Result<Self, RemoteError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| RemoteError::Refused(format!("TLS: {error}")))?;
        let config = match ca_file {
            Some(file) => config.with_root_certificates(authorities(file)?),
            None => config.with_webpki_roots(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the server's addresses, so that one dead address does not use up the whole.
        tcp.set_connect_timeout(Some(idle));
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { open: TowerToHyperService::new(tls), server: server.clone(), idle })
    }

    /// How long the server may keep us waiting each time.
    pub(in crate::remote) const fn idle(&self) -> Duration {
        self.idle
    }

    /// A connection for one request.
    pub(in crate::remote) async fn connect<B>(&self, what: &str) -> Result<Connection<B>, RemoteError>
    where
        B: Body<Data: Send> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let io = match tokio::time::timeout(self.idle, self.open.call(self.server.clone())).await {
            Ok(io) => io.map_err(|error| later(what, &chain(&*error)))?,
            Err(_) => return Err(later(what, &format!("no connection within {:?}", self.idle))),
        };
        let broken = Arc::default();
        let io = HeldWrites { io, broken: Arc::clone(&broken) };
        let (sender, driver) = http1::handshake(io).await.map_err(|error| later(what, &chain(&error)))?;
        Ok(Connection { sender, driver: Some(Box::new(driver)), broken, idle: self.idle })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("server", &self.server).field("idle", &self.idle).finish_non_exhaustive()
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, RemoteError> {
    let wrong = |why: String| RemoteError::Refused(format!("ca_file {}: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("expected PEM certificates, found none".into())) } else { Ok(roots) }
}

/// A connection for one request. It moves only while one of its methods is awaited, and dropping it closes it: whoever
/// stops waiting has stopped sending.
pub(in crate::remote) struct Connection<B: Body + 'static> {
    sender: http1::SendRequest<B>,
    driver: Option<Box<Driver<B>>>,
    broken: Arc<OnceLock<String>>,
    idle: Duration,
}

type Driver<B> = http1::Connection<HeldWrites<MaybeHttpsStream<TokioIo<TcpStream>>>, B>;

impl<B> Connection<B>
where
    B: Body<Data: Send> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Sends the request and reads the head of the answer, which may come before the request is out.
    pub(in crate::remote) async fn ask(&mut self, request: Request<B>) -> Result<Response<Incoming>, String> {
        let answer = self.sender.send_request(request);
        drive(&mut self.driver, answer).await.map_err(|error| match self.broken.get() {
            Some(first) => format!("{first} while sending, and no answer"),
            None => chain(&error),
        })
    }

    /// The next bytes of an answer.
    pub(in crate::remote) async fn next(&mut self, content: &mut Incoming) -> Result<Option<Bytes>, String> {
        loop {
            let frame = tokio::time::timeout(self.idle, drive(&mut self.driver, content.frame()));
            match frame.await.map_err(|_| format!("sent nothing for {:?}", self.idle))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(chain(&error)),
                // Trailers are of no interest.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The beginning of an answer's text, for people. Best effort: the status is known already.
    pub(in crate::remote) async fn text(&mut self, head: &response::Parts, mut content: Incoming) -> String {
        let mut bytes = Vec::new();
        if answer::is_text(head) {
            // A server that sends it byte by byte gets one idle timeout for all of them.
            let _ = tokio::time::timeout(self.idle, self.read_text(&mut content, &mut bytes)).await;
        }
        answer::plain(&bytes)
    }

    /// An answer's whole content, which must not have more than `limit` bytes.
    pub(in crate::remote) async fn content(&mut self, mut content: Incoming, limit: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(more) = self.next(&mut content).await? {
            bytes.extend_from_slice(&more);
            if bytes.len() > limit {
                return Err(format!("answered more than {limit} bytes"));
            }
        }
        Ok(bytes)
    }

    async fn read_text(&mut self, content: &mut Incoming, bytes: &mut Vec<u8>) {
        while bytes.len() < answer::TEXT_BYTES {
            match self.next(content).await {
                Ok(Some(more)) => bytes.extend_from_slice(&more[..more.len().min(answer::TEXT_BYTES)]),
                Ok(None) | Err(_) => break,
            }
        }
    }
}

/// Waits for `work` and moves the connection on meanwhile.
async fn drive<B, T>(driver: &mut Option<Box<Driver<B>>>, work: impl Future<Output = T>) -> T
where
    B: Body<Data: Send> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut work = pin!(work);
    poll_fn(|cx| {
        // Its result is of no interest: an error reaches whoever waits for the answer or its content.
        if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
            *driver = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

/// A connection whose failed writes never return.
///
/// hyper ends a connection on the first failed write, and an answer that waits to be read is lost with it. Such an
/// answer is the rule, not the exception: a server that refuses a large body answers and closes, and our next write
/// fails. With the write held back hyper goes on reading, and finds the answer or the end of the connection.
struct HeldWrites<T> {
    io: T,
    broken: Arc<OnceLock<String>>,
}

impl<T: Unpin> HeldWrites<T> {
    fn held<O>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<O>>,
    ) -> Poll<io::Result<O>> {
        if self.broken.get().is_some() {
            return Poll::Pending;
        }
        match write(Pin::new(&mut self.io), cx) {
            // hyper reads before it writes: the reading side has our waker already.
            Poll::Ready(Err(error)) => {
                self.broken.get_or_init(|| error.to_string());
                Poll::Pending
            }
            done => done,
        }
    }
}

impl<T: Read + Unpin> Read for HeldWrites<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for HeldWrites<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.held(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held(cx, T::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.held(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }
}

/// An error with its causes: hyper's own texts seldom say what happened.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
