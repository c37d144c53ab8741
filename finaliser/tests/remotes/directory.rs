//! A folder: staged files, and what may have the name already.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use contract::{Epoch, FileId, ObjectPath};
use finaliser::remote::{Comparison, Precondition, RemoteError};
use rustix::fs::{CWD, FileType, Mode};
use testing::names;

use crate::remotes::object::{
    PATIENT, body, bytes, folder, later, object, object_at, open_body, refused, send, within,
};

/// Waits until a staged file exists, or none does.
async fn until_aside(root: &Path, there: bool) {
    within(async {
        while fs::read_dir(root.join(".waybill")).is_ok_and(|mut entries| entries.next().is_some()) != there {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_it_makes() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object("x", b"abc");
    let evidence = send(&*remote, &object, b"abc").await.unwrap();
    assert_eq!((evidence.status, evidence.etag, evidence.proof.as_str()), (None, None, "fsync"));
    match within(remote.compare(&object)).await.unwrap() {
        Comparison::Equal(evidence) => assert_eq!(evidence.proof.as_str(), "fsync"),
        other => panic!("{other:?}"),
    }
    assert_eq!(remote.address(&object.path), root.path().join("x").to_str().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let usual = elsewhere.path().join("usual");
    fs::write(&usual, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&root.path().join("x")), mode(&usual));
    assert_eq!(mode(&root.path().join(".waybill")), 0o700);
    assert_eq!(fs::metadata(root.path().join("x")).unwrap().nlink(), 1);
}

#[tokio::test]
async fn the_name_appears_only_with_the_whole_file() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    let watch = async {
        to.send(b"abc".as_slice().into()).await.unwrap();
        until_aside(root.path(), true).await;
        assert_eq!(names(root.path()), [".waybill".to_owned()].into());
        let asides = names(&root.path().join(".waybill"));
        let ours = format!("{}.7.", object.file_id);
        assert!(asides.len() == 1 && asides.iter().all(|name| name.starts_with(&ours)), "{asides:?}");
        to.send(b"def".as_slice().into()).await.unwrap();
        drop(to);
    };
    let (sent, ()) = within(async { tokio::join!(remote.send(&object, body), watch) }).await;
    sent.unwrap();
    assert_eq!(fs::read(root.path().join("x")).unwrap(), b"abcdef");
}

#[tokio::test]
async fn a_name_taken_meanwhile_is_a_clash() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    let meanwhile = async {
        to.send(b"abc".as_slice().into()).await.unwrap();
        until_aside(root.path(), true).await;
        fs::write(root.path().join("x"), "first").unwrap();
        to.send(b"def".as_slice().into()).await.unwrap();
        drop(to);
    };
    let (sent, ()) = within(async { tokio::join!(remote.send(&object, body), meanwhile) }).await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
    assert_eq!(fs::read(root.path().join("x")).unwrap(), b"first");
    assert!(names(&root.path().join(".waybill")).is_empty());
}

#[tokio::test]
async fn a_name_that_is_already_taken_costs_nothing() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    fs::write(root.path().join("x"), "1234").unwrap();
    let object = object("x", b"abcdef");
    let (_to, body) = open_body(6);
    let sent = within(remote.send(&object, body)).await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
    let found = within(remote.compare(&object)).await;
    assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what == "4 bytes"), "{found:?}");
}

#[tokio::test]
async fn leftovers_of_older_claims_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let aside = root.path().join(".waybill");
    let (first, second) = (object("x", b"abc"), object("y", b"abc"));
    for by_look in [false, true] {
        let (id, other) = (first.file_id, FileId::generate());
        fs::create_dir_all(&aside).unwrap();
        let kept = [".8.0", ".06.0", ".+6.0", ".6.0x", ".6", ".6.00", ".", ""].map(|rest| format!("{id}{rest}"));
        let kept: BTreeSet<_> = kept.into_iter().chain([format!("{other}.1.0"), "notes".into()]).collect();
        for name in kept.iter().chain(&[format!("{id}.6.0"), format!("{id}.1.77"), format!("{id}.-1.0")]) {
            fs::write(aside.join(name), "left").unwrap();
        }
        if by_look {
            assert!(matches!(within(remote.compare(&first)).await, Ok(Comparison::Equal(_))));
        } else {
            send(&*remote, &first, b"abc").await.unwrap();
        }
        assert_eq!(names(&aside), kept);
        fs::remove_dir_all(&aside).unwrap();
    }
    // A look creates nothing.
    assert!(matches!(within(remote.compare(&second)).await, Ok(Comparison::Absent)));
    assert!(matches!(within(remote.compare(&first)).await, Ok(Comparison::Equal(_))));
    assert_eq!(names(root.path()), ["x".to_owned()].into());
}

#[tokio::test]
async fn what_a_later_try_writes_aside_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object("x", b"abc");
    let later = format!("{}.{}.{}", object.file_id, object.epoch, u64::MAX);
    let aside = root.path().join(".waybill").join(later);
    fs::create_dir(root.path().join(".waybill")).unwrap();
    fs::write(&aside, "another").unwrap();
    send(&*remote, &object, b"abc").await.unwrap();
    assert_eq!(fs::read(&aside).unwrap(), b"another");
}

#[tokio::test]
async fn a_dropped_delivery_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    to.send(b"abc".as_slice().into()).await.unwrap();
    within(async {
        tokio::select! {
            sent = remote.send(&object, body) => panic!("{sent:?}"),
            () = until_aside(root.path(), true) => {}
        }
    })
    .await;
    // The rest of the body makes no difference.
    to.send(b"def".as_slice().into()).await.unwrap();
    drop(to);
    until_aside(root.path(), false).await;
    assert_eq!(names(root.path()), [".waybill".to_owned()].into());
}

