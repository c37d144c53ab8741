//! Folders in which another file system is mounted, and file systems that cannot do everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use finaliser::remote::{Comparison, Object, Precondition, Remote, RemoteError};
use testing::names;

use super::mounted::Mounted;
use crate::remotes::object::{bytes, folder, object, object_at, open_body, refused, send, within};
use crate::remotes::sftp::Own;

#[tokio::test]
async fn a_file_system_inside_a_folder_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&inner) else { return };
    let remote = folder(root.path()).unwrap();
    for path in ["inner/x", "inner/made/later/x"] {
        // Nobody feeds the body.
        let (_to, body) = open_body(6);
        let detail = refused(within(remote.send(&object_at(path, b"abcdef"), body)).await);
        assert!(detail.contains("another file system") && detail.contains("inner"), "{detail}");
    }
    assert!(names(&inner).is_empty() && names(&root.path().join(".waybill")).is_empty());
    send(&*remote, &object("beside", b"abc"), b"abc").await.unwrap();
}

#[tokio::test]
async fn a_folder_of_the_same_file_system_that_is_mounted_inside_is_refused_once_written() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inner = root.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let Some(_mounted) = Mounted::new(&["--bind", elsewhere.path().to_str().unwrap()], &inner) else { return };
    let remote = folder(root.path()).unwrap();
    let detail = refused(send(&*remote, &object_at("inner/x", b"abc"), b"abc").await);
    assert!(detail.contains("another file system") && detail.contains("inner"), "{detail}");
    assert!(names(&inner).is_empty() && names(&root.path().join(".waybill")).is_empty());
}

#[tokio::test]
async fn a_file_system_inside_the_folder_of_an_sftp_server_is_refused() {
    for without in [&[][..], &["posix-rename"]] {
        let Some(own) = Own::new(without, &[]).await else { return };
        let inbox = &own.inbox;
        let inner = inbox.path("inner");
        fs::create_dir(&inner).unwrap();
        let Some(_mounted) = Mounted::tmpfs(&inner) else { return };
        let content = bytes(1_000_000);
        let detail = refused(send(&*inbox.remote, &object_at("inner/x", &content), &content).await);
        assert!(detail.contains("another file system") && detail.contains("inner"), "{detail}");
        assert_eq!((names(&inner), inbox.asides()), (BTreeSet::new(), BTreeSet::new()));
        // What it was to replace is still there.
        fs::write(inner.join("x"), "old").unwrap();
        let object = Object { precondition: Precondition::Replace(None), ..object_at("inner/x", &content) };
        let detail = refused(send(&*inbox.remote, &object, &content).await);
        assert!(detail.contains("another file system"), "{detail}");
        assert_eq!(fs::read(inner.join("x")).unwrap(), b"old");
        assert_eq!((names(&inner).len(), inbox.asides()), (1, BTreeSet::new()));
    }
}

/// `rclone mount` has neither links nor a rename that does not replace.
#[tokio::test]
async fn a_file_system_that_cannot_keep_what_is_there_needs_leave_to_replace() {
    let (behind, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_mounted) = Mounted::rclone(behind.path(), root.path()).await else { return };
    let remote = folder(root.path()).unwrap();
    let content = bytes(3_000_000);
    let detail = refused(send(&*remote, &object("x", &content), &content).await);
    assert!(detail.contains("on_clash = \"replace\""), "{detail}");
    assert!(!behind.path().join("x").exists() && names(&behind.path().join(".waybill")).is_empty());
    // Nothing has the name, or something has it.
    for precondition in [Precondition::NameIsFree, Precondition::Replace(None)] {
        let object = Object { precondition, may_replace: true, ..object("x", &content) };
        send(&*remote, &object, &content).await.unwrap();
        assert!(fs::read(behind.path().join("x")).unwrap() == content, "other bytes");
        assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Equal(_))));
        fs::write(root.path().join("x"), "old").unwrap();
    }
    assert!(names(&behind.path().join(".waybill")).is_empty());
    still_kept(&*folder(behind.path()).unwrap(), behind.path()).await;
}

/// Where the file system can keep what is there, it is kept until it was compared.
async fn still_kept(remote: &dyn Remote, root: &Path) {
    fs::write(root.join("y"), "old").unwrap();
    let sent = send(remote, &Object { may_replace: true, ..object("y", b"abc") }, b"abc").await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
}
