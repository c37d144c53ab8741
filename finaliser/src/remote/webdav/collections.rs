//! Collections: what they contain, and how they are made.

use contract::{ObjectName, ObjectPath};
use hyper::body::Bytes;
use hyper::http::response;
use hyper::{StatusCode, Uri, header};

use super::multistatus::{self, Member, PROPFIND};
use crate::remote::RemoteError;
use crate::remote::http::Server;
use crate::remote::staging_name::{STAGING, StagingName};
use crate::remote::wire::{answer, encoded_folders, later};

/// The most bytes of an answer to PROPFIND: about 10,000 names.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Collection,
    File,
    /// Something. The server does not tell what.
    Unknown,
}

/// How a server answered MKCOL.
enum Made {
    /// It made the collection.
    Done,
    /// Something has the path already.
    Taken,
    /// The parent collection is missing.
    Orphan,
}

/// What has an encoded path without a `/` at its end.
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

/// The staging files, whoever wrote them. None if the server cannot list them.
pub(super) async fn staging_files(server: &Server) -> Result<Vec<StagingName>, RemoteError> {
    let path = format!("{STAGING}/");
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
pub(super) async fn make_staging(server: &Server) -> Result<(), RemoteError> {
    match make(server, STAGING).await? {
        Made::Done | Made::Taken => Ok(()),
        Made::Orphan => Err(no_folder(server)),
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
            Made::Done | Made::Taken => {}
            Made::Orphan if depth == 1 => return Err(no_folder(server)),
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
            Made::Done | Made::Taken => true,
            Made::Orphan => false,
        }),
    }
}

/// Why nothing can be put into a collection that exists or was just made.
pub(super) async fn blocked(server: &Server, folders: &[ObjectName]) -> Result<RemoteError, RemoteError> {
    let path = encoded_folders(folders);
    Ok(match kind(server, &path).await? {
        Kind::File => no_collection(server, folders),
        Kind::Nothing | Kind::Collection | Kind::Unknown => {
            later(&server.address_of(&path), "the collection exists, but nothing can be put into it")
        }
    })
}

fn no_collection(server: &Server, folders: &[ObjectName]) -> RemoteError {
    let address = server.address_of(&encoded_folders(folders));
    RemoteError::Refused(format!("{address}: expected a collection, found something else"))
}

async fn make(server: &Server, path: &str) -> Result<Made, RemoteError> {
    let path = format!("{path}/");
    let what = format!("MKCOL {}", server.address_of(&path));
    let request = server.request("MKCOL", &path)?;
    let (mut connection, answer) = server.exchange(&what, request, Bytes::new()).await?;
    let (head, content) = answer.into_parts();
    match head.status {
        status if status.is_success() => Ok(Made::Done),
        StatusCode::METHOD_NOT_ALLOWED => Ok(Made::Taken),
        StatusCode::CONFLICT => Ok(Made::Orphan),
        _ => Err(answer::refusal(&what, &head, &connection.text(&head, content).await)),
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
    let content = connection.content(content, ANSWER_BYTES).await.map_err(|why| later(what, &why))?;
    let members = multistatus::members(&content).map_err(|why| later(what, &why))?;
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