/// It does not keep the disk busy either.
#[test]
fn a_dropped_look_stops_reading() {
    // Larger than what can be read before the test gives up.
    const SIZE: u64 = 1 << 40;
    let root = tempfile::tempdir().unwrap();
    let path = root.path().canonicalize().unwrap().join("x");
    fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    let mut object = object("x", b"");
    object.size = SIZE;
    let remote = folder(root.path()).unwrap();
    let open = |wanted: bool| {
        let path = path.clone();
        async move {
            let is_open = || {
                let files = fs::read_dir("/proc/self/fd").unwrap();
                files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|found| found == path))
            };
            while is_open() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stopped = runtime.block_on(async {
        tokio::select! {
            found = remote.compare(&object) => panic!("{found:?}"),
            () = open(true) => {}
        }
        tokio::time::timeout(PATIENT, open(false)).await
    });
    // Otherwise the runtime would wait for a thread that reads on.
    runtime.shutdown_background();
    stopped.unwrap();
}

#[tokio::test]
async fn its_own_folder_is_refused_as_a_name() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let object = object(".waybill", b"abc");
    assert!(refused(send(&*remote, &object, b"abc").await).contains("expected another name"));
    assert!(refused(within(remote.compare(&object)).await).contains("expected another name"));
    assert!(names(root.path()).is_empty());
}

#[tokio::test]
async fn folders_are_made_only_for_what_becomes_visible() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let mut object = object_at("a/b/x", b"abc");
    assert!(matches!(within(remote.compare(&object)).await, Ok(Comparison::Absent)));
    object.still_ours = Box::new(|| false);
    assert!(matches!(send(&*remote, &object, b"abc").await, Err(RemoteError::Stopped)));
    assert_eq!(names(root.path()), [".waybill".to_owned()].into());
    assert_eq!(remote.address(&object.path), root.path().join("a/b/x").to_str().unwrap());

    // A file in the place of a folder.
    fs::write(root.path().join("a"), "1").unwrap();
    object.still_ours = Box::new(|| true);
    assert!(refused(send(&*remote, &object, b"abc").await).contains("expected a folder"));
    assert!(refused(within(remote.compare(&object)).await).contains("expected a folder"));
    // A link to a folder is not a folder.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_file(root.path().join("a")).unwrap();
    symlink(elsewhere.path(), root.path().join("a")).unwrap();
    refused(send(&*remote, &object, b"abc").await);
    assert!(names(elsewhere.path()).is_empty());
    // A path must not reach the staged files either.
    object.path = ObjectPath::try_from(".waybill/x".to_owned()).unwrap();
    assert!(refused(send(&*remote, &object, b"abc").await).contains("expected another name"));
}

#[tokio::test]
async fn a_folder_is_not_replaced_by_a_file() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    fs::create_dir(root.path().join("x")).unwrap();
    let mut object = object("x", b"abc");
    object.precondition = Precondition::Replace(None);
    assert!(refused(send(&*remote, &object, b"abc").await).contains("it is a folder"));
    assert!(names(&root.path().join("x")).is_empty() && names(&root.path().join(".waybill")).is_empty());
}

#[tokio::test]
async fn a_symlink_is_never_followed() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let remote = folder(root.path()).unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "abc").unwrap();
    symlink(&target, root.path().join("x")).unwrap();
    symlink(elsewhere.path().join("none"), root.path().join("dangling")).unwrap();
    for name in ["x", "dangling"] {
        let object = object(name, b"abc");
        let sent = send(&*remote, &object, b"abc").await;
        assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
        let found = within(remote.compare(&object)).await;
        assert!(matches!(found, Ok(Comparison::Different(_))), "{found:?}");
    }
    assert_eq!(fs::read(&target).unwrap(), b"abc");
    assert_eq!(names(elsewhere.path()), ["target".to_owned()].into());

    // Nor is a link in the place of its own folder.
    fs::remove_dir_all(root.path().join(".waybill")).unwrap_or_default();
    symlink(elsewhere.path(), root.path().join(".waybill")).unwrap();
    let detail = refused(send(&*remote, &object("y", b"abc"), b"abc").await);
    assert!(detail.contains(".waybill"), "{detail}");
    assert_eq!(names(elsewhere.path()), ["target".to_owned()].into());
}

#[tokio::test]
async fn anything_but_a_file_counts_as_another_object() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    rustix::fs::mknodat(CWD, root.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    for name in ["folder", "pipe"] {
        let object = object(name, b"");
        let found = within(remote.compare(&object)).await;
        assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what.contains("not a file")), "{found:?}");
        assert!(matches!(send(&*remote, &object, b"").await, Err(RemoteError::Conflict(_))));
    }
}

#[tokio::test]
async fn the_folder_must_exist() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("remote");
    assert!(refused(folder(&path)).contains("remote"));
    fs::write(&path, "").unwrap();
    assert!(refused(folder(&path)).contains("expected a folder"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let remote = folder(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    // A share that is not mounted now may be mounted later.
    later(send(&*remote, &object("x", b"abc"), b"abc").await);
    later(within(remote.compare(&object("x", b"abc"))).await);
}

#[tokio::test]
async fn the_claim_is_checked_when_everything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let remote = folder(root.path()).unwrap();
    let content = bytes(1_000_000);
    let mut object = object("x", &content);
    object.epoch = Epoch(i64::MAX);
    let asides = root.path().join(".waybill");
    let seen = asides.clone();
    object.still_ours = Box::new(move || {
        let lengths: Vec<_> =
            fs::read_dir(&seen).unwrap().map(|aside| aside.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(lengths, [1_000_000]);
        false
    });
    let sent = within(remote.send(&object, body(&content))).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert!(names(&asides).is_empty());
    assert!(!root.path().join("x").exists());
}
