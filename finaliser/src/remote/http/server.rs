use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::{Digest, ObjectPath, RemoteProof};
use hyper::body::Bytes;
use hyper::http::{request, response};
use hyper::{Request, Response, StatusCode, Uri, header};
use settings::{HttpCredentials, HttpRemote as Settings};
use url::Origin;

use super::target::Target;
use crate::remote::body::Body;
use crate::remote::said::said;
use crate::remote::wire::{
    self, Answered, Connector, USER_AGENT, Uploaded, answer, different, encoded, evidence, later,
};
use crate::remote::{Comparison, Evidence, Object, RemoteError};

/// The pause after a promise to store a file that is not kept yet. Trying again at once would send the file again.
const PROMISE_PAUSE: Duration = Duration::from_secs(10);

/// RFC 9530; the `http` crate has no name for it.
const REPR_DIGEST: &str = "repr-digest";

/// A folder at a server that accepts files by PUT, describes them by HEAD, and returns them by GET.
#[derive(Debug)]
pub(in crate::remote) struct Server {
    settings: Settings,
    path: String,
    host: header::HeaderValue,
    connector: Connector,
    /// The other origins that it may redirect to.
    others: Vec<(Origin, Connector)>,
}

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
        let connector = |server: &Uri| {
            Connector::open(server, settings.ca_file.as_deref(), settings.http_version, settings.idle_timeout())
        };
        let other = |address: &String| -> Result<(Origin, Connector), RemoteError> {
            let wrong =
                || RemoteError::Refused(format!("redirect_origins: expected scheme and host, found {address:?}"));
            Ok((Target::own(address)?.origin(), connector(&address.parse().map_err(|_| wrong())?)?))
        };
        Ok(Self {
            settings: settings.clone(),
            path: uri.path().to_owned(),
            host,
            connector: connector(&uri)?,
            others: settings.redirect_origins.iter().map(other).collect::<Result<_, _>>()?,
        })
    }

    /// The address of a file in the folder, without secrets.
    pub(in crate::remote) fn address(&self, path: &ObjectPath) -> String {
        self.address_of(&encoded(path))
    }

    /// The address of an encoded path in the folder.
    pub(in crate::remote) fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.settings.url)
    }

    /// The path of a request about an encoded path in the folder.
    pub(in crate::remote) fn path_of(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// A request about an encoded path in the folder.
    pub(in crate::remote) fn request(&self, method: &'static str, path: &str) -> Result<request::Builder, RemoteError> {
        self.with_credentials(plain_request(method, self.path_of(path), self.host.clone()))
    }

    /// As [`Server::request`], to the target of a redirect. Credentials and configured headers go only to the remote's
    /// own origin.
    pub(super) fn request_to(&self, method: &'static str, to: &Target) -> Result<request::Builder, RemoteError> {
        let host =
            to.host().try_into().map_err(|_| RemoteError::Refused(format!("{to}: expected a plain host name")))?;
        let request = plain_request(method, to.path_and_query(), host);
        if to.origin() == Target::own(&self.settings.url)?.origin() {
            self.with_credentials(request)
        } else {
            Ok(request)
        }
    }

    fn with_credentials(&self, mut request: request::Builder) -> Result<request::Builder, RemoteError> {
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.expose());
        }
        Ok(match self.authorization()? {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        })
    }

    fn authorization(&self) -> Result<Option<header::HeaderValue>, RemoteError> {
        // A credential file may be missing for a moment while it is renewed.
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

    /// The target of an answer that redirects, if redirects are allowed. `from` is the address that answered, after
    /// `hops` redirects.
    pub(super) fn follow(
        &self,
        what: &str,
        from: &Target,
        head: &response::Parts,
        hops: usize,
    ) -> Result<Option<Target>, RemoteError> {
        let most = self.settings.redirects;
        if most == 0 {
            return Ok(None);
        }
        let Some(to) = from.follow(what, head)? else { return Ok(None) };
        if hops >= usize::from(most) {
            let said = answer::describe(what, head, "");
            return Err(RemoteError::Refused(format!("{said}: expected at most {most} redirects")));
        }
        self.connector_of(Some(&to))?;
        Ok(Some(to))
    }

    fn connector_of(&self, to: Option<&Target>) -> Result<&Connector, RemoteError> {
        let Some(to) = to else { return Ok(&self.connector) };
        let origin = to.origin();
        if origin == Target::own(&self.settings.url)?.origin() {
            return Ok(&self.connector);
        }
        let known = self.others.iter().find(|(other, _)| *other == origin);
        known.map(|(_, connector)| connector).ok_or_else(|| {
            let origin = said(&origin.ascii_serialization());
            RemoteError::Refused(format!("redirected to {origin}, which is not among redirect_origins"))
        })
    }

    /// Sends the bytes of an object, the last of them only if the lease still holds, to the target of a redirect if
    /// there is one. The caller has set the condition.
    pub(in crate::remote) async fn put(
        &self,
        what: &str,
        to: Option<&Target>,
        request: request::Builder,
        object: &Object,
        body: Body,
    ) -> Result<Uploaded, RemoteError> {
        let request = request
            .header(header::CONTENT_LENGTH, object.size)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(REPR_DIGEST, object.sha256.to_repr_digest());
        self.connector_of(to)?.upload(what, request, body, &object.still_ours).await
    }

    /// Sends a request with a short body, or none, to the remote's own server, and reads the head of its answer.
    pub(in crate::remote) async fn exchange(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Answered, RemoteError> {
        self.connector.exchange(what, request, body).await
    }

    /// Asks about a path in the folder and follows redirects. Also returns the last request in words.
    async fn ask(&self, method: &'static str, path: &str) -> Result<(String, Answered), RemoteError> {
        let mut from = Target::own(&self.address_of(path))?;
        let mut what = format!("{method} {}", self.address_of(path));
        let mut answered = self.exchange(&what, self.request(method, path)?, Bytes::new()).await?;
        let mut hops = 0;
        loop {
            let (head, content) = answered.1.into_parts();
            let Some(to) = self.follow(&what, &from, &head, hops)? else {
                return Ok((what, (answered.0, Response::from_parts(head, content))));
            };
            what = format!("{method} {to}");
            let request = self.request_to(method, &to)?;
            answered = self.connector_of(Some(&to))?.exchange(&what, request, Bytes::new()).await?;
            from = to;
            hops += 1;
        }
    }

    /// What the server has at an encoded path after a success that does not say that everything was done, such as 202
    /// Accepted. `said` is that answer in words.
    pub(in crate::remote) async fn confirm(
        &self,
        said: &str,
        head: &response::Parts,
        path: &str,
        object: &Object,
    ) -> Result<Evidence, RemoteError> {
        let found = match self.compare(path, object).await {
            Ok(Comparison::Equal(found)) => return Ok(Evidence { sent: object.size, ..found }),
            Ok(Comparison::Absent) => "nothing".to_owned(),
            Ok(Comparison::Different(found)) => found.what,
            Ok(Comparison::Unknown(why)) => why,
            Err(error) => error.to_string(),
        };
        let after = answer::retry_after(&head.headers).unwrap_or(PROMISE_PAUSE);
        Err(RemoteError::Later {
            detail: format!("{said}; expected the file there by now, found {found}"),
            after: Some(after),
        })
    }

    /// Compares the object with what the server has at an encoded path.
    pub(in crate::remote) async fn compare(&self, path: &str, object: &Object) -> Result<Comparison, RemoteError> {
        let (what, (_, answer)) = self.ask("HEAD", path).await?;
        let (head, _) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Comparison::Absent),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Ok(Comparison::Unknown(answer::describe(&what, &head, "")))
            }
            status if status.is_success() => match compare_head(object, &head) {
                // Some servers answer HEAD with another length than the content has. Unless the hash is another one too, the
                // answer to GET decides.
                Some(Comparison::Different(by_head))
                    if wire::other_length(&head, object).is_some() && !names_other_content(&head, object) =>
                {
                    Ok(match self.read_back(path, object).await? {
                        Comparison::Unknown(_) => Comparison::Different(by_head),
                        read => read,
                    })
                }
                Some(look) => Ok(look),
                None => self.read_back(path, object).await,
            },
            _ => Err(answer::refusal(&what, &head, "")),
        }
    }

    /// The answer to HEAD.
    pub(in crate::remote) async fn head(&self, what: &str, path: &str) -> Result<response::Parts, RemoteError> {
        let (_, answer) = self.exchange(what, self.request("HEAD", path)?, Bytes::new()).await?;
        Ok(answer.into_parts().0)
    }

    async fn read_back(&self, path: &str, object: &Object) -> Result<Comparison, RemoteError> {
        let (what, (mut connection, answer)) = self.ask("GET", path).await?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Comparison::Absent),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::FORBIDDEN => {
                return Ok(Comparison::Unknown(answer::describe(&what, &head, &connection.text(&head, content).await)));
            }
            status if status.is_success() => {}
            _ => return Err(answer::refusal(&what, &head, &connection.text(&head, content).await)),
        }
        if let Some(look) = compare_head(object, &head) {
            return Ok(look);
        }
        wire::compare_content(&mut connection, &what, &head, content, object).await
    }
}

