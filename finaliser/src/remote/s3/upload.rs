//! Uploads in parts. Whoever holds the file next goes on where the last one stopped.

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
use super::{CHECKSUM, S3Remote, checksum, evidence, later, sha256_field};
use crate::remote::body::Body;
use crate::remote::wire::{Pool, Uploaded, answer};
use crate::remote::{Evidence, Parcel, Remote, RemoteError, Source, UploadLog};

/// Why an upload did not get on.
enum UploadError {
    /// The remote does not have it, or not as we know it: only a new one helps.
    Gone(String),
    Remote(RemoteError),
}

impl From<RemoteError> for UploadError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl S3Remote {
    /// Sends what the remote does not have yet of a file, and has it put together.
    pub(super) async fn send_in_parts(
        &self,
        parcel: &Parcel,
        source: Source,
        log: &UploadLog,
    ) -> Result<Evidence, RemoteError> {
        let upload = self.begin(parcel, log).await?;
        let sending = Sending { remote: self, parcel, log, known: known(&upload), upload };
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

    /// The upload that is under way, or a new one, recorded before anything is sent.
    async fn begin(&self, parcel: &Parcel, log: &UploadLog) -> Result<Upload, RemoteError> {
        let address = self.address(&parcel.object);
        match log.known() {
            Some(known) if known.address == address && known.part_size > 0 => return Ok(known),
            // Settings changed: from here it can neither go on nor be aborted.
            Some(known) => tracing::warn!(file = %parcel.file_id, address = known.address, "an upload is left behind"),
            None => {}
        }
        let what = format!("POST {address}?uploads");
        let mut fields = vec![sha256_field(parcel)];
        if self.settings.checksums {
            fields.push(("x-amz-checksum-algorithm", "SHA256".to_owned()));
        }
        let request = self
            .request(Method::POST, &parcel.object, &[("uploads", "")], &fields, Digest::of_nothing())?
            .header(header::CONTENT_TYPE, "application/octet-stream");
        let (head, text) = self.command(&what, request, Bytes::new()).await?;
        if !head.status.is_success() {
            return Err(failure(&what, &head, &text));
        }
        let id = element(&text, "UploadId").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| later(&what, "the answer has no UploadId"))?;
        let part_size = part_size(parcel.size, self.settings.part_size);
        let upload = Upload { id, address, part_size, parts: Vec::new() };
        log.begin(upload.clone()).await?;
        Ok(upload)
    }
}

/// An upload under way.
struct Sending<'a> {
    remote: &'a S3Remote,
    parcel: &'a Parcel,
    log: &'a UploadLog,
    upload: Upload,
    /// The parts that the remote had before.
    known: BTreeMap<u32, UploadedPart>,
}

