//! S3, and servers with the same API.

mod answer;
mod old_uploads;
mod parts;
mod sign;
mod upload;

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::{Digest, ObjectPath, RemoteProof, Timestamp};
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use hyper::http::{request, response};
use hyper::{Method, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use settings::{HttpVersion, S3Remote as Settings};

use super::wire::{
    self, ANSWER_BYTES, Answered, Connector, LIST_BYTES, USER_AGENT, Uploaded, different, encode, encoded, evidence,
    later, on_condition,
};
use super::{Comparison, Evidence, MultipartUpload, Object, Precondition, Remote, RemoteError, Source, UploadLog};
use answer::{describe, failure};
use old_uploads::OldUploads;
use sign::Call;

/// Up to this size an object is sent by one PUT; a larger one in parts.
const PUT_BYTES: u64 = 8 * 1024 * 1024;

/// The user metadata with the SHA-256 of the object, in hexadecimal digits.
const META_SHA256: &str = "x-amz-meta-waybill-sha256";

/// The SHA-256 of a body, in base64. The server compares it and keeps it.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// The longest id of an upload, in bytes: several times what servers send. It is in the file's record and in the
/// address of every part.
const UPLOAD_ID_BYTES: usize = 1024;

/// A bucket.
#[derive(Debug)]
pub(super) struct S3Remote {
    settings: Settings,
    /// The encoded path before every key, with `/` at both ends.
    path: String,
    host: String,
    connector: Connector,
    old_uploads: OldUploads,
}

impl S3Remote {
    /// Checks the address, reads certificates and credentials; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        let wrong = |why: &str| RemoteError::Refused(format!("url {:?}: {why}", settings.url));
        let uri: Uri = settings.url.parse().map_err(|_| wrong("expected an address like https://host/bucket/"))?;
        let authority = uri.authority().ok_or_else(|| wrong("expected a host in it"))?;
        settings.credentials().map_err(|error| RemoteError::Refused(error.to_string()))?;
        // Servers encode the path in this one way before they check its signature.
        let reencode = |segment| encode(&percent_decode_str(segment).decode_utf8_lossy());
        let path = uri.path().split('/').map(reencode).collect::<Vec<_>>().join("/");
        Ok(Self {
            old_uploads: OldUploads::new(&path, settings.bucket_in_host),
            path,
            host: authority.to_string(),
            connector: Connector::open(&uri, settings.ca_file.as_deref(), HttpVersion::One, settings.idle_timeout())?,
            settings: settings.clone(),
        })
    }

    /// A signed request about an object.
    fn request(
        &self,
        method: Method,
        object: &Object,
        query: &[(&str, &str)],
        fields: &[(&str, String)],
        payload: Digest,
    ) -> Result<request::Builder, RemoteError> {
        let path = format!("{}{}", self.path, encoded(&object.path));
        self.sign(Call { method, host: &self.host, path: &path, query, fields, payload })
    }

    fn sign(&self, call: Call<'_>) -> Result<request::Builder, RemoteError> {
        // A credential file may be missing for a moment while it is renewed.
        let unreadable = |error: settings::SettingsError| later("credentials", &error.to_string());
        let credentials = self.settings.credentials().map_err(unreadable)?;
        let request = call.sign(&credentials, &self.settings.region, now());
        // Lengths and hashes must be those of the content itself, not of a compressed form.
        Ok(request.header(header::USER_AGENT, USER_AGENT).header(header::ACCEPT_ENCODING, "identity"))
    }

    /// Sends a request with a command in its body, or without a body, and reads the head of its answer.
    async fn ask(&self, what: &str, request: request::Builder, body: Bytes) -> Result<Answered, RemoteError> {
        self.connector.exchange(what, request.header(header::CONTENT_LENGTH, body.len()), body).await
    }

    /// [`S3Remote::ask`], and the text of the answer: the whole, or the beginning if it is an error.
    async fn command(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<(response::Parts, String), RemoteError> {
        // Only lists are asked for by GET.
        let most = if request.method_ref() == Some(&Method::GET) { LIST_BYTES } else { ANSWER_BYTES };
        let (mut connection, answer) = self.ask(what, request, body).await?;
        let (head, content) = answer.into_parts();
        if !head.status.is_success() {
            let text = connection.text(&head, content).await;
            return Ok((head, text));
        }
        let content = connection.content(content, most).await.map_err(|why| later(what, &why))?;
        Ok((head, String::from_utf8_lossy(&content).into_owned()))
    }

    fn conditional(&self, request: request::Builder, precondition: &Precondition) -> request::Builder {
        if self.settings.conditional { on_condition(request, precondition) } else { request }
    }

    async fn put(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        let what = format!("PUT {}", self.address(&object.path));
        let mut fields = vec![sha256_field(object)];
        if self.settings.checksums {
            fields.push((CHECKSUM, checksum(&object.sha256)));
        }
        let request = self
            .request(Method::PUT, object, &[], &fields, object.sha256)?
            .header(header::CONTENT_LENGTH, object.size)
            .header(header::CONTENT_TYPE, "application/octet-stream");
        let request = self.conditional(request, &object.precondition);
        let body = source.open().await;
        let Uploaded { head, text } = self.connector.upload(&what, request, body, &object.still_ours).await?;
        match head.status {
            status if wire::answer::is_done(status) => {
                let checked = head.headers.get(CHECKSUM).is_some_and(|found| found == &checksum(&object.sha256));
                let proof = if checked { RemoteProof::Checksum } else { RemoteProof::Put };
                Ok(Evidence {
                    checksum: wire::answer::checksum(&head, CHECKSUM),
                    ..evidence(&head, proof, object.size)
                })
            }
            // What the server has is asked before the next try.
            status if status.is_success() => Err(later(&what, &format!("expected 200, found {status}"))),
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Conflict(describe(&what, &head, &text))),
            _ => Err(failure(&what, &head, &text)),
        }
    }

    async fn compare_by_head(&self, object: &Object) -> Result<Comparison, RemoteError> {
        let what = format!("HEAD {}", self.address(&object.path));
        let request = self.request(Method::HEAD, object, &[], &[], Digest::of_nothing())?;
        let (_, answer) = self.ask(&what, request, Bytes::new()).await?;
        let (head, _) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND => return Ok(Comparison::Absent),
            status if status.is_success() => {}
            _ => return Err(failure(&what, &head, "")),
        }
        if let Some(length) = wire::other_length(&head, object) {
            // As at `http`, the answer to GET decides.
            return Ok(match self.read_back(object).await? {
                Comparison::Unknown(_) => different(&head, format!("{length} bytes")),
                read => read,
            });
        }
        let noted = head.headers.get(META_SHA256).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match noted {
            Some(found) if found == object.sha256 => Ok(Comparison::Equal(evidence(&head, RemoteProof::Metadata, 0))),
            Some(found) => Ok(different(&head, format!("the SHA-256 {found}"))),
            None => self.read_back(object).await,
        }
    }

    async fn read_back(&self, object: &Object) -> Result<Comparison, RemoteError> {
        let what = format!("GET {}", self.address(&object.path));
        let request = self.request(Method::GET, object, &[], &[], Digest::of_nothing())?;
        let (mut connection, answer) = self.ask(&what, request, Bytes::new()).await?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND => Ok(Comparison::Absent),
            StatusCode::FORBIDDEN => {
                Ok(Comparison::Unknown(describe(&what, &head, &connection.text(&head, content).await)))
            }
            status if status.is_success() => {
                wire::compare_content(&mut connection, &what, &head, content, object).await
            }
            _ => Err(failure(&what, &head, &connection.text(&head, content).await)),
        }
    }
}

