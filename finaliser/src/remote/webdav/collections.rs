//! Collections: what they contain, and how they are made.

use contract::{ObjectName, ObjectPath};
use hyper::body::Bytes;
use hyper::http::response;
use hyper::{StatusCode, Uri, header};

use super::LOOK_PAUSE;
use super::multistatus::{self, Member, PROPFIND};
use crate::remote::RemoteError;
use crate::remote::http::Server;
use crate::remote::staging_name::StagingName;
use crate::remote::wire::{ANSWER_BYTES, LIST_BYTES, answer, encode, encoded_folders, later};

/// What a path refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Collection,
    File,
    /// Something, but the server does not say what.
    Unknown,
}

/// What MKCOL led to.
enum Made {
    /// The collection exists now, whoever made it, as far as the server tells.
    There,
    /// The parent collection is missing.
    Orphan,
}

/// What an encoded path without a `/` at its end refers to.
pub(super) async fn kind(server: &Server, path: &str) -> Result<Kind, RemoteError> {
    let what = format!("PROPFIND {}", server.address_of(path));
    let (head, members) = propfind(server, &what, path, "0").await?;
    match (head.status, members) {
        (_, Some(members)) => Ok(match members.first() {
            Some(member) if member.is_collection => Kind::Collection,
            Some(_) => Kind::File,
            None => Kind::Unknown,
        }),
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Ok(Kind::Nothing),
        (status, _) if status.is_redirection() && leads_into(server, path, &head) => Ok(Kind::Collection),
        (status, _) if has_no_propfind(status) => kind_by_head(server, path).await,
        _ => Err(answer::refusal(&what, &head, "")),
    }
}

/// As [`kind`], for a server without PROPFIND. It redirects from a collection's path without `/` to the path with it,
/// and for a file it has nothing at the path with `/`.
async fn kind_by_head(server: &Server, path: &str) -> Result<Kind, RemoteError> {
    let what = format!("HEAD {}", server.address_of(path));
    let head = server.head(&what, path).await?;
    match head.status {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Kind::Nothing),
        status if status.is_redirection() && leads_into(server, path, &head) => return Ok(Kind::Collection),
        status if !status.is_success() => return Ok(Kind::Unknown),
        _ => {}
    }
    let within = server.head(&format!("{what}/"), &format!("{path}/")).await?;
    Ok(match within.status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::File,
        _ => Kind::Unknown,
    })
}

/// The staging files, whoever wrote them. The list is empty if the server cannot list them.
pub(super) async fn staging_files(server: &Server, folder: &ObjectName) -> Result<Vec<StagingName>, RemoteError> {
    let path = format!("{}/", encode(folder.as_str()));
    let what = format!("PROPFIND {}", server.address_of(&path));
    match propfind(server, &what, &path, "1").await? {
        (_, Some(members)) => Ok(members.iter().filter_map(|member| member.name.parse().ok()).collect()),
        (head, None) => match head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Vec::new()),
            status if has_no_propfind(status) => Ok(Vec::new()),
            _ => Err(answer::refusal(&what, &head, "")),
        },
    }
}

/// Makes the collection for staging files, unless it exists.
pub(super) async fn make_staging(server: &Server, folder: &ObjectName) -> Result<(), RemoteError> {
    match make(server, &encode(folder.as_str())).await? {
        Made::There => Ok(()),
        Made::Orphan => Err(blocked(server, &[]).await?),
    }
}

/// Makes the missing collections of an object's path.
///
/// It asks for each of them first: SeaweedFS accepts MKCOL beneath a file, and the file is gone.
pub(super) async fn make_within(server: &Server, path: &ObjectPath) -> Result<(), RemoteError> {
    let folders = path.folders();
    // Innermost first, as usually all of them exist.
    let mut there = folders.len();
    while there > 0 && !is_there(server, &folders[..there]).await? {
        there -= 1;
    }
    for depth in there + 1..=folders.len() {
        match make(server, &encoded_folders(&folders[..depth])).await? {
            Made::There => {}
            Made::Orphan => return Err(blocked(server, &folders[..depth - 1]).await?),
        }
    }
    Ok(())
}

