//! Uploads that nobody will complete. Their parts take up space until they are aborted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use contract::{Digest, Timestamp};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::answer::{all, element_of, failure};
use super::{Call, S3Remote, UPLOAD_ID_BYTES, now, timestamp};
use crate::remote::wire::xml::{self, Element};
use crate::remote::wire::{answer, encode_path, later};
use crate::remote::{MultipartUpload, RemoteError};

/// An upload of this age that no record has belongs to nobody: a finaliser records an upload at once, or dies.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the bucket is asked. Lists cost money, and every upload found is a day old already.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// The most pages that one listing reads, of 1,000 uploads each. Later pages follow once these uploads are gone.
const PAGES: usize = 10;

/// The most bytes of a key.
const KEY_BYTES: usize = 1024;

/// Where to list uploads, and when they were last listed.
#[derive(Debug)]
pub(super) struct OldUploads {
    /// The path of the bucket, and the prefix of all our keys. `None` if the remote is a whole bucket: other programs
    /// may write there too, so their uploads could not be told from ours.
    folder: Option<(String, String)>,
    asked: Mutex<Option<Instant>>,
}

impl OldUploads {
    /// `path` is the encoded path of the remote, with `/` at both ends.
    pub(super) fn new(path: &str, bucket_in_host: bool) -> Self {
        let bucket_ends = if bucket_in_host { 1 } else { path[1..].find('/').map_or(path.len(), |at| at + 2) };
        let (bucket, prefix) = path.split_at(bucket_ends);
        let prefix = percent_decode_str(prefix).decode_utf8_lossy().into_owned();
        let folder = (!prefix.is_empty()).then(|| (bucket.to_owned(), prefix));
        Self { folder, asked: Mutex::new(None) }
    }

    /// Where to list uploads, if it is time.
    fn due(&self) -> Option<&(String, String)> {
        let folder = self.folder.as_ref()?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return None;
        }
        *asked = Some(Instant::now());
        Some(folder)
    }
}

impl S3Remote {
    /// Aborts an upload.
    pub(super) async fn abort(&self, upload: &MultipartUpload) -> Result<(), RemoteError> {
        let Some(key) = upload.address.strip_prefix(&self.settings.url) else {
            // The settings have changed, so it cannot be aborted here.
            tracing::warn!(address = upload.address, "an upload is left behind at what was this remote");
            return Ok(());
        };
        let what = format!("DELETE {} upload", upload.address);
        let (path, query) = (format!("{}{key}", self.path), [("uploadId", &*upload.id)]);
        let payload = Digest::of_nothing();
        let call = Call { method: Method::DELETE, host: &self.host, path: &path, query: &query, fields: &[], payload };
        let (head, text) = self.command(&what, self.sign(call)?, Bytes::new()).await?;
        match head.status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(failure(&what, &head, &text)),
        }
    }

    /// The uploads beneath our own folder that are older than a day.
    pub(super) async fn find_old_uploads(&self) -> Result<Vec<MultipartUpload>, RemoteError> {
        let Some((bucket, prefix)) = self.old_uploads.due() else { return Ok(Vec::new()) };
        let what = format!("GET uploads beneath {}", self.settings.url);
        let mut old = Vec::new();
        let mut after: Option<(String, String)> = None;
        for _ in 0..PAGES {
            let mut query = vec![("uploads", ""), ("prefix", &**prefix)];
            if let Some((key, id)) = &after {
                query.extend([("key-marker", &**key), ("upload-id-marker", id)]);
            }
            let payload = Digest::of_nothing();
            let call =
                Call { method: Method::GET, host: &self.host, path: bucket, query: &query, fields: &[], payload };
            let (head, text) = self.command(&what, self.sign(call)?, Bytes::new()).await?;
            if !head.status.is_success() {
                return Err(failure(&what, &head, &text));
            }
            // A list may be long, so it is read off the threads that serve connections. Reading does not panic.
            let reading = tokio::task::spawn_blocking(move || xml::read(&text));
            let list = reading.await.map_err(|_| RemoteError::Stopped)?.map_err(|why| later(&what, &why))?;
            // The server's clock gave the uploads their times.
            let now = answer::answered_at(&head.headers).map_or_else(now, timestamp);
            old.extend(listed(&list, now).filter_map(|(key, id)| self.beneath(prefix, &key, id)));
            let next = |name| element_of(&list, name).filter(|next| !next.is_empty());
            after = match (next("IsTruncated").as_deref(), next("NextKeyMarker"), next("NextUploadIdMarker")) {
                (Some("true"), Some(key), Some(id)) => Some((key, id)),
                _ => break,
            };
        }
        Ok(old)
    }

    /// An upload by its key, if the key is ours: a server that ignores the prefix lists other uploads too.
    fn beneath(&self, prefix: &str, key: &str, id: String) -> Option<MultipartUpload> {
        // A key that had to be changed to be readable names another object, and no key is longer.
        let name = key.strip_prefix(prefix).filter(|name| !name.contains('\u{FFFD}') && name.len() <= KEY_BYTES)?;
        Some(MultipartUpload { id, address: format!("{}{}", self.settings.url, encode_path(name)) })
    }
}

/// The keys and ids of the old uploads in a list.
fn listed(list: &Element, now: Timestamp) -> impl Iterator<Item = (String, String)> {
    let is_old = move |begun: Timestamp| begun.after(OLD) < now;
    all(list, "Upload").filter_map(move |upload| {
        let begun = Timestamp::try_from(element_of(upload, "Initiated")?).ok()?;
        let (key, id) = (element_of(upload, "Key")?, element_of(upload, "UploadId")?);
        // No upload of ours has a longer id.
        (is_old(begun) && id.len() <= UPLOAD_ID_BYTES).then_some((key, id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_listed_only_beneath_a_folder_of_the_bucket() {
        let folder = |path, bucket_in_host| OldUploads::new(path, bucket_in_host).due().cloned();
        let some = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(folder("/bucket/", false), None);
        assert_eq!(folder("/bucket/in/x%20y/", false), some("/bucket/", "in/x y/"));
        assert_eq!(folder("/", true), None);
        assert_eq!(folder("/in/", true), some("/", "in/"));
        assert_eq!(folder("/", false), None);
    }

    #[test]
    fn the_bucket_is_asked_once_an_hour() {
        let uploads = OldUploads::new("/bucket/in/", false);
        assert!(uploads.due().is_some());
        assert!(uploads.due().is_none());
    }
}
