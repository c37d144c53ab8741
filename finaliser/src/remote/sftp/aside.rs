use super::folder::Folder;
use super::packet::{Attributes, Request, WRITE_NEW};
use super::session::Fault;
use super::{AsideName, Onto, Parcel, RemoteError};
use crate::remote::body::Body;
use contract::RemoteProof;

/// Writes the body aside and gives it the parcel's name. Returns what is proved.
///
/// What was written is removed if it does not get the name; best effort, as the connection may be gone: the next try removes it.
pub(super) async fn deliver(folder: &mut Folder, parcel: &Parcel, body: Body) -> Result<RemoteProof, RemoteError> {
    // Only to save the work: the rename asks again, and for good.
    if folder.has(parcel.object.folders()).await? {
        let target = folder.path(&parcel.object);
        let found = folder.found(&target).await?;
        judge(&target, found, &parcel.onto)?;
    }
    folder.make_asides().await?;
    let name = AsideName::of(parcel);
    folder.remove_older(name).await;
    let aside = folder.aside(name);
    let made = folder.session.open(Request::open(&aside, WRITE_NEW)).await;
    let handle = made.map_err(|fault| fault.of("make aside", &aside))?;
    let delivered = match write(folder, &aside, &handle, body).await {
        Ok(proof) => place(folder, &aside, parcel).await.map(|()| proof),
        Err(error) => Err(error),
    };
    if delivered.is_err() {
        let _gone_with_the_next_try = folder.remove(&aside).await;
    }
    delivered
}

/// Writes all and makes it durable, where the server can.
async fn write(folder: &mut Folder, aside: &str, handle: &[u8], mut body: Body) -> Result<RemoteProof, RemoteError> {
    let fault = |fault: Fault| fault.of("write aside", aside);
    let mut written = folder.session.write(handle, &mut body).await;
    fail::fail_point!("aside-before-sync", |_| std::process::abort());
    let syncs = folder.session.has().fsync;
    if written.is_ok() && syncs {
        written = folder.session.done(Request::fsync(handle)).await;
    }
    // A server may tell only now that it could not keep what it took.
    let closed = folder.session.done(Request::close(handle)).await;
    written.and(closed).map_err(fault)?;
    Ok(if syncs { RemoteProof::Fsync } else { RemoteProof::Put })
}

/// Gives the file its final name, in folders that are made as needed. What has that name already is a clash, unless it may be
/// replaced.
async fn place(folder: &mut Folder, aside: &str, parcel: &Parcel) -> Result<(), RemoteError> {
    fail::fail_point!("aside-before-rename", |_| std::process::abort());
    // No folder is made for what does not become visible.
    if !(parcel.still_ours)() {
        return Err(RemoteError::Stopped);
    }
    folder.make(parcel.object.folders()).await?;
    let target = folder.path(&parcel.object);
    // Not every server refuses to rename onto something.
    let there = folder.found(&target).await?;
    judge(&target, there, &parcel.onto)?;
    if !(parcel.still_ours)() {
        return Err(RemoteError::Stopped);
    }
    let renamed = match parcel.onto {
        Onto::Replacing(_) if folder.session.has().posix_rename => {
            folder.session.done(Request::rename_onto(aside, &target)).await
        }
        Onto::Replacing(_) if there.is_some() => {
            // In two steps: for a moment nothing has the name, and whoever asks then sends again.
            folder.remove(&target).await?;
            folder.session.done(Request::rename(aside, &target)).await
        }
        _ => folder.session.done(Request::rename(aside, &target)).await,
    };
    fail::fail_point!("aside-after-rename", |_| std::process::abort());
    match renamed {
        Ok(()) => Ok(()),
        // The draft has no word for a name that is taken.
        Err(fault @ Fault::Status(_)) => {
            let found = folder.found(&target).await?;
            judge(&target, found, &parcel.onto)?;
            Err(fault.of("rename to", &target))
        }
        Err(fault) => Err(fault.of("rename to", &target)),
    }
}

/// Whether a file may get the name of what is there.
fn judge(target: &str, found: Option<Attributes>, onto: &Onto) -> Result<(), RemoteError> {
    let clash = || format!("{target:?}: something has that name already");
    match (found, onto) {
        (None, _) => Ok(()),
        (Some(_), Onto::Nothing) => Err(RemoteError::Clash(clash())),
        (Some(found), Onto::Replacing(_)) if found.is_folder() == Some(true) => {
            Err(RemoteError::Refused(format!("{}, and it is a folder", clash())))
        }
        (Some(_), Onto::Replacing(_)) => Ok(()),
    }
}
