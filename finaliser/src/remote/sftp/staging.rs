use super::folder::Folder;
use super::packet::{Attributes, Request, WRITE_NEW};
use super::session::Fault;
use super::{Object, Precondition, RemoteError, StagingName};
use crate::remote::body::Body;
use contract::RemoteProof;

/// Writes the body to a staging file and renames it to the object's path. Returns what this proves.
///
/// After a failure the staging file is removed. That is best effort, as the connection may be lost: the next try
/// removes it too.
pub(super) async fn deliver(folder: &mut Folder, object: &Object, body: Body) -> Result<RemoteProof, RemoteError> {
    // This only saves work. The check before the rename decides.
    if folder.has(object.path.folders()).await? {
        let target = folder.path(&object.path);
        let found = folder.found(&target).await?;
        check(&target, found, &object.precondition)?;
    }
    folder.make_staging_folder().await?;
    let name = StagingName::of(object);
    folder.remove_older(name).await;
    let staging = folder.staging_path(name);
    let made = folder.session.open(Request::open(&staging, WRITE_NEW)).await;
    let handle = made.map_err(|fault| fault.of("create the staging file", &staging))?;
    let delivered = match write(folder, &staging, &handle, body).await {
        Ok(proof) => publish(folder, &staging, object).await.map(|()| proof),
        Err(error) => Err(error),
    };
    if delivered.is_err() {
        let _gone_with_the_next_try = folder.remove(&staging).await;
    }
    delivered
}

/// Writes the whole body and makes it durable if the server can do that.
async fn write(folder: &mut Folder, staging: &str, handle: &[u8], mut body: Body) -> Result<RemoteProof, RemoteError> {
    let fault = |fault: Fault| fault.of("write the staging file", staging);
    let mut written = folder.session.write(handle, &mut body).await;
    fail::fail_point!("aside-before-sync", |_| std::process::abort());
    let syncs = folder.session.has().fsync;
    if written.is_ok() && syncs {
        written = folder.session.done(Request::fsync(handle)).await;
    }
    // A server may report only now that it could not keep all it had accepted.
    let closed = folder.session.done(Request::close(handle)).await;
    written.and(closed).map_err(fault)?;
    Ok(if syncs { RemoteProof::Fsync } else { RemoteProof::Put })
}

/// Renames the staging file to the object's path and makes the folders of that path as needed. Anything that has the
/// path already is a conflict, unless the object may replace it.
async fn publish(folder: &mut Folder, staging: &str, object: &Object) -> Result<(), RemoteError> {
    fail::fail_point!("aside-before-rename", |_| std::process::abort());
    // No folder is made for a file that does not become visible.
    if !(object.still_ours)() {
        return Err(RemoteError::Stopped);
    }
    folder.make(object.path.folders()).await?;
    let target = folder.path(&object.path);
    // Not every server refuses to rename onto an existing file.
    let found = folder.found(&target).await?;
    check(&target, found, &object.precondition)?;
    if !(object.still_ours)() {
        return Err(RemoteError::Stopped);
    }
    let renamed = match object.precondition {
        Precondition::Replace(_) if folder.session.has().posix_rename => {
            folder.session.done(Request::rename_onto(staging, &target)).await
        }
        Precondition::Replace(_) if found.is_some() => {
            // In two steps. In between nothing has the path, and whoever compares then sends again.
            folder.remove(&target).await?;
            folder.session.done(Request::rename(staging, &target)).await
        }
        _ => folder.session.done(Request::rename(staging, &target)).await,
    };
    fail::fail_point!("aside-after-rename", |_| std::process::abort());
    match renamed {
        Ok(()) => Ok(()),
        // The draft has no status for a path that is taken.
        Err(fault @ Fault::Status(_)) => {
            let found = folder.found(&target).await?;
            check(&target, found, &object.precondition)?;
            Err(fault.of("rename to", &target))
        }
        Err(fault) => Err(fault.of("rename to", &target)),
    }
}

/// Whether the upload may replace the existing object.
fn check(target: &str, found: Option<Attributes>, precondition: &Precondition) -> Result<(), RemoteError> {
    let conflict = || format!("{target:?}: something has that name already");
    match (found, precondition) {
        (None, _) => Ok(()),
        (Some(_), Precondition::NameIsFree) => Err(RemoteError::Conflict(conflict())),
        (Some(found), Precondition::Replace(_)) if found.is_folder() == Some(true) => {
            Err(RemoteError::Refused(format!("{}, and it is a folder", conflict())))
        }
        (Some(_), Precondition::Replace(_)) => Ok(()),
    }
}