impl Remote for S3Remote {
    fn address(&self, path: &ObjectPath) -> String {
        format!("{}{}", self.settings.url, encoded(path))
    }

    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>> {
        Box::pin(self.compare_by_head(object))
    }

    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(object, source))
    }

    fn send_resumable<'a>(
        &'a self,
        object: &'a Object,
        source: Source,
        log: &'a UploadLog,
    ) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        match object.size {
            0..=PUT_BYTES => self.send(object, source),
            _ => Box::pin(self.send_in_parts(object, source, log)),
        }
    }

    fn old_uploads(&self) -> BoxFuture<'_, Result<Vec<MultipartUpload>, RemoteError>> {
        Box::pin(self.find_old_uploads())
    }

    fn abort_upload<'a>(&'a self, upload: &'a MultipartUpload) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.abort(upload))
    }
}

/// The user metadata that an object keeps.
fn sha256_field(object: &Object) -> (&'static str, String) {
    (META_SHA256, object.sha256.to_string())
}

/// A SHA-256 in the form of S3.
fn checksum(sha256: &Digest) -> String {
    BASE64_STANDARD.encode(sha256.as_bytes())
}

/// The time by our own clock, which the server compares with its own.
#[expect(clippy::disallowed_methods, reason = "a signature carries the time of signing, which MongoDB does not know")]
fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
