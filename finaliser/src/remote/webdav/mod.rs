//! A collection of a server that speaks WebDAV (RFC 4918).

mod collections;
mod multistatus;

use contract::{ObjectPath, RemoteProof};
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use hyper::{StatusCode, header};
use settings::WebdavRemote as Settings;

use super::aside_name::{AsideName, plain_name};
use super::http::Server;
use super::wire::{Uploaded, answer, encoded, evidence, later};
use super::{Evidence, Look, Onto, Parcel, Remote, RemoteError, Source};
use collections::Kind;

/// A collection. What is being written lies in `.waybill/` in it, where it has a name of its own; the whole is moved.
#[derive(Debug)]
pub(super) struct WebdavRemote {
    server: Server,
}

/// What a file that was written aside and not moved is then.
enum NotPlaced {
    /// There still, and no move of it is under way.
    Aside(RemoteError),
    /// Moved, or not.
    Unknown(RemoteError),
}

impl WebdavRemote {
    /// Checks the address and reads the certificates; connects to nothing.
    pub(super) fn open(settings: &Settings) -> Result<Self, RemoteError> {
        Ok(Self { server: Server::open(&settings.server)? })
    }

    async fn write(&self, parcel: &Parcel, source: Source) -> Result<Evidence, RemoteError> {
        plain_name(&parcel.object)?;
        collections::make_aside(&self.server).await?;
        let name = AsideName::of(parcel);
        if let Err(error) = self.put_aside(name, parcel, &source).await {
            self.clean_up(name).await;
            return Err(error);
        }
        fail::fail_point!("aside-before-rename", |_| std::process::abort());
        let placed = self.place(name, parcel).await;
        fail::fail_point!("aside-after-rename", |_| std::process::abort());
        match placed {
            Ok(evidence) => Ok(evidence),
            Err(NotPlaced::Aside(error)) => {
                self.clean_up(name).await;
                Err(error)
            }
            // A server that moves by copying may be at it: it is left to whoever tidies up.
            Err(NotPlaced::Unknown(error)) => Err(error),
        }
    }

    async fn put_aside(&self, name: AsideName, parcel: &Parcel, source: &Source) -> Result<(), RemoteError> {
        let what = format!("PUT {}", self.server.address_of(&name.path()));
        let request = self.server.request("PUT", &name.path())?.header(header::IF_NONE_MATCH, "*");
        let body = source.open().await;
        let Uploaded { head, text } = self.server.put(&what, None, request, parcel, body).await?;
        match head.status {
            status if status.is_success() => Ok(()),
            // Not ours, whoever wrote it. The next try has another name.
            StatusCode::PRECONDITION_FAILED => Err(later(&what, "something has that name already")),
            _ => Err(answer::refusal(&what, &head, &text)),
        }
    }

    /// Gives the file its final name, in collections that are made as needed.
    async fn place(&self, name: AsideName, parcel: &Parcel) -> Result<Evidence, NotPlaced> {
        collections::make_within(&self.server, &parcel.object).await.map_err(NotPlaced::Aside)?;
        let replace = match &parcel.onto {
            Onto::Nothing => false,
            Onto::Replacing(etag) => self.may_replace(parcel, etag.as_deref()).await.map_err(NotPlaced::Aside)?,
        };
        if !(parcel.still_ours)() {
            return Err(NotPlaced::Aside(RemoteError::Stopped));
        }
        self.rename(name, parcel, replace).await
    }

    async fn rename(&self, name: AsideName, parcel: &Parcel, replace: bool) -> Result<Evidence, NotPlaced> {
        let address = self.server.address(&parcel.object);
        let what = format!("MOVE to {address}");
        let request = self
            .server
            .request("MOVE", &name.path())
            .map_err(NotPlaced::Aside)?
            .header("destination", address)
            .header("overwrite", if replace { "T" } else { "F" });
        let asked = self.server.exchange(&what, request, Bytes::new()).await;
        let (mut connection, answer) = asked.map_err(NotPlaced::Unknown)?;
        let (head, content) = answer.into_parts();
        match head.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                return Ok(evidence(&head, RemoteProof::Put, parcel.size));
            }
            StatusCode::PRECONDITION_FAILED if !replace => {
                return Err(NotPlaced::Aside(RemoteError::Clash(answer::describe(&what, &head, ""))));
            }
            _ => {}
        }
        let text = connection.text(&head, content).await;
        let said = answer::describe(&what, &head, &text);
        let error = match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::LOCKED | StatusCode::FAILED_DEPENDENCY => {
                RemoteError::Later { detail: said, after: None }
            }
            // Done later, or in part.
            status if status.is_success() => {
                return Err(NotPlaced::Unknown(RemoteError::Later { detail: said, after: None }));
            }
            _ => answer::refusal(&what, &head, &text),
        };
        let error = self.cause(parcel, replace, error).await;
        Err(match head.status.is_server_error() {
            true => NotPlaced::Unknown(error),
            false => NotPlaced::Aside(error),
        })
    }

    /// Why a move failed: where a collection has the name, or something else the place of a collection, servers say anything.
    async fn cause(&self, parcel: &Parcel, replace: bool, said: RemoteError) -> RemoteError {
        let folders = parcel.object.folders();
        if !folders.is_empty()
            && let Ok(refused @ RemoteError::Refused(_)) = collections::blocked(&self.server, folders).await
        {
            return refused;
        }
        match collections::kind(&self.server, &encoded(&parcel.object)).await {
            Ok(Kind::Collection) if !replace => RemoteError::Clash(format!("{said}; a collection has the name")),
            _ => said,
        }
    }

    /// Whether there is something to replace. A collection never is: with it went all that is in it. Nor is what came since
    /// the remote was looked at, as far as it shows by its entity tag.
    async fn may_replace(&self, parcel: &Parcel, seen: Option<&str>) -> Result<bool, RemoteError> {
        let path = encoded(&parcel.object);
        let address = self.server.address_of(&path);
        match collections::kind(&self.server, &path).await? {
            Kind::Nothing => return Ok(false),
            Kind::Collection => {
                return Err(RemoteError::Refused(format!("expected no collection at {address}: it is not replaced")));
            }
            // It might be one.
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
                Err(RemoteError::Clash(format!("{address}: expected the entity tag {seen}, found {found}")))
            }
            _ => Ok(true),
        }
    }

    async fn find(&self, parcel: &Parcel) -> Result<Look, RemoteError> {
        plain_name(&parcel.object)?;
        match collections::kind(&self.server, &encoded(&parcel.object)).await? {
            Kind::Nothing => Ok(Look::Absent),
            Kind::Collection => Ok(Look::Other("a collection".to_owned().into())),
            Kind::File | Kind::Unknown => self.server.find(parcel).await,
        }
    }

    /// Best effort: what is left is found and removed later.
    async fn clean_up(&self, name: AsideName) {
        if let Err(error) = self.remove(name).await {
            tracing::debug!("{name} was left aside: {error}");
        }
    }

    async fn remove(&self, name: AsideName) -> Result<(), RemoteError> {
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
    fn address(&self, object: &ObjectPath) -> String {
        self.server.address(object)
    }

    fn look<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Look, RemoteError>> {
        Box::pin(self.find(parcel))
    }

    fn send<'a>(&'a self, parcel: &'a Parcel, source: Source) -> BoxFuture<'a, Result<Evidence, RemoteError>> {
        Box::pin(self.write(parcel, source))
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<AsideName>, RemoteError>> {
        Box::pin(collections::asides(&self.server))
    }

    fn discard(&self, leftover: AsideName) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(self.remove(leftover))
    }
}