impl Sending<'_> {
    /// Sends the parts that are missing, several at once.
    async fn send_parts(&self, body: Body) -> Result<(), UploadError> {
        let mut parts = Parts::new(body, self.upload.part_size);
        // One more is gathered meanwhile.
        let most = self.remote.settings.in_flight_bytes / self.upload.part_size;
        let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(1).max(1);
        let connections = Pool::new(&self.remote.connector);
        let mut on_their_way = FuturesUnordered::new();
        let mut more = true;
        while more || !on_their_way.is_empty() {
            tokio::select! {
                part = parts.next(), if more && on_their_way.len() < most => match part {
                    Some(part) => on_their_way.push(self.send_part(&connections, part?)),
                    None => more = false,
                },
                Some(sent) = on_their_way.next() => sent?,
            }
        }
        Ok(())
    }

    /// Sends a part, unless the remote has the same bytes under its number.
    async fn send_part(&self, connections: &Pool<'_>, part: Part) -> Result<(), UploadError> {
        let Self { remote, parcel, upload, .. } = self;
        let (number, len, sha256) = (part.number, part.len, part.sha256().await?);
        if self.known.get(&number).is_some_and(|known| known.sha256 == sha256) {
            return Ok(());
        }
        let what = format!("PUT {} part {number}", upload.address);
        let fields = if remote.settings.checksums { vec![(CHECKSUM, checksum(&sha256))] } else { vec![] };
        let query = [("partNumber", &*number.to_string()), ("uploadId", &upload.id)];
        // The same bytes under the same number: the server may get them twice.
        let request = || {
            let request = remote.request(Method::PUT, &parcel.object, &query, &fields, sha256)?;
            Ok((request.header(header::CONTENT_LENGTH, len), part.body()))
        };
        let Uploaded { head, text } = connections.upload(&what, request, &parcel.still_ours).await?;
        if !head.status.is_success() {
            return Err(refused(&what, &head, &text));
        }
        let etag = answer::etag(&head).ok_or_else(|| later(&what, "the answer has no ETag"))?;
        self.log.part(&upload.id, UploadedPart { number, etag, sha256 }, len).await?;
        Ok(())
    }

    /// Has the parts put together. From here on the file is visible.
    async fn complete(&self) -> Result<Evidence, UploadError> {
        let Self { remote, parcel, log, .. } = self;
        // Dropped from the record meanwhile only if it is not ours any more.
        let upload = log.known().ok_or(RemoteError::Stopped)?;
        let what = format!("POST {} with all parts", upload.address);
        let parts = known(&upload);
        let wanted = parcel.size.div_ceil(upload.part_size);
        if !(1..).zip(parts.keys()).all(|(number, found)| number == *found) || parts.len() as u64 != wanted {
            return Err(UploadError::Gone(format!("{what}: expected {wanted} parts, found {}", parts.len())));
        }
        let body = Bytes::from(self.parts_as_xml(&parts));
        let query = [("uploadId", &*upload.id)];
        let request = remote.request(Method::POST, &parcel.object, &query, &[], Digest::of(&body))?;
        let request = remote.conditional(request, &parcel.onto).header(header::CONTENT_TYPE, "application/xml");
        if !(parcel.still_ours)() {
            return Err(RemoteError::Stopped.into());
        }
        let (head, text) = remote.command(&what, request, body).await?;
        match head.status {
            // A server that begins its answer early has only the text left to say that it failed.
            status if status.is_success() => match element(&text, "ETag") {
                Some(etag) if !is_error(&text) => {
                    log.complete();
                    let proof = if checked(&text, &parts) { RemoteProof::Checksum } else { RemoteProof::Parts };
                    let named = element(&text, "ChecksumSHA256");
                    Ok(Evidence {
                        etag: answer::kept(&etag),
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
            StatusCode::PRECONDITION_FAILED => Err(RemoteError::Clash(describe(&what, &head, &text)).into()),
            // Another was put there while the parts were put together: this upload is over.
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

/// The parts by number; of one that was sent twice the later.
fn known(upload: &Upload) -> BTreeMap<u32, UploadedPart> {
    upload.parts.iter().map(|part| (part.number, part.clone())).collect()
}

fn refused(what: &str, head: &response::Parts, text: &str) -> UploadError {
    match element(text, "Code").as_deref() {
        Some("NoSuchUpload" | "InvalidPart" | "InvalidPartOrder") => UploadError::Gone(describe(what, head, text)),
        _ => failure(what, head, text).into(),
    }
}

/// Text as an element of XML may hold it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether the remote names the checksum of our parts' checksums.
fn checked(text: &str, parts: &BTreeMap<u32, UploadedPart>) -> bool {
    let all: Vec<u8> = parts.values().flat_map(|part| *part.sha256.as_bytes()).collect();
    let expected = checksum(&Digest::of(&all));
    element(text, "ChecksumSHA256").is_some_and(|found| found.split('-').next() == Some(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_read_back() {
        let text = "\"<&amp;>'";
        assert_eq!(element(&format!("<T>{}</T>", escaped(text)), "T").as_deref(), Some(text));
    }
}
