//! S3, and servers that speak like it.

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
    self, Answered, Connector, USER_AGENT, Uploaded, encode, encoded, evidence, later, on_condition, other,
};
use super::{Evidence, KeptUpload, Look, Onto, Parcel, Remote, RemoteError, Source, UploadLog};
use answer::{describe, failure};
use old_uploads::OldUploads;
use sign::Call;

/// Up to here a file is sent by one PUT; a larger one in parts.
const PUT_BYTES: u64 = 8 * 1024 * 1024;

/// The user metadata that holds the SHA-256 of the whole, in hexadecimal digits.
const META_SHA256: &str = "x-amz-meta-waybill-sha256";

/// The SHA-256 of a body, in base 64, that the server compares and keeps.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// No answer to a command is longer.
const ANSWER_BYTES: usize = 1024 * 1024;

/// A bucket.
#[derive(Debug)]
pub(super) struct S3Remote {
    settings: Settings,
    /// The path before every key, encoded, with `/` at both ends.
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
        // As it is signed: every server encodes it anew in this one way.
        let anew = |segment| encode(&percent_decode_str(segment).decode_utf8_lossy());
        let path = uri.path().split('/').map(anew).collect::<Vec<_>>().join("/");
        Ok(Self {
            old_uploads: OldUploads::new(&path, settings.bucket_in_host),
            path,
            host: authority.to_string(),
            connector: Connector::open(&uri, settings.ca_file.as_deref(), HttpVersion::One, settings.idle_timeout())?,
            settings: settings.clone(),
        })
    }

    /// A signed request about a file's object.
    fn request(
        &self,
        method: Method,
        object: &ObjectPath,
        query: &[(&str, &str)],
        fields: &[(&str, String)],
        payload: Digest,
    ) -> Result<request::Builder, RemoteError> {
        let path = format!("{}{}", self.path, encoded(object));
        self.sign(Call { method, host: &self.host, path: &path, query, fields, payload })
    }

    fn sign(&self, call: Call<'_>) -> Result<request::Builder, RemoteError> {
        // A file with a credential may be missing for a moment while it is renewed.
        let unreadable = |error: settings::SettingsError| later("credentials", &error.to_string());
        let credentials = self.settings.credentials().map_err(unreadable)?;
        let request = call.sign(&credentials, &self.settings.region, now());
        // Lengths and hashes are those of the file, not of a compressed form of it.
        Ok(request.header(header::USER_AGENT, USER_AGENT).header(header::ACCEPT_ENCODING, "identity"))
    }

    /// Sends a request whose body is a command, if anything.
    async fn ask(&self, what: &str, request: request::Builder, body: Bytes) -> Result<Answered, RemoteError> {
        self.connector.exchange(what, request.header(header::CONTENT_LENGTH, body.len()), body).await
    }

    /// [`S3Remote::ask`], and the whole text of the answer.
    async fn command(
        &self,
        what: &str,
        request: request::Builder,
        body: Bytes,
    ) -> Result<(response::Parts, String), RemoteError> {
        let (mut connection, answer) = self.ask(what, request, body).await?;
        let (head, content) = answer.into_parts();
        let content = connection.content(content, ANSWER_BYTES).await.map_err(|why| later(what, &why))?;
        Ok((head, String::from_utf8_lossy(&content).into_owned()))
    }

    fn conditional(&self, request: request::Builder, onto: &Onto) -> request::Builder {
        if self.settings.conditional { on_condition(request, onto) } else { request }
    }

    async fn put(&self, parcel: &Parcel, source: Source) -> Result<Evidence, RemoteError> {
        let what = format!("PUT {}", self.address(&parcel.object));
        let mut fields = vec![sha256_field(parcel)];
        if self.settings.checksums {
            fields.push((CHECKSUM, checksum(&parcel.sha256)));
        }
        let request = self
            .request(Method::PUT, &parcel.object, &[], &fields, parcel.sha256)?
            .header(header::CONTENT_LENGTH, parcel.size)
            .header(header::CONTENT_TYPE, "application/octet-stream");
        let request = self.conditional(request, &parcel.onto);
        let body = source.open().await;
        let Uploaded { head, text } = self.connector.upload(&what, request, body, &parcel.still_ours).await?;
        match head.status {
            status if status.is_success() => {
                let checked = head.headers.get(CHECKSUM).is_some_and(|found| found == &checksum(&parcel.sha256));
                let proof = if checked { RemoteProof::Checksum } else { RemoteProof::Put };
                Ok(Evidence {
                    checksum: wire::answer::checksum(&head, CHECKSUM),
                    ..evidence(&head, proof, parcel.size)
                })
            }
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Clash(describe(&what, &head, &text))),
            _ => Err(failure(&what, &head, &text)),
        }
    }

    async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("HEAD {}", self.address(&parcel.object));
        let request = self.request(Method::HEAD, &parcel.object, &[], &[], Digest::of_nothing())?;
        let (_, answer) = self.ask(&what, request, Bytes::new()).await?;
        let (head, _) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND => return Ok(Look::Absent),
            status if status.is_success() => {}
            _ => return Err(failure(&what, &head, "")),
        }
        match wire::answer::length(&head) {
            Some(length) if length != parcel.size => return Ok(other(&head, format!("{length} bytes"))),
            _ => {}
        }
        let noted = head.headers.get(META_SHA256).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match noted {
            Some(found) if found == parcel.sha256 => Ok(Look::Equal(evidence(&head, RemoteProof::Metadata, 0))),
            Some(found) => Ok(other(&head, format!("the SHA-256 {found}"))),
            None => self.read_back(parcel).await,
        }
    }

    async fn read_back(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        let what = format!("GET {}", self.address(&parcel.object));
        let request = self.request(Method::GET, &parcel.object, &[], &[], Digest::of_nothing())?;
        let (mut connection, answer) = self.ask(&what, request, Bytes::new()).await?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND => Ok(Look::Absent),
            StatusCode::FORBIDDEN => Ok(Look::Unknown(describe(&what, &head, &connection.text(&head, content).await))),
            status if status.is_success() => wire::compare(&mut connection, &what, &head, content, parcel).await,
            _ => Err(failure(&what, &head, &connection.text(&head, content).await)),
        }
    }
}

impl Remote for S3Remote {
    fn address(&self, object: &ObjectPath) -> String {
        format!("{}{}", self.settings.url, encoded(object))
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.put(parcel, source))
    }

    fn send_resumable<'a>(
        &'a self,
        parcel: &'a Parcel,
        source: Source,
        log: &'a UploadLog,
    ) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        match parcel.size {
            0..=PUT_BYTES => self.send(parcel, source),
            _ => Box::pin(self.send_in_parts(parcel, source, log)),
        }
    }

    fn old_uploads(&self) -> BoxFuture<'_, Result<Vec<KeptUpload>, RemoteError>> {
        Box::pin(self.find_old_uploads())
    }

    fn abort<'a>(&'a self, upload: &'a KeptUpload) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.drop_parts(upload))
    }
}

/// The field that an object keeps: its SHA-256.
fn sha256_field(parcel: &Parcel) -> (&'static str, String) {
    (META_SHA256, parcel.sha256.to_string())
}

/// A SHA-256 as S3 writes it.
fn checksum(sha256: &Digest) -> String {
    BASE64_STANDARD.encode(sha256.as_bytes())
}

/// By our own clock: the server compares it with its own.
fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
