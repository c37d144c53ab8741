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
    // This check only saves work. The one before the rename decides.
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
    // A server may report only now that it could not keep everything that it had accepted.
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
            if found.is_some_and(|found| found.is_folder().is_none()) {
                folder.check_opens(&target).await?;
            }
            replace(folder, staging, &target, object).await
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
            Err(not_renamed(folder, staging, &target, object, found.is_some(), fault).await)
        }
        Err(fault) => Err(fault.of("rename to", &target)),
    }
}

/// Replaces what has the path, at a server that cannot do that in one step. In between nothing has the path, and a
/// worker that compares then sends again. The old file goes last, so that it is back if the new one does not get the
/// path.
async fn replace(folder: &mut Folder, staging: &str, target: &str, object: &Object) -> Result<(), Fault> {
    let old = folder.staging_path(StagingName::of(object));
    folder.session.done(Request::rename(target, &old)).await?;
    let renamed = folder.session.done(Request::rename(staging, target)).await;
    let _left_for_garbage_collection = match &renamed {
        Ok(()) => folder.session.done(Request::remove(&old)).await,
        Err(_) => folder.session.done(Request::rename(&old, target)).await,
    };
    renamed
}

/// The error for a rename that failed though nothing forbids it.
async fn not_renamed(
    folder: &mut Folder,
    staging: &str,
    target: &str,
    object: &Object,
    is_taken: bool,
    fault: Fault,
) -> RemoteError {
    let is_general = matches!(&fault, Fault::Status(status) if status.is_general());
    let failed = fault.of("rename to", target);
    if !is_general || !is_elsewhere(folder, staging, target, object, is_taken).await {
        return failed;
    }
    RemoteError::Refused(format!(
        "{failed}; most likely another file system is mounted there than at {staging:?}: expected a remote of its own for it"
    ))
}

/// Whether a rename failed because another file system is mounted at the folder of the target, so that it would not
/// help to write the file again. The draft has one status for nearly all causes. Where the server does not tell about
/// its file systems, and nothing `is_taken`, the staging file is renamed in its own folder: if that works, the cause is
/// where the file was to go.
async fn is_elsewhere(folder: &mut Folder, staging: &str, target: &str, object: &Object, is_taken: bool) -> bool {
    let inner = target.rsplit_once('/').map_or(".", |(inner, _)| inner);
    let (from, to) = (folder.session.file_system(staging).await, folder.session.file_system(inner).await);
    if from.is_some() && to.is_some() && from != to {
        return true;
    }
    let other = folder.staging_path(StagingName::of(object));
    if is_taken || folder.session.done(Request::rename(staging, &other)).await.is_err() {
        return false;
    }
    let _left_for_garbage_collection = folder.remove(&other).await;
    true
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
