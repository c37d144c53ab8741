use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::{Digest, ObjectPath};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::http::{request, response};
use hyper::{Request, Response, StatusCode, Uri, header};
use runtime::settings::{HttpCredentials, HttpRemote as Settings};

use crate::remote::wire::{self, Connection, Connector, USER_AGENT, Uploaded, answer, encoded, evidence, later, other};
use crate::remote::{Body, Look, Parcel, RemoteError};

/// RFC 9530; the `http` crate has no name for it.
const REPR_DIGEST: &str = "repr-digest";

/// A folder of a server that takes files by PUT, says by HEAD what it has, and gives it back by GET.
#[derive(Debug)]
pub(in crate::remote) struct Server {
    settings: Settings,
    path: String,
    host: header::HeaderValue,
    connector: Connector,
}

/// The answer to a request, whose content is still to be read.
pub(in crate::remote) type Answered = (Connection<Full<Bytes>>, Response<Incoming>);

impl Server {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(in crate::remote) fn open(settings: &Settings) -> Result<Self, RemoteError> {
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
            connector: Connector::open(
                &uri,
                settings.ca_file.as_deref(),
                settings.http_version,
                settings.idle_timeout(),
            )?,
        })
    }

    /// The address of a file in the folder, without secrets.
    pub(in crate::remote) fn address(&self, object: &ObjectPath) -> String {
        self.address_of(&encoded(object))
    }

    /// The address of a path in the folder, which is encoded already.
    pub(in crate::remote) fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.settings.url)
    }

    /// The path in requests of a path in the folder, which is encoded already.
    pub(in crate::remote) fn path_of(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// A request about a path in the folder, which is encoded already.
    pub(in crate::remote) fn request(&self, method: &'static str, path: &str) -> Result<request::Builder, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.path_of(path))
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

    /// Sends the bytes of a file by a PUT that has its condition already, the last of them only if the claim still holds.
    pub(in crate::remote) async fn put(
        &self,
        what: &str,
        request: request::Builder,
        parcel: &Parcel,
        body: Body,
    ) -> Result<Uploaded, RemoteError> {
        let request = request
            .header(header::CONTENT_LENGTH, parcel.size)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(REPR_DIGEST, parcel.sha256.to_repr_digest());
        self.connector.upload(what, request, (parcel.size, body), &parcel.still_ours).await
    }

    /// Sends a request with a short body, or none, and reads the head of its answer.
    pub(in crate::remote) async fn exchange(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Answered, RemoteError> {
        let request =
            request.body(Full::new(body)).map_err(|error| RemoteError::Refused(format!("{what}: {error}")))?;
        self.connector.exchange(what, request).await
    }

    /// What the server has under the parcel's name.
    pub(in crate::remote) async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("HEAD {}", self.address(&parcel.object));
        let head = self.head(&what, &encoded(&parcel.object)).await?;
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

    /// The answer to HEAD.
    pub(in crate::remote) async fn head(&self, what: &str, path: &str) -> Result<response::Parts, RemoteError> {
        let (_, answer) = self.exchange(what, self.request("HEAD", path)?, Bytes::new()).await?;
        Ok(answer.into_parts().0)
    }

    async fn read_back(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("GET {}", self.address(&parcel.object));
        let request = self.request("GET", &encoded(&parcel.object))?;
        let (mut connection, answer) = self.exchange(&what, request, Bytes::new()).await?;
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
    match Digest::from_repr_digest(&fields.join(",")).ok().flatten()? {
        found if found == parcel.sha256 => Some(Look::Equal(evidence(head, "digest", 0))),
        found => Some(other(head, format!("the SHA-256 {found}"))),
    }
}
