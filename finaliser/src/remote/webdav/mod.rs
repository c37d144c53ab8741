//! A collection of a server that speaks WebDAV (RFC 4918).

mod collections;
mod multistatus;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use hyper::{StatusCode, header};
use settings::WebdavRemote as Settings;

use super::http::Server;
use super::staging_name::{StagingName, check_not_staging};
use super::wire::{Uploaded, answer, encoded, evidence, later};
use super::{Comparison, Evidence, Object, Precondition, Remote, RemoteError, Source};
use collections::Kind;

/// A collection. A file is written to `.waybill/` in it, under a temporary name, and moved when it is complete.
#[derive(Debug)]
pub(super) struct WebdavRemote {
    server: Server,
}

/// Why a staging file was not moved, and where it is then.
enum NotMoved {
    /// It is where it was, and no move of it is in progress.
    Staged(RemoteError),
    /// It may have been moved, or the move may be in progress.
    Unknown(RemoteError),
}

impl WebdavRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        Ok(Self { server: Server::open(&settings.server)? })
    }

    async fn write(&self, object: &Object, source: Source) -> Result<Evidence, RemoteError> {
        check_not_staging(&object.path)?;
        collections::make_staging(&self.server).await?;
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

    async fn put_staging_file(&self, name: StagingName, object: &Object, source: &Source) -> Result<(), RemoteError> {
        let what = format!("PUT {}", self.server.address_of(&name.path()));
        let request = self.server.request("PUT", &name.path())?.header(header::IF_NONE_MATCH, "*");
        let body = source.open().await;
        let Uploaded { head, text } = self.server.put(&what, None, request, object, body).await?;
        match head.status {
            status if status.is_success() => Ok(()),
            // Another wrote it. The next try has another name.
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

    async fn send_move(&self, name: StagingName, object: &Object, replace: bool) -> Result<Evidence, NotMoved> {
        let address = self.server.address(&object.path);
        let what = format!("MOVE to {address}");
        let request = self
            .server
            .request("MOVE", &name.path())
            .map_err(NotMoved::Staged)?
            .header("destination", address)
            .header("overwrite", if replace { "T" } else { "F" });
        let asked = self.server.exchange(&what, request, Bytes::new()).await;
        let (mut connection, answer) = asked.map_err(NotMoved::Unknown)?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                return Ok(evidence(&head, RemoteProof::Put, object.size));
            }
            StatusCode::PRECONDITION_FAILED if !replace => {
                return Err(NotMoved::Staged(RemoteError::Conflict(answer::describe(&what, &head, ""))));
            }
            _ => {}
        }
        let text = connection.text(&head, content).await;
        let said = answer::describe(&what, &head, &text);
        let error = match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::LOCKED | StatusCode::FAILED_DEPENDENCY => {
                RemoteError::Later { detail: said, after: None }
            }
            // The server accepted the move, or did part of it.
            status if status.is_success() => {
                return Err(NotMoved::Unknown(RemoteError::Later { detail: said, after: None }));
            }
            _ => answer::refusal(&what, &head, &text),
        };
        let error = self.cause(object, replace, error).await;
        Err(match head.status.is_server_error() {
            true => NotMoved::Unknown(error),
            false => NotMoved::Staged(error),
        })
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
        check_not_staging(&object.path)?;
        match collections::kind(&self.server, &encoded(&object.path)).await? {
            Kind::Nothing => Ok(Comparison::Absent),
            Kind::Collection => Ok(Comparison::Different("a collection".to_owned().into())),
            Kind::File | Kind::Unknown => self.server.compare(object).await,
        }
    }

    /// Best effort: garbage collection removes what is left.
    async fn clean_up(&self, name: StagingName) {
        if let Err(error) = self.remove(name).await {
            tracing::debug!("the staging file {name} was left: {error}");
        }
    }

    async fn remove(&self, name: StagingName) -> Result<(), RemoteError> {
        let what = format!("DELETE {}", self.server.address_of(&name.path()));
        let request = self.server.request("DELETE", &name.path())?;
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
        Box::pin(collections::staging_files(&self.server))
    }

    fn remove_staging_file(&self, name: StagingName) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(self.remove(name))
    }
}
