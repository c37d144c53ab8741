//! A server that takes files by PUT.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::{Digest, ObjectPath};
use futures_util::future::BoxFuture;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::http::{request, response};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use runtime::settings::{HttpCredentials, HttpRemote as Settings};

use super::wire::{
    self, Connection, Connector, USER_AGENT, Uploaded, answer, encoded, evidence, later, on_condition, other,
};
use super::{Body, Evidence, Look, Parcel, Remote, RemoteError};

/// As draft-ietf-httpapi-idempotency-key-header has it: a string in quotes.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// RFC 9530; the `http` crate has no name for it.
const REPR_DIGEST: &str = "repr-digest";

/// A server that takes files by PUT, says by HEAD what it has, and gives it back by GET.
#[derive(Debug)]
pub(super) struct HttpRemote {
    settings: Settings,
    path: String,
    host: header::HeaderValue,
    connector: Connector,
}

impl HttpRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |why: &str| RemoteError::Refused(format!("url {:?}: {why}", settings.url));
        let uri: Uri = settings.url.parse().map_err(|_| wrong("expected an address like https://host/folder/"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("expected http:// or https://"));
        }
        settings.credentials().map_err(|error| RemoteError::Refused(error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| wrong("expected a host in it"))?;
        let host = authority.as_str().try_into().map_err(|_| wrong("expected a plain host name"))?;
        Ok(Self {
            settings: settings.clone(),
            path: uri.path().to_owned(),
            host,
            connector: Connector::open(&uri, settings.ca_file.as_deref(), settings.idle_timeout())?,
        })
    }

    async fn put(&self, parcel: &Parcel, body: Body) -> Result<Evidence, RemoteError> {
        let what = format!("PUT {}", self.address(&parcel.object));
        let request = self
            .request(Method::PUT, &parcel.object)?
            // The same for every attempt: a server that knows such keys does it once.
            .header(IDEMPOTENCY_KEY, format!("\"{}\"", parcel.file_id))
            .header(header::CONTENT_LENGTH, parcel.size)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(REPR_DIGEST, parcel.sha256.to_repr_digest());
        let request = on_condition(request, &parcel.onto);
        let Uploaded { head, text } =
            self.connector.upload(&what, request, (parcel.size, body), &parcel.still_ours).await?;
        match head.status {
            status if status.is_success() => Ok(evidence(&head, "put", parcel.size)),
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Clash(answer::describe(&what, &head, &text))),
            _ => Err(answer::refusal(&what, &head, &text)),
        }
    }

    async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("HEAD {}", self.address(&parcel.object));
        let (_, answer) = self.exchange(&what, Method::HEAD, &parcel.object).await?;
        let (head, _) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Look::Absent),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Ok(Look::Unknown(answer::describe(&what, &head, "")))
            }
            status if status.is_success() => match judge(parcel, &head) {
                Some(look) => Ok(look),
                None => self.read_back(parcel).await,
            },
            _ => Err(answer::refusal(&what, &head, "")),
        }
    }

    async fn read_back(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("GET {}", self.address(&parcel.object));
        let (mut connection, answer) = self.exchange(&what, Method::GET, &parcel.object).await?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Look::Absent),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::FORBIDDEN => {
                return Ok(Look::Unknown(answer::describe(&what, &head, &connection.text(&head, content).await)));
            }
            status if status.is_success() => {}
            _ => return Err(answer::refusal(&what, &head, &connection.text(&head, content).await)),
        }
        if let Some(look) = judge(parcel, &head) {
            return Ok(look);
        }
        wire::compare(&mut connection, &what, &head, content, parcel).await
    }

    async fn exchange(
        &self,
        what: &str,
        method: Method,
        object: &ObjectPath,
    ) -> Result<(Connection<Empty<Bytes>>, Response<Incoming>), RemoteError> {
        let request = self
            .request(method, object)?
            .body(Empty::new())
            .map_err(|error| RemoteError::Refused(format!("{what}: {error}")))?;
        self.connector.exchange(what, request).await
    }

    fn request(&self, method: Method, object: &ObjectPath) -> Result<request::Builder, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.path, encoded(object)))
            .header(header::HOST, self.host.clone())
            .header(header::USER_AGENT, USER_AGENT)
            // Lengths and hashes are those of the file, not of a compressed form of it.
            .header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.expose());
        }
        Ok(match self.authorization()? {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        })
    }

    fn authorization(&self) -> Result<Option<header::HeaderValue>, RemoteError> {
        // A file with a credential may be missing for a moment while it is renewed.
        let credentials = self.settings.credentials().map_err(|error| later("credentials", &error.to_string()))?;
        let text = match credentials {
            None => return Ok(None),
            Some(HttpCredentials::Bearer(token)) => format!("Bearer {}", token.expose()),
            Some(HttpCredentials::Basic(user, password)) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose())))
            }
        };
        let mut value = header::HeaderValue::try_from(text)
            .map_err(|_| RemoteError::Refused("credentials: expected them on one line".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Remote for HttpRemote {
    fn address(&self, object: &ObjectPath) -> String {
        format!("{}{}", self.settings.url, encoded(object))
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, body: Body) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(parcel, body))
    }
}

/// What the head of an answer tells about the content; `None` where the content itself must be read.
fn judge(parcel: &Parcel, head: &response::Parts) -> Option<Look> {
    if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Some(Look::Unknown(format!("the remote shows it only in the coding {coding:?}")));
    }
    match answer::length(head) {
        Some(length) if length != parcel.size => return Some(other(head, format!("{length} bytes"))),
        _ => {}
    }
    let fields: Vec<_> = head.headers.get_all(REPR_DIGEST).iter().filter_map(|field| field.to_str().ok()).collect();
    // Fields of one name are one list.
    let named = fields.join(", ");
    match Digest::from_repr_digest(&named).ok().flatten()? {
        found if found == parcel.sha256 => {
            let checksum = answer::checksum_of(REPR_DIGEST, &named);
            Some(Look::Equal(Evidence { checksum, ..evidence(head, "digest", 0) }))
        }
        found => Some(other(head, format!("the SHA-256 {found}"))),
    }
}