fn plain_request(method: &'static str, uri: String, host: header::HeaderValue) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        // Lengths and hashes must be those of the content itself, not of a compressed form.
        .header(header::ACCEPT_ENCODING, "identity")
}

/// Compares the object with the head of an answer; `None` if the content itself must be read.
fn compare_head(object: &Object, head: &response::Parts) -> Option<Comparison> {
    if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Some(Comparison::Unknown(format!(
            "the remote shows it only in the coding {}",
            said(&format!("{coding:?}"))
        )));
    }
    let named = digest_in(head);
    if let Some((found, _)) = named.as_ref().filter(|(found, _)| *found != object.sha256) {
        return Some(different(head, format!("the SHA-256 {found}")));
    }
    if let Some(length) = wire::other_length(head, object) {
        return Some(different(head, format!("{length} bytes")));
    }
    let checksum = answer::checksum_of(REPR_DIGEST, &named?.1);
    Some(Comparison::Equal(Evidence { checksum, ..evidence(head, RemoteProof::Digest, 0) }))
}

/// Whether the head names another hash than that of the object.
fn names_other_content(head: &response::Parts, object: &Object) -> bool {
    digest_in(head).is_some_and(|(found, _)| found != object.sha256)
}

/// The SHA-256 that the head names, and the whole of that field.
fn digest_in(head: &response::Parts) -> Option<(Digest, String)> {
    let fields: Vec<_> = head.headers.get_all(REPR_DIGEST).iter().filter_map(|field| field.to_str().ok()).collect();
    // Several fields with the same name form one list.
    let named = fields.join(", ");
    Some((Digest::from_repr_digest(&named).ok().flatten()?, named))
}
