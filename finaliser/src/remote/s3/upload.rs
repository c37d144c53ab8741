//! Uploads in parts. The next holder of the file continues where the last one stopped.

use std::collections::BTreeMap;

use bytes::Bytes;
use contract::{Digest, RemoteProof};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::http::response;
use hyper::{Method, StatusCode, header};
use ledger::{Upload, UploadedPart};

use super::answer::{describe, element, failure, is_error};
use super::parts::{Part, Parts, part_size};
use super::{CHECKSUM, S3Remote, UPLOAD_ID_BYTES, checksum, evidence, later, sha256_field};
use crate::remote::body::Body;
use crate::remote::wire::{Pool, Uploaded, answer};
use crate::remote::{Evidence, Object, Remote, RemoteError, Source, UploadLog};

/// Why an upload was not completed.
enum UploadError {
    /// The remote no longer has it, or has other parts than the record: a new upload must begin.
    Gone(String),
    Remote(RemoteError),
}

impl From<RemoteError> for UploadError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl S3Remote {
    /// Sends the parts that the remote does not have yet, and completes the upload.
    pub(super) async fn send_in_parts(
        &self,
        object: &Object,
        source: Source,
        log: &UploadLog,
    ) -> Result<Evidence, RemoteError> {
        let upload = self.begin(object, log).await?;
        let sending = Sending { remote: self, object, log, known: parts_by_number(&upload), upload };
        let sent = match sending.send_parts(source.open().await).await {
            Ok(()) => sending.complete().await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(evidence) => Ok(evidence),
            Err(UploadError::Remote(error)) => Err(error),
            Err(UploadError::Gone(detail)) => {
                log.give_up(self).await?;
                Err(RemoteError::Later { detail, after: None })
            }
        }
    }

    /// The current upload, or a new one, recorded before its first part is sent.
    async fn begin(&self, object: &Object, log: &UploadLog) -> Result<Upload, RemoteError> {
        let address = self.address(&object.path);
        match log.current() {
            Some(current) if current.address == address && current.part_size > 0 => return Ok(current),
            // The settings have changed, so it can be neither continued nor aborted here.
            Some(old) => tracing::warn!(file = %object.file_id, address = old.address, "an upload is left behind"),
            None => {}
        }
        let what = format!("POST {address}?uploads");
        let mut fields = vec![sha256_field(object)];
        if self.settings.checksums {
            fields.push(("x-amz-checksum-algorithm", "SHA256".to_owned()));
        }
        let request = self
            .request(Method::POST, object, &[("uploads", "")], &fields, Digest::of_nothing())?
            .header(header::CONTENT_TYPE, "application/octet-stream");
        let (head, text) = self.command(&what, request, Bytes::new()).await?;
        if !head.status.is_success() {
            return Err(failure(&what, &head, &text));
        }
        let id = element(&text, "UploadId").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| later(&what, "the answer has no UploadId"))?;
        if id.len() > UPLOAD_ID_BYTES {
            let found = id.len();
            let why = format!("expected an UploadId of at most {UPLOAD_ID_BYTES} bytes, found {found} bytes");
            return Err(RemoteError::Refused(format!("{what}: {why}")));
        }
        let part_size = part_size(object.size, self.settings.part_size);
        let upload = Upload { id, address, part_size, parts: Vec::new() };
        log.begin(upload.clone()).await?;
        Ok(upload)
    }
}

/// One call that continues an upload.
struct Sending<'a> {
    remote: &'a S3Remote,
    object: &'a Object,
    log: &'a UploadLog,
    upload: Upload,
    /// The parts that the remote had before.
    known: BTreeMap<u32, UploadedPart>,
}

