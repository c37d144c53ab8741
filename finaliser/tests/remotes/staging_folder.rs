//! The folder for staging files has the name that its setting gives it.

use std::fs;
use std::path::Path;

use contract::{FileId, ObjectName};
use finaliser::remote::{Remote, StagingName};
use settings::{DirectoryRemote, RemoteSettings};
use testing::names;

use crate::remotes::object::{object, refused, send, within};
use crate::remotes::sftp::Inbox;
use crate::remotes::webdav::{Share, open_webdav};

const NAME: &str = "in progress & more";

fn name() -> ObjectName {
    ObjectName::new(NAME).unwrap()
}

async fn is_used(remote: &dyn Remote, root: &Path) {
    send(remote, &object("x", b"abc"), b"abc").await.unwrap();
    assert_eq!(names(root), [NAME, "x"].map(str::to_owned).into());
    assert!(names(&root.join(NAME)).is_empty());

    let left: StagingName = format!("{}.6.0", FileId::generate()).parse().unwrap();
    fs::write(root.join(NAME).join(left.to_string()), "left").unwrap();
    assert_eq!(within(remote.staging_files()).await.unwrap(), [left]);
    within(remote.remove_staging_file(left)).await.unwrap();
    assert!(names(&root.join(NAME)).is_empty());

    let detail = refused(send(remote, &object(NAME, b"abc"), b"abc").await);
    assert!(detail.contains("expected another name"), "{detail}");
    // Nothing is special about the default any more.
    send(remote, &object(".waybill", b"abc"), b"abc").await.unwrap();
}

#[tokio::test]
async fn in_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let settings = DirectoryRemote { staging_folder: name(), ..DirectoryRemote::new(root.path()) };
    let remote = finaliser::remote::open(&RemoteSettings::Directory(settings)).unwrap();
    is_used(&*remote, root.path()).await;
}

#[tokio::test]
async fn at_a_webdav_server() {
    let Some(served) = Share::new(|_| {}).await else { return };
    let remote = open_webdav(&served.url(), |remote| remote.server.staging_folder = Some(name()));
    is_used(&*remote, &served.path("")).await;
}

#[tokio::test]
async fn at_an_sftp_server() {
    let Some(inbox) = Inbox::with(|settings| settings.staging_folder = name()).await else { return };
    is_used(&*inbox.remote, inbox.root.path()).await;
}
