use std::error::Error;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::http::response;
use hyper::http::uri::Parts;
use hyper::service::Service;
use hyper::{Request, Response, Uri, header};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use settings::HttpVersion;

use super::held_writes::HeldWrites;
use super::outgoing::Outgoing;
use super::streams::{self, Streams};
use super::{answer, later};
use crate::remote::RemoteError;
use crate::remote::patience::{QUESTION, overdue};
use crate::remote::said::said;
use crate::remote::send_queue::SendQueue;

/// What to do about a server's certificate that says of itself that it is an authority: `openssl req -x509` makes one
/// unless it is told otherwise, and no setting here makes it right.
const CA_AS_SERVER: &str = "the server's own certificate is that of an authority (CA:TRUE), which no server may show: \
    make one with `openssl req -x509 -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST` and \
    name it in ca_file, or have an authority sign one and name the authority's";

/// The most fields in the head of an answer. Servers behind several proxies exceed hyper's own limit of 100.
const FIELDS: usize = 1_000;

/// Opens connections to one server.
#[derive(Clone)]
pub(in crate::remote) struct Connector {
    open: TowerToHyperService<HttpsConnector<HttpConnector>>,
    server: Uri,
    version: HttpVersion,
    idle: Duration,
}

impl Connector {
    /// A connector to `server`. It trusts the certificates in `ca_file`, or the public authorities if there is no such
    /// file.
    pub(in crate::remote) fn open(
        server: &Uri,
        ca_file: Option<&Path>,
        version: HttpVersion,
        idle: Duration,
    ) -> Result<Self, RemoteError> {
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
        // hyper divides this among the server's addresses, so one dead address does not use up all of it.
        tcp.set_connect_timeout(Some(idle));
        let tls = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth()).https_or_http();
        let tls = match version {
            HttpVersion::One => tls.enable_http1().wrap_connector(tcp),
            HttpVersion::Two => tls.enable_http2().wrap_connector(tcp),
            HttpVersion::Auto => tls.enable_all_versions().wrap_connector(tcp),
        };
        Ok(Self { open: TowerToHyperService::new(tls), server: server.clone(), version, idle })
    }

    /// A new connection.
    pub(in crate::remote) async fn connect(&self, what: &str) -> Result<Connection, RemoteError> {
        let io = match tokio::time::timeout(self.idle, self.open.call(self.server.clone())).await {
            Ok(io) => io.map_err(|error| later(what, &chain(&*error)))?,
            Err(_) => return Err(later(what, &format!("no connection within {:?}", self.idle))),
        };
        let is_two = match self.version {
            HttpVersion::One => false,
            HttpVersion::Auto => io.connected().is_negotiated_h2(),
            // Clear text has no negotiation: the operator says that the server speaks HTTP/2.
            HttpVersion::Two if self.server.scheme_str() == Some("http") => true,
            HttpVersion::Two if io.connected().is_negotiated_h2() => true,
            HttpVersion::Two => {
                return Err(later(what, "expected a server of HTTP/2, found one that does not offer it"));
            }
        };
        let queue = match &io {
            MaybeHttpsStream::Http(tcp) => SendQueue::of(tcp.inner()),
            MaybeHttpsStream::Https(tls) => SendQueue::of(tls.inner().get_ref().0.inner().inner()),
        };
        let queue = Arc::new(queue.map_err(|error| later(what, &error.to_string()))?);
        let broken = Arc::default();
        let io = HeldWrites::new(io, Arc::clone(&broken));
        let greeted = async {
            Ok(match is_two {
                false => {
                    let (sender, driver) = http1_builder().handshake(io).await?;
                    // An error also reaches the task that waits for the answer or its content, so this result is not
                    // needed.
                    (Sender::One(sender), Box::pin(async { drop(driver.await) }) as BoxFuture<'static, ()>)
                }
                true => {
                    let streams = Streams::default();
                    let (sender, driver) = streams::builder(&streams).handshake(io).await?;
                    (Sender::Two(sender), Box::pin(streams.run(async { drop(driver.await) })) as BoxFuture<'static, ()>)
                }
            })
        };
        let (sender, driver) = match tokio::time::timeout(self.idle, greeted).await {
            Ok(greeted) => greeted.map_err(|error: hyper::Error| later(what, &chain(&error)))?,
            Err(_) => return Err(later(what, &format!("no connection within {:?}", self.idle))),
        };
        let (server, idle) = (self.server.clone(), self.idle);
        Ok(Connection { sender, driver: Some(driver), server, broken, queue, idle })
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

/// A connection for one request after another. It makes progress only while one of its methods is awaited, and dropping
/// it closes it: a caller that stops waiting has stopped sending.
pub(in crate::remote) struct Connection {
    sender: Sender,
    driver: Option<BoxFuture<'static, ()>>,
    server: Uri,
    broken: Arc<OnceLock<String>>,
    queue: Arc<SendQueue>,
    idle: Duration,
}

enum Sender {
    One(http1::SendRequest<Outgoing>),
    Two(http2::SendRequest<Outgoing>),
}

impl Connection {
    /// How long the server may be silent.
    pub(super) const fn idle(&self) -> Duration {
        self.idle
    }

    /// What the kernel still holds for the server.
    pub(super) fn queue(&self) -> Arc<SendQueue> {
        Arc::clone(&self.queue)
    }

    /// Whether the connection is ready for another request. The server may be closing it nevertheless; only the request
    /// shows that.
    pub(super) fn is_ready(&mut self) -> bool {
        let ready = match &mut self.sender {
            Sender::One(sender) => Either::Left(sender.ready()),
            Sender::Two(sender) => Either::Right(sender.ready()),
        };
        // One poll and no waiting, even if this task has used up its budget of polls.
        let ready = tokio::task::unconstrained(drive(&mut self.driver, ready)).now_or_never();
        matches!(ready, Some(Ok(())))
    }

    /// Sends the request and reads the head of the answer, which may come before the request is out.
    pub(super) async fn ask(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, String> {
        let answer = match &mut self.sender {
            Sender::One(sender) => Either::Left(sender.send_request(request)),
            Sender::Two(sender) => Either::Right(sender.send_request(absolute(request, &self.server))),
        };
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
                // Nobody reads trailers.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The beginning of an answer's text. Best effort: the status is known already.
    pub(in crate::remote) async fn text(&mut self, head: &response::Parts, mut content: Incoming) -> String {
        let mut bytes = Vec::new();
        if answer::is_text(head) {
            // One idle timeout for all of the text, so that a server cannot send it byte by byte for ever.
            let _ = tokio::time::timeout(self.idle, self.read_text(&mut content, &mut bytes)).await;
        }
        answer::as_text(&bytes).to_owned()
    }

    /// An answer's whole content, of at most `limit` bytes.
    pub(in crate::remote) async fn content(&mut self, mut content: Incoming, limit: usize) -> Result<Vec<u8>, String> {
        let idle = self.idle;
        let reading = async {
            let mut bytes = Vec::new();
            while let Some(more) = self.next(&mut content).await? {
                bytes.extend_from_slice(&more);
                if bytes.len() > limit {
                    return Err(format!("answered more than {limit} bytes"));
                }
            }
            Ok(bytes)
        };
        tokio::time::timeout(idle * QUESTION, reading).await.unwrap_or_else(|_| Err(overdue(idle)))
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

/// Reads what old servers and devices send as well: values over several lines, and spaces before the colon.
fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_headers(FIELDS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    builder
}

/// The request in the form of HTTP/2, with the host in its address.
fn absolute(mut request: Request<Outgoing>, server: &Uri) -> Request<Outgoing> {
    let mut parts = Parts::default();
    (parts.scheme, parts.authority) = (server.scheme().cloned(), server.authority().cloned());
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.headers_mut().remove(header::HOST);
    }
    request
}

/// Waits for `work` and drives the connection meanwhile.
async fn drive<T>(driver: &mut Option<BoxFuture<'static, ()>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            *driver = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

/// An error with its causes: hyper's own texts rarely say what happened. They may quote the server.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let is_ca = text.contains("CaUsedAsEndEntity");
    let text = said(&text);
    if is_ca { format!("{text}; {CA_AS_SERVER}") } else { text }
}