async fn is_there(server: &Server, folders: &[ObjectName]) -> Result<bool, RemoteError> {
    let path = encoded_folders(folders);
    match kind(server, &path).await? {
        Kind::Collection => Ok(true),
        Kind::Nothing => Ok(false),
        Kind::File => Err(no_collection(server, folders)),
        Kind::Unknown => Ok(match make(server, &path).await? {
            Made::There => true,
            Made::Orphan => false,
        }),
    }
}

/// Why nothing can be put into a collection that exists or was just made, or into the folder itself.
pub(super) async fn blocked(server: &Server, folders: &[ObjectName]) -> Result<RemoteError, RemoteError> {
    let path = encoded_folders(folders);
    Ok(match kind(server, &path).await? {
        Kind::File => no_collection(server, folders),
        Kind::Nothing if folders.is_empty() => no_folder(server),
        Kind::Nothing | Kind::Collection | Kind::Unknown => {
            later(&server.address_of(&path), "the collection exists, but nothing can be put into it")
        }
    })
}

fn no_collection(server: &Server, folders: &[ObjectName]) -> RemoteError {
    let address = server.address_of(&encoded_folders(folders));
    RemoteError::Refused(format!("{address}: expected a collection, found something else"))
}

/// Makes a collection, unless it exists. `collection` is its encoded path without a `/` at its end.
async fn make(server: &Server, collection: &str) -> Result<Made, RemoteError> {
    let path = format!("{collection}/");
    let what = format!("MKCOL {}", server.address_of(&path));
    let request = server.request("MKCOL", &path)?;
    let (mut connection, answer) = server.exchange(&what, request, Bytes::new()).await?;
    let (head, content) = answer.into_parts();
    match head.status {
        // 405 means that something has the path already.
        status if answer::is_done(status) || status == StatusCode::METHOD_NOT_ALLOWED => return Ok(Made::There),
        _ => {}
    }
    let refusal = answer::refusal(&what, &head, &connection.text(&head, content).await);
    // Another delivery may have made it, or be making it. For that, servers have answered 403, 409 and 423.
    let mut found = kind(server, collection).await;
    if let Ok(Kind::Nothing) = found {
        tokio::time::sleep(LOOK_PAUSE).await;
        found = kind(server, collection).await;
    }
    match (found, refusal) {
        (Ok(Kind::Collection), _) => Ok(Made::There),
        (Ok(Kind::Nothing | Kind::Unknown), _) if head.status == StatusCode::CONFLICT => Ok(Made::Orphan),
        // Nobody knows yet whether the refusal matters.
        (Err(unknown @ RemoteError::Later { .. }), RemoteError::Refused(_)) => Err(unknown),
        (_, refusal) => Err(refusal),
    }
}

/// The head of the answer, and its members if it is a multistatus.
async fn propfind(
    server: &Server,
    what: &str,
    path: &str,
    depth: &str,
) -> Result<(response::Parts, Option<Vec<Member>>), RemoteError> {
    let request = server
        .request("PROPFIND", path)?
        .header("depth", depth)
        .header(header::CONTENT_TYPE, "application/xml; charset=utf-8")
        .header(header::CONTENT_LENGTH, PROPFIND.len());
    let (mut connection, answer) = server.exchange(what, request, Bytes::from_static(PROPFIND.as_bytes())).await?;
    let (head, content) = answer.into_parts();
    if head.status != StatusCode::MULTI_STATUS {
        return Ok((head, None));
    }
    let most = if depth == "0" { ANSWER_BYTES } else { LIST_BYTES };
    let content = connection.content(content, most).await.map_err(|why| later(what, &why))?;
    let members = multistatus::members(content).await.map_err(|why| later(what, &why))?;
    Ok((head, Some(members)))
}

/// Whether the server has PROPFIND switched off (403) or does not know it.
fn has_no_propfind(status: StatusCode) -> bool {
    matches!(status, StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// Whether an answer redirects to the same path with a `/` at its end.
fn leads_into(server: &Server, path: &str, head: &response::Parts) -> bool {
    let to = head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()?.parse::<Uri>().ok());
    // Servers encode the same path in different ways.
    let plain = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    to.is_some_and(|to| plain(to.path()) == plain(&format!("{}/", server.path_of(path))))
}

fn no_folder(server: &Server) -> RemoteError {
    RemoteError::Refused(format!("{}: expected a collection, found none", server.address_of("")))
}