impl Sending<'_> {
    /// Sends the parts that are missing, several at once.
    async fn send_parts(&self, body: Body) -> Result<(), UploadError> {
        let mut parts = Parts::new(body, self.upload.part_size);
        // One more part is gathered while these are in flight.
        let most = self.remote.settings.in_flight_bytes / self.upload.part_size;
        let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(1).max(1);
        let connections = Pool::new(&self.remote.connector);
        let mut in_flight = FuturesUnordered::new();
        let mut more = true;
        while more || !in_flight.is_empty() {
            tokio::select! {
                part = parts.next(), if more && in_flight.len() < most => match part {
                    Some(part) => in_flight.push(self.send_part(&connections, part?)),
                    None => more = false,
                },
                Some(sent) = in_flight.next() => sent?,
            }
        }
        Ok(())
    }

    /// Sends a part, unless the remote has the same bytes under its number.
    async fn send_part(&self, connections: &Pool<'_>, part: Part) -> Result<(), UploadError> {
        let Self { remote, object, upload, .. } = self;
        let (number, len, sha256) = (part.number, part.len, part.sha256().await?);
        if self.known.get(&number).is_some_and(|known| known.sha256 == sha256) {
            return Ok(());
        }
        let what = format!("PUT {} part {number}", upload.address);
        let fields = if remote.settings.checksums { vec![(CHECKSUM, checksum(&sha256))] } else { vec![] };
        let query = [("partNumber", &*number.to_string()), ("uploadId", &upload.id)];
        // Idempotent: the same bytes under the same part number.
        let request = || {
            let request = remote.request(Method::PUT, object, &query, &fields, sha256)?;
            Ok((request.header(header::CONTENT_LENGTH, len), part.body()))
        };
        let Uploaded { head, text } = connections.upload(&what, request, &object.still_ours).await?;
        if !head.status.is_success() {
            return Err(refused(&what, &head, &text));
        }
        let etag = answer::etag(&head).ok_or_else(|| later(&what, "the answer has no ETag"))?;
        self.log.add_part(&upload.id, UploadedPart { number, etag, sha256 }, len).await?;
        Ok(())
    }

    /// Completes the upload. From here on the object is visible.
    async fn complete(&self) -> Result<Evidence, UploadError> {
        let Self { remote, object, log, .. } = self;
        // Only the loss of the lease can have removed it meanwhile.
        let upload = log.current().ok_or(RemoteError::Stopped)?;
        let what = format!("POST {} with all parts", upload.address);
        let parts = parts_by_number(&upload);
        let wanted = object.size.div_ceil(upload.part_size);
        if !(1..).zip(parts.keys()).all(|(number, found)| number == *found) || parts.len() as u64 != wanted {
            return Err(UploadError::Gone(format!("{what}: expected {wanted} parts, found {}", parts.len())));
        }
        let body = Bytes::from(self.parts_as_xml(&parts));
        let query = [("uploadId", &*upload.id)];
        let request = remote.request(Method::POST, object, &query, &[], Digest::of(&body))?;
        let request = remote.conditional(request, &object.precondition).header(header::CONTENT_TYPE, "application/xml");
        if !(object.still_ours)() {
            return Err(RemoteError::Stopped.into());
        }
        let (head, text) = remote.command(&what, request, body).await?;
        match head.status {
            // A server may send the status before it has finished. Then only the text can report an error.
            status if status.is_success() => match element(&text, "ETag") {
                Some(etag) if !is_error(&text) => {
                    log.complete();
                    let proof = if checked(&text, &parts) { RemoteProof::Checksum } else { RemoteProof::Parts };
                    let named = element(&text, "ChecksumSHA256");
                    Ok(Evidence {
                        etag: answer::for_receipt(&etag),
                        checksum: named.and_then(|value| answer::checksum_of(CHECKSUM, &value)),
                        ..evidence(&head, proof, log.sent())
                    })
                }
                _ => match refused(&what, &head, &text) {
                    UploadError::Remote(RemoteError::Refused(detail)) => {
                        Err(RemoteError::Later { detail, after: None }.into())
                    }
                    error => Err(error),
                },
            },
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Conflict(describe(&what, &head, &text)).into()),
            // Another request changed the object during the completion: this upload is over.
            StatusCode::CONFLICT => Err(UploadError::Gone(describe(&what, &head, &text))),
            _ => Err(refused(&what, &head, &text)),
        }
    }

    fn parts_as_xml(&self, parts: &BTreeMap<u32, UploadedPart>) -> String {
        let mut xml = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
        for (number, part) in parts {
            let etag = escaped(&part.etag);
            xml.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"));
            if self.remote.settings.checksums {
                xml.push_str(&format!("<ChecksumSHA256>{}</ChecksumSHA256>", checksum(&part.sha256)));
            }
            xml.push_str("</Part>");
        }
        xml.push_str("</CompleteMultipartUpload>");
        xml
    }
}

/// The parts by number. If a number repeats, the last entry wins.
fn parts_by_number(upload: &Upload) -> BTreeMap<u32, UploadedPart> {
    upload.parts.iter().map(|part| (part.number, part.clone())).collect()
}

fn refused(what: &str, head: &response::Parts, text: &str) -> UploadError {
    match element(text, "Code").as_deref() {
        Some("NoSuchUpload" | "InvalidPart" | "InvalidPartOrder") => UploadError::Gone(describe(what, head, text)),
        _ => failure(what, head, text).into(),
    }
}

/// Text with the special characters of XML escaped.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether the remote names the checksum that follows from the checksums of our parts.
fn checked(text: &str, parts: &BTreeMap<u32, UploadedPart>) -> bool {
    let all: Vec<u8> = parts.values().flat_map(|part| *part.sha256.as_bytes()).collect();
    let expected = checksum(&Digest::of(&all));
    element(text, "ChecksumSHA256").is_some_and(|found| found.split('-').next() == Some(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_is_read_back() {
        let text = "\"<&amp;>'";
        assert_eq!(element(&format!("<T>{}</T>", escaped(text)), "T").as_deref(), Some(text));
    }
}
