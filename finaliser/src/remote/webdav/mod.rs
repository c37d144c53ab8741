//! A collection of a server that speaks WebDAV (RFC 4918).

mod collections;
mod multistatus;

use std::time::Duration;

use contract::{ObjectName, ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use hyper::http::response;
use hyper::{StatusCode, header};
use settings::WebdavRemote as Settings;

use super::http::Server;
use super::staging_name::{StagingName, check_not_staging, explain_refusal};
use super::wire::{Uploaded, answer, encode, encoded, evidence, later};
use super::{Comparison, Evidence, Object, Precondition, Remote, RemoteError, Source};
use collections::Kind;

/// The pause before a name that should be there is looked for once more: it may show a moment after a MOVE, and another
/// delivery may still be making a collection.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// A collection. A file is written to its collection for staging files, under a temporary name, and moved when it is
/// complete.
#[derive(Debug)]
pub(super) struct WebdavRemote {
    server: Server,
    /// The name of the collection for staging files.
    staging: ObjectName,
}

/// Why a staging file was not moved, and where it is now.
enum NotMoved {
    /// It is still in place, and no move of it is in progress.
    Staged(RemoteError),
    /// It may have been moved, or the move may be in progress.
    Unknown(RemoteError),
}

impl WebdavRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        Ok(Self { server: Server::open(&settings.server)?, staging: settings.staging_folder() })
    }

    async fn write(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        check_not_staging(&object.path, &self.staging)?;
        let made = collections::make_staging(&self.server, &self.staging).await;
        made.map_err(|error| explain_refusal(error, &self.staging))?;
        let name = StagingName::of(object);
        if let Err(error) = self.put_staging_file(name, object, &source).await {
            self.clean_up(name).await;
            return Err(error);
        }
        fail::fail_point!("aside-before-rename", |_| std::process::abort());
        let published = self.publish(name, object).await;
        fail::fail_point!("aside-after-rename", |_| std::process::abort());
        match published {
            Ok(evidence) => Ok(evidence),
            Err(NotMoved::Staged(error)) => {
                self.clean_up(name).await;
                Err(error)
            }
            // The server may still be moving it, for example by copying, so it is left to garbage collection.
            Err(NotMoved::Unknown(error)) => Err(error),
        }
    }

    /// The encoded path of a staging file.
    fn staging_path(&self, name: StagingName) -> String {
        format!("{}/{name}", encode(self.staging.as_str()))
    }

    async fn put_staging_file(&self, name: StagingName, object: &Object, source: &Source) -> Result<(), RemoteError> {
        let path = self.staging_path(name);
        let what = format!("PUT {}", self.server.address_of(&path));
        let request = self.server.request("PUT", &path)?.header(header::IF_NONE_MATCH, "*");
        let body = source.open().await;
        let Uploaded { head, text } = self.server.put(&what, None, request, object, body).await?;
        match head.status {
            status if answer::is_done(status) => Ok(()),
            // Only a complete staging file may be moved.
            status if status.is_success() => {
                let said = answer::describe(&what, &head, &text);
                self.server.confirm(&said, &head, &path, object).await.map(drop)
            }
            // Another writer has the name. The next try uses another.
            StatusCode::PRECONDITION_FAILED => Err(later(&what, "something has that name already")),
            _ => Err(answer::refusal(&what, &head, &text)),
        }
    }

    /// Moves the file to its path, and makes the collections of that path as needed.
    async fn publish(&self, name: StagingName, object: &Object) -> Result<Evidence, NotMoved> {
        collections::make_within(&self.server, &object.path).await.map_err(NotMoved::Staged)?;
        let replace = match &object.precondition {
            Precondition::NameIsFree => false,
            Precondition::Replace(etag) => self.may_replace(object, etag.as_deref()).await.map_err(NotMoved::Staged)?,
        };
        if !(object.still_ours)() {
            return Err(NotMoved::Staged(RemoteError::Stopped));
        }
        self.send_move(name, object, replace).await
    }

    /// A proxy that ends TLS, or has another host name, makes the server take our address for that of another server.
    /// Then the path alone is the destination, which is allowed as well (RFC 4918, section 10.3).
    async fn send_move(&self, name: StagingName, object: &Object, replace: bool) -> Result<Evidence, NotMoved> {
        let address = self.server.address(&object.path);
        let what = format!("MOVE to {address}");
        let (head, text) = self.ask_to_move(&what, name, &address, replace).await?;
        if !matches!(head.status, StatusCode::BAD_GATEWAY | StatusCode::BAD_REQUEST) {
            return self.moved(name, &what, &head, &text, object, replace).await;
        }
        // 502 may also come from a proxy that lost the answer.
        let may_be_moved = head.status.is_server_error();
        let path = self.server.path_of(&encoded(&object.path));
        let what = format!("{}; MOVE to {path}", answer::describe(&what, &head, &text));
        if !(object.still_ours)() {
            return Err(NotMoved::Unknown(RemoteError::Stopped));
        }
        let (head, text) = self.ask_to_move(&what, name, &path, replace).await?;
        match self.moved(name, &what, &head, &text, object, replace).await {
            Err(NotMoved::Staged(error)) if may_be_moved => Err(NotMoved::Unknown(error)),
            moved => moved,
        }
    }

    /// The head of the answer, and its text unless it is a success.
    async fn ask_to_move(
        &self,
        what: &str,
        name: StagingName,
        destination: &str,
        replace: bool,
    ) -> Result<(response::Parts, String), NotMoved> {
        let request = self
            .server
            .request("MOVE", &self.staging_path(name))
            .map_err(NotMoved::Staged)?
            .header("destination", destination)
            .header("overwrite", if replace { "T" } else { "F" });
        let asked = self.server.exchange(what, request, Bytes::new()).await;
        let (mut connection, answer) = asked.map_err(NotMoved::Unknown)?;
        let (head, content) = answer.into_parts();
        let text = match answer::is_done(head.status) {
            true => String::new(),
            false => connection.text(&head, content).await,
        };
        Ok((head, text))
    }

    /// What the answer to a MOVE means.
    async fn moved(
        &self,
        name: StagingName,
        what: &str,
        head: &response::Parts,
        text: &str,
        object: &Object,
        replace: bool,
    ) -> Result<Evidence, NotMoved> {
        let error = match head.status {
            status if answer::is_done(status) => {
                self.check_name(name, what, head, object).await?;
                return Ok(evidence(head, RemoteProof::Put, object.size));
            }
            // The server accepted the move, or did part of it.
            status if status.is_success() => {
                let said = answer::describe(what, head, text);
                let confirmed = self.server.confirm(&said, head, &encoded(&object.path), object).await;
                return confirmed.map_err(NotMoved::Unknown);
            }
            StatusCode::PRECONDITION_FAILED if !replace => {
                return Err(NotMoved::Staged(RemoteError::Conflict(answer::describe(what, head, ""))));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FAILED_DEPENDENCY => {
                RemoteError::Later { detail: answer::describe(what, head, text), after: None }
            }
            _ => answer::refusal(what, head, text),
        };
        let error = self.cause(object, replace, error).await;
        Err(match head.status.is_server_error() {
            true => NotMoved::Unknown(error),
            false => NotMoved::Staged(error),
        })
    }

    /// Looks for the file by its name after a MOVE. Some servers store odd names under others: wsgidav cuts a name at
    /// `;` and drops line ends.
    async fn check_name(
        &self,
        name: StagingName,
        what: &str,
        head: &response::Parts,
        object: &Object,
    ) -> Result<(), NotMoved> {
        let said = answer::describe(what, head, "");
        let path = encoded(&object.path);
        for pause in [Duration::ZERO, LOOK_PAUSE] {
            tokio::time::sleep(pause).await;
            match collections::kind(&self.server, &path).await {
                Ok(Kind::File | Kind::Unknown) => return Ok(()),
                Ok(Kind::Nothing | Kind::Collection) => {}
                // The file was moved, so no refusal of this question may fail it.
                Err(error) => return Err(NotMoved::Unknown(later(&said, &error.to_string()))),
            }
        }
        let staging = self.staging_path(name);
        let is_moved = matches!(collections::kind(&self.server, &staging).await, Ok(Kind::Nothing));
        if is_moved && object.path.to_string().chars().all(is_plain) {
            // No server alters such a name, so the file was there, and somebody has taken it out of the folder since.
            tracing::warn!(file = %object.file_id, "{said}, but the server has no file of that name any more");
            return Ok(());
        }
        let why = "the server has no file of that name; it may have stored it under another";
        Err(NotMoved::Staged(RemoteError::Refused(format!("{said}, but {why}"))))
    }

    /// Why a move failed. If a collection has the path, or something else has the path of one of its collections,
    /// servers answer with any status.
    async fn cause(&self, object: &Object, replace: bool, said: RemoteError) -> RemoteError {
        let folders = object.path.folders();
        if !folders.is_empty()
            && let Ok(refused @ RemoteError::Refused(_)) = collections::blocked(&self.server, folders).await
        {
            return refused;
        }
        match collections::kind(&self.server, &encoded(&object.path)).await {
            Ok(Kind::Collection) if !replace => RemoteError::Conflict(format!("{said}; a collection has the name")),
            _ => said,
        }
    }

    /// Whether there is a file to replace. A collection is not replaced: all of its members would be lost. Neither is a
    /// file that changed since the comparison, as far as its entity tag shows that.
    async fn may_replace(&self, object: &Object, seen: Option<&str>) -> Result<bool, RemoteError> {
        let path = encoded(&object.path);
        let address = self.server.address_of(&path);
        match collections::kind(&self.server, &path).await? {
            Kind::Nothing => return Ok(false),
            Kind::Collection => {
                return Err(RemoteError::Refused(format!("expected no collection at {address}: it is not replaced")));
            }
            // It may be a collection.
            Kind::Unknown => {
                let why = "the server does not tell whether it is a collection";
                return Err(RemoteError::Refused(format!("{address} is not replaced: {why}")));
            }
            Kind::File => {}
        }
        let Some(seen) = seen else { return Ok(true) };
        let head = self.server.head(&format!("HEAD {address}"), &path).await?;
        match answer::etag(&head) {
            Some(found) if found != seen => {
                Err(RemoteError::Conflict(format!("{address}: expected the entity tag {seen}, found {found}")))
            }
            _ => Ok(true),
        }
    }

    async fn compare_file(&self, object: &Object) -> Result<Comparison, RemoteError> {
        check_not_staging(&object.path, &self.staging)?;
        match collections::kind(&self.server, &encoded(&object.path)).await? {
            Kind::Nothing => Ok(Comparison::Absent),
            Kind::Collection => Ok(Comparison::Different("a collection".to_owned().into())),
            Kind::File | Kind::Unknown => self.server.compare(&encoded(&object.path), object).await,
        }
    }

    /// Best effort: garbage collection removes what is left.
    async fn clean_up(&self, name: StagingName) {
        if let Err(error) = self.remove(name).await {
            tracing::debug!("the staging file {name} was left: {error}");
        }
    }

    async fn remove(&self, name: StagingName) -> Result<(), RemoteError> {
        let path = self.staging_path(name);
        let what = format!("DELETE {}", self.server.address_of(&path));
        let request = self.server.request("DELETE", &path)?;
        let (mut connection, answer) = self.server.exchange(&what, request, Bytes::new()).await?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(answer::refusal(&what, &head, &connection.text(&head, content).await)),
        }
    }
}

impl Remote for WebdavRemote {
    fn address(&self, path: &ObjectPath) -> String {
        self.server.address(path)
    }

    fn compare<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Comparison, RemoteError>> {
        Box::pin(self.compare_file(object))
    }

    fn send<'a>(&'a self, object: &'a Object, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(object, source))
    }

    fn staging_files(&self) -> BoxFuture<'_, Result<Vec<StagingName>, RemoteError>> {
        Box::pin(collections::staging_files(&self.server, &self.staging))
    }

    fn remove_staging_file(&self, name: StagingName) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(self.remove(name))
    }
}

/// Whether a character of a name is one that every server stores as it is.
const fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '/')
}
