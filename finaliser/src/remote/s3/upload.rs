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
use crate::remote::{Evidence, KeptUpload, Parcel, Remote, RemoteError};

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
    pub(super) async fn send_in_parts(&self, parcel: &Parcel, body: Body) -> Result<Evidence, RemoteError> {
        let upload = self.upload(parcel).await?;
        let sent = match self.send_parts(parcel, &upload, body).await {
            Ok(()) => self.complete(parcel).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(evidence) => Ok(evidence),
            Err(UploadError::Remote(error)) => Err(error),
            Err(UploadError::Gone(detail)) => {
                // What is left of it must go before it is forgotten.
                self.give_up(parcel, &upload).await?;
                Err(RemoteError::Later { detail, after: None })
            }
        }
    }

    /// The upload that is under way, or a new one, recorded before anything is sent.
    async fn upload(&self, parcel: &Parcel) -> Result<Upload, RemoteError> {
        let address = self.address(&parcel.object);
        match parcel.upload.known() {
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
        parcel.upload.begin(upload.clone()).await?;
        Ok(upload)
    }

    /// Sends the parts that are missing, several at once.
    async fn send_parts(&self, parcel: &Parcel, upload: &Upload, body: Body) -> Result<(), UploadError> {
        let known = known(upload);
        let mut parts = Parts::new(body, upload.part_size);
        // One more is gathered meanwhile.
        let most = usize::try_from(self.settings.in_flight_bytes / upload.part_size).unwrap_or(usize::MAX);
        let most = most.saturating_sub(1).max(1);
        let connections = Pool::new(&self.connector);
        let mut on_their_way = FuturesUnordered::new();
        let mut more = true;
        while more || !on_their_way.is_empty() {
            tokio::select! {
                part = parts.next(), if more && on_their_way.len() < most => match part {
                    Some(part) => on_their_way.push(self.send_part(&connections, parcel, (upload, &known), part?)),
                    None => more = false,
                },
                Some(sent) = on_their_way.next() => sent?,
            }
        }
        Ok(())
    }

    /// Sends a part, unless the remote has the same bytes under its number.
    async fn send_part(
        &self,
        connections: &Pool<'_>,
        parcel: &Parcel,
        (upload, known): (&Upload, &BTreeMap<u32, UploadedPart>),
        part: Part,
    ) -> Result<(), UploadError> {
        let (number, len, sha256) = (part.number, part.len, part.sha256().await?);
        if known.get(&number).is_some_and(|known| known.sha256 == sha256) {
            return Ok(());
        }
        let what = format!("PUT {} part {number}", upload.address);
        let fields = if self.settings.checksums { vec![(CHECKSUM, checksum(&sha256))] } else { vec![] };
        let query = [("partNumber", &*number.to_string()), ("uploadId", &upload.id)];
        // The same bytes under the same number: the server may get them twice.
        let request = || {
            let request = self.request(Method::PUT, &parcel.object, &query, &fields, sha256)?;
            Ok((request.header(header::CONTENT_LENGTH, len), part.body()))
        };
        let Uploaded { head, text } = connections.upload(&what, request, &parcel.still_ours).await?;
        if !head.status.is_success() {
            return Err(refused(&what, &head, &text));
        }
        let etag = answer::etag(&head).ok_or_else(|| later(&what, "the answer has no ETag"))?;
        parcel.upload.part(&upload.id, UploadedPart { number, etag, sha256 }, len).await?;
        Ok(())
    }

    /// Has the parts put together. From here on the file is visible.
    async fn complete(&self, parcel: &Parcel) -> Result<Evidence, UploadError> {
        // Dropped from the record meanwhile only if it is not ours any more.
        let upload = parcel.upload.known().ok_or(RemoteError::Stopped)?;
        let what = format!("POST {} with all parts", upload.address);
        let parts = known(&upload);
        let wanted = parcel.size.div_ceil(upload.part_size);
        if !(1..).zip(parts.keys()).all(|(number, found)| number == *found) || parts.len() as u64 != wanted {
            return Err(UploadError::Gone(format!("{what}: expected {wanted} parts, found {}", parts.len())));
        }
        let body = Bytes::from(self.parts_as_xml(&parts));
        let query = [("uploadId", &*upload.id)];
        let request = self.request(Method::POST, &parcel.object, &query, &[], Digest::of(&body))?;
        let request = self.conditional(request, &parcel.onto).header(header::CONTENT_TYPE, "application/xml");
        if !(parcel.still_ours)() {
            return Err(RemoteError::Stopped.into());
        }
        let (head, text) = self.command(&what, request, body).await?;
        match head.status {
            // A server that begins its answer early has only the text left to say that it failed.
            status if status.is_success() => match element(&text, "ETag") {
                Some(etag) if !is_error(&text) => {
                    parcel.upload.complete();
                    let proof = if checked(&text, &parts) { RemoteProof::Checksum } else { RemoteProof::Parts };
                    let named = element(&text, "ChecksumSHA256");
                    Ok(Evidence {
                        etag: answer::kept(&etag),
                        checksum: named.and_then(|value| answer::checksum_of(CHECKSUM, &value)),
                        ..evidence(&head, proof, parcel.upload.sent())
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
            if self.settings.checksums {
                xml.push_str(&format!("<ChecksumSHA256>{}</ChecksumSHA256>", checksum(&part.sha256)));
            }
            xml.push_str("</Part>");
        }
        xml.push_str("</CompleteMultipartUpload>");
        xml
    }

    /// Has the remote drop the parts that it has, and forgets them.
    pub(super) async fn give_up(&self, parcel: &Parcel, upload: &Upload) -> Result<(), RemoteError> {
        self.drop_parts(&KeptUpload { id: upload.id.clone(), address: upload.address.clone() }).await?;
        parcel.upload.forget(&upload.id).await
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
