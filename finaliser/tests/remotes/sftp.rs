//! SFTP, against OpenSSH: staged files, and what may have the name already.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::{Epoch, FileId, ObjectPath};
use finaliser::remote::{Comparison, Precondition, Remote, RemoteError, StagingName};
use servers::{Sshd, SshdOptions};
use settings::{RemoteSettings, SftpRemote};
use tempfile::TempDir;
use testing::{names, sshd};

use crate::odd_servers::mounted::Mounted;
use crate::remotes::conformance::{Place, suite};
use crate::remotes::object::{body, bytes, later, object, object_at, open_body, refused, send, within};

/// A folder of its own at the server.
pub(crate) struct Inbox {
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) root: TempDir,
}

/// The settings of a remote that is `root` at this server.
pub(crate) fn settings(sshd: &Sshd, root: &Path) -> SftpRemote {
    SftpRemote {
        port: sshd.port(),
        private_key_file: Some(sshd.private_key().to_owned()),
        path: root.to_str().unwrap().to_owned(),
        ..SftpRemote::new(Sshd::HOST, sshd.host_key(), sshd.user())
    }
}

pub(crate) fn open(settings: SftpRemote) -> Result<Box<dyn Remote>, RemoteError> {
    finaliser::remote::open(&RemoteSettings::Sftp(settings))
}

impl Inbox {
    /// `None` where there is no sshd.
    pub(crate) async fn new() -> Option<Self> {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SftpRemote)) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let mut settings = settings(sshd().await?, root.path());
        change(&mut settings);
        Some(Self { remote: open(settings).unwrap(), root })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The names of the staged files.
    pub(crate) fn asides(&self) -> BTreeSet<String> {
        let folder = self.path(".waybill");
        if folder.exists() { names(&folder) } else { BTreeSet::new() }
    }
}

impl Place for Inbox {
    fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.root.path().to_owned())
    }
}

/// Waits until a staged file exists, or none does.
pub(crate) async fn until_aside(inbox: &Inbox, there: bool) {
    within(async {
        while inbox.asides().is_empty() == there {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A server of its own, and a folder there.
pub(crate) struct Own {
    pub(crate) inbox: Inbox,
    _sshd: Sshd,
    _folder: TempDir,
}

impl Own {
    /// Its sftp-server does not know the requests `without`, and its sshd has these further settings.
    pub(crate) async fn new(without: &[&str], lines: &[&str]) -> Option<Self> {
        if !servers::can_test(Sshd::is_here()) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut options = SshdOptions::new(folder.path().join("sshd"));
        options.without = without.iter().map(|&request| request.to_owned()).collect();
        options.settings = lines.iter().map(|&line| line.to_owned()).collect();
        let sshd = Sshd::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let root = tempfile::tempdir().unwrap();
        let inbox = Inbox { remote: open(settings(&sshd, root.path())).unwrap(), root };
        Some(Self { inbox, _sshd: sshd, _folder: folder })
    }
}

#[tokio::test]
async fn sftp_conforms() {
    let Some(inbox) = Inbox::new().await else { return };
    suite(&inbox).await;
    assert_eq!(inbox.asides(), BTreeSet::new());
}

#[tokio::test]
async fn a_server_without_extensions_conforms() {
    let Some(own) = Own::new(&["limits", "fsync", "posix-rename"], &[]).await else { return };
    let inbox = &own.inbox;
    suite(inbox).await;
    assert_eq!(inbox.asides(), BTreeSet::new());
    let object = object("unsynced", b"abc");
    assert_eq!(send(&*inbox.remote, &object, b"abc").await.unwrap().proof.as_str(), "put");
}

#[tokio::test]
async fn every_cipher_and_new_keys_on_the_way_give_the_same_bytes() {
    let content = bytes(9_000_000);
    for ciphers in [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
    ] {
        let Some(own) = Own::new(&[], &[&format!("Ciphers {ciphers}"), "RekeyLimit 1M"]).await else { return };
        let object = object("x", &content);
        send(&*own.inbox.remote, &object, &content).await.unwrap_or_else(|error| panic!("{ciphers}: {error}"));
        assert!(own.inbox.stored("x").as_ref() == Some(&content), "{ciphers}: other bytes");
        let found = within(own.inbox.remote.compare(&object)).await;
        assert!(matches!(found, Ok(Comparison::Equal(_))), "{ciphers}: {found:?}");
    }
    // Without a common cipher the settings of one side must change. But nobody has shown the server's key so far.
    let Some(own) = Own::new(&[], &["Ciphers aes256-cbc"]).await else { return };
    let (detail, _) = later(send(&*own.inbox.remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("aes256-cbc") && detail.contains("aes128-gcm"), "{detail}");
}

#[tokio::test]
async fn what_it_makes() {
    let Some(inbox) = Inbox::new().await else { return };
    let object = object("x y", b"abc");
    let evidence = send(&*inbox.remote, &object, b"abc").await.unwrap();
    assert_eq!((evidence.status, evidence.etag, evidence.proof.as_str(), evidence.sent), (None, None, "fsync", 3));
    match within(inbox.remote.compare(&object)).await.unwrap() {
        Comparison::Equal(evidence) => assert_eq!((evidence.proof.as_str(), evidence.sent), ("read-back", 0)),
        other => panic!("{other:?}"),
    }
    let port = sshd().await.unwrap().port();
    let expected = format!("sftp://127.0.0.1:{port}{}/x%20y", inbox.root.path().display());
    assert_eq!(inbox.remote.address(&object.path), expected);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(inbox.path("x y")) & 0o600, 0o600);
    assert_eq!(mode(inbox.path("x y")) & 0o111, 0);
    assert_eq!(mode(inbox.path(".waybill")), 0o700);
    assert_eq!(fs::metadata(inbox.path("x y")).unwrap().nlink(), 1);
}

#[tokio::test]
async fn large_files_arrive_whole_and_are_read_back() {
    let Some(inbox) = Inbox::new().await else { return };
    for size in [255 * 1024, 255 * 1024 + 1, 4 * 1024 * 1024 + 1, 40_000_003] {
        let (name, content) = (format!("size {size}"), bytes(size));
        let object = object(&name, &content);
        send(&*inbox.remote, &object, &content).await.unwrap();
        assert!(inbox.stored(&name).as_ref() == Some(&content), "{name}: other bytes");
        assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Equal(_))), "{name}");
        let mut damaged = content.clone();
        damaged[size - 1] ^= 1;
        fs::write(inbox.path(&name), damaged).unwrap();
        assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Different(_))), "{name}");
    }
}

#[tokio::test]
async fn a_path_may_begin_where_a_login_does() {
    let Some(sshd) = sshd().await else { return };
    let home = within(async { Command::new("sh").arg("-c").arg("cd ~ && pwd").output().unwrap() }).await;
    let home = PathBuf::from(String::from_utf8(home.stdout).unwrap().trim());
    let root = tempfile::Builder::new().prefix("waybill-test-").tempdir_in(&home).unwrap();
    let mut settings = settings(sshd, root.path());
    settings.path = root.path().file_name().unwrap().to_str().unwrap().to_owned();
    let (remote, object) = (open(settings.clone()).unwrap(), object("x", b"abc"));
    send(&*remote, &object, b"abc").await.unwrap();
    assert_eq!(fs::read(root.path().join("x")).unwrap(), b"abc");
    let address = remote.address(&object.path);
    assert!(address.ends_with(&format!("/~/{}/x", settings.path)), "{address}");
}

#[tokio::test]
async fn the_name_appears_only_with_the_whole_file() {
    let Some(inbox) = Inbox::new().await else { return };
    let object = object("x", b"abcdef");
    let (to, body) = open_body(6);
    let watch = async {
        to.send(b"abc".as_slice().into()).await.unwrap();
        until_aside(&inbox, true).await;
        assert_eq!(names(inbox.root.path()), [".waybill".to_owned()].into());
        assert!(inbox.asides().iter().all(|name| name.starts_with(&format!("{}.7.", object.file_id))));
        to.send(b"def".as_slice().into()).await.unwrap();
        drop(to);
    };
    let (sent, ()) = within(async { tokio::join!(inbox.remote.send(&object, body), watch) }).await;
    sent.unwrap();
    assert_eq!(inbox.stored("x").unwrap(), b"abcdef");
}

#[tokio::test]
async fn a_name_taken_before_the_rename_is_a_clash() {
    let Some(inbox) = Inbox::new().await else { return };
    let mut object = object("x", b"abc");
    // Asked twice: before folders are made, and when nothing but the rename is left to do.
    let (taken, asked) = (inbox.path("x"), std::sync::atomic::AtomicU32::new(0));
    object.still_ours = Box::new(move || {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            fs::write(&taken, "first").unwrap();
        }
        true
    });
    let sent = send(&*inbox.remote, &object, b"abc").await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
    assert_eq!(inbox.stored("x").unwrap(), b"first");
    assert_eq!(inbox.asides(), BTreeSet::new());
}

#[tokio::test]
async fn a_name_that_is_already_taken_costs_nothing() {
    let Some(inbox) = Inbox::new().await else { return };
    fs::write(inbox.path("x"), "1234").unwrap();
    let object = object("x", b"abcdef");
    let (_to, body) = open_body(6);
    let sent = within(inbox.remote.send(&object, body)).await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
    assert_eq!(names(inbox.root.path()), ["x".to_owned()].into());
    let found = within(inbox.remote.compare(&object)).await;
    assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what == "4 bytes"), "{found:?}");
}

#[tokio::test]
async fn the_claim_is_checked_when_everything_is_written() {
    let Some(inbox) = Inbox::new().await else { return };
    let content = bytes(1_000_000);
    let mut object = object("x", &content);
    object.epoch = Epoch(i64::MAX);
    let asides = inbox.path(".waybill");
    object.still_ours = Box::new(move || {
        let lengths: Vec<_> =
            names(&asides).iter().map(|name| fs::metadata(asides.join(name)).unwrap().len()).collect();
        assert_eq!(lengths, [1_000_000]);
        false
    });
    let sent = within(inbox.remote.send(&object, body(&content))).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert_eq!((inbox.stored("x"), inbox.asides()), (None, BTreeSet::new()));
}

#[tokio::test]
async fn leftovers_of_older_claims_are_removed() {
    let Some(inbox) = Inbox::new().await else { return };
    let (first, second) = (object("x", b"abc"), object("y", b"abc"));
    for by_look in [false, true] {
        let (id, other) = (first.file_id, FileId::generate());
        fs::create_dir_all(inbox.path(".waybill")).unwrap();
        let kept = [".8.0", ".06.0", ".+6.0", ".6.0x", ".6", ".6.00", "."].map(|rest| format!("{id}{rest}"));
        let kept: BTreeSet<_> = kept.into_iter().chain([format!("{other}.1.0"), "notes".into()]).collect();
        for name in kept.iter().chain(&[format!("{id}.6.0"), format!("{id}.1.77")]) {
            fs::write(inbox.path(".waybill").join(name), "left").unwrap();
        }
        if by_look {
            assert!(matches!(within(inbox.remote.compare(&first)).await, Ok(Comparison::Equal(_))));
        } else {
            send(&*inbox.remote, &first, b"abc").await.unwrap();
        }
        assert_eq!(inbox.asides(), kept);
        fs::remove_dir_all(inbox.path(".waybill")).unwrap();
    }
    // Nothing is made by looking.
    assert!(matches!(within(inbox.remote.compare(&second)).await, Ok(Comparison::Absent)));
    assert!(within(inbox.remote.staging_files()).await.unwrap().is_empty());
    assert_eq!(names(inbox.root.path()), ["x".to_owned()].into());
}

#[tokio::test]
async fn leftovers_of_dead_attempts_are_found_and_discarded() {
    let Some(inbox) = Inbox::new().await else { return };
    fs::create_dir(inbox.path(".waybill")).unwrap();
    let (dead, alive) = (FileId::generate(), FileId::generate());
    let of_dead = [format!("{dead}.3.0"), format!("{dead}.3.9")];
    let others = [format!("{alive}.1.0"), format!("{dead}.4.0"), "notes".to_owned()];
    for name in of_dead.iter().chain(&others) {
        fs::write(inbox.path(".waybill").join(name), "left").unwrap();
    }
    let found = within(inbox.remote.staging_files()).await.unwrap();
    let left: BTreeSet<StagingName> = of_dead.iter().chain(&others[..2]).map(|name| name.parse().unwrap()).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), left);
    // Each look is a login, so the next is some time away.
    assert!(within(inbox.remote.staging_files()).await.unwrap().is_empty());
    for name in of_dead.iter().chain(&of_dead) {
        within(inbox.remote.remove_staging_file(name.parse().unwrap())).await.unwrap();
    }
    assert_eq!(inbox.asides(), others.iter().cloned().collect());
}

#[tokio::test]
async fn its_own_folder_is_refused_as_a_name() {
    let Some(inbox) = Inbox::new().await else { return };
    let mut object = object(".waybill", b"abc");
    assert!(refused(send(&*inbox.remote, &object, b"abc").await).contains("expected another name"));
    assert!(refused(within(inbox.remote.compare(&object)).await).contains("expected another name"));
    object.path = ObjectPath::try_from(".waybill/x".to_owned()).unwrap();
    assert!(refused(send(&*inbox.remote, &object, b"abc").await).contains("expected another name"));
    assert!(names(inbox.root.path()).is_empty());
}

#[tokio::test]
async fn anything_else_in_the_place_of_a_folder_is_refused() {
    let Some(inbox) = Inbox::new().await else { return };
    let mut object = object_at("a/b/x", b"abc");
    assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Absent)));
    // Folders are made only for what becomes visible.
    object.still_ours = Box::new(|| false);
    assert!(matches!(send(&*inbox.remote, &object, b"abc").await, Err(RemoteError::Stopped)));
    assert_eq!(names(inbox.root.path()), [".waybill".to_owned()].into());
    object.still_ours = Box::new(|| true);
    // A file.
    fs::write(inbox.path("a"), "1").unwrap();
    assert!(refused(send(&*inbox.remote, &object, b"abc").await).contains("expected a folder"));
    assert!(refused(within(inbox.remote.compare(&object)).await).contains("expected a folder"));
    // A link to a folder.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_file(inbox.path("a")).unwrap();
    symlink(elsewhere.path(), inbox.path("a")).unwrap();
    assert!(refused(send(&*inbox.remote, &object, b"abc").await).contains("expected a folder"));
    // One in the place of its own folder.
    fs::remove_file(inbox.path("a")).unwrap();
    fs::remove_dir_all(inbox.path(".waybill")).unwrap_or_default();
    symlink(elsewhere.path(), inbox.path(".waybill")).unwrap();
    assert!(refused(send(&*inbox.remote, &object, b"abc").await).contains(".waybill"));
    assert!(names(elsewhere.path()).is_empty());
}

#[tokio::test]
async fn anything_but_a_file_is_never_replaced_or_followed() {
    let Some(inbox) = Inbox::new().await else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "abc").unwrap();
    fs::create_dir(inbox.path("folder")).unwrap();
    symlink(&target, inbox.path("link")).unwrap();
    symlink(elsewhere.path().join("none"), inbox.path("dangling")).unwrap();
    for name in ["folder", "link", "dangling"] {
        let object = object(name, b"abc");
        let sent = send(&*inbox.remote, &object, b"abc").await;
        assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
        let found = within(inbox.remote.compare(&object)).await;
        assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what.contains("not a file")), "{found:?}");
    }
    let mut onto_folder = object("folder", b"abc");
    onto_folder.precondition = Precondition::Replace(None);
    assert!(refused(send(&*inbox.remote, &onto_folder, b"abc").await).contains("it is a folder"));
    assert!(names(&inbox.path("folder")).is_empty());
    // A link is replaced, not what it points to.
    let mut onto_link = object("link", b"new");
    onto_link.precondition = Precondition::Replace(None);
    send(&*inbox.remote, &onto_link, b"new").await.unwrap();
    assert!(fs::symlink_metadata(inbox.path("link")).unwrap().is_file());
    assert_eq!(fs::read(&target).unwrap(), b"abc");
    assert_eq!(inbox.asides(), BTreeSet::new());
}

#[tokio::test]
async fn a_missing_folder_is_tried_later() {
    let Some(inbox) = Inbox::with(|settings| settings.path.push_str("/gone")).await else { return };
    let object = object("x", b"abc");
    assert!(later(send(&*inbox.remote, &object, b"abc").await).0.contains("expected a folder, found nothing"));
    later(within(inbox.remote.compare(&object)).await);
    assert!(names(inbox.root.path()).is_empty());
    fs::write(inbox.path("gone"), "").unwrap();
    refused(send(&*inbox.remote, &object, b"abc").await);
}

#[tokio::test]
async fn what_the_server_does_not_permit_is_refused() {
    for (request, left) in [("mkdir", None), ("write", Some(0)), ("rename", Some(0))] {
        let Some(own) = Own::new(&[request], &[]).await else { return };
        let inbox = &own.inbox;
        let content = bytes(3_000_000);
        let detail = refused(send(&*inbox.remote, &object("x", &content), &content).await);
        assert!(detail.contains("Permission denied (status 3)"), "{detail}");
        assert_eq!(inbox.stored("x"), None);
        assert_eq!(left, inbox.path(".waybill").exists().then(|| inbox.asides().len()), "{request}");
    }
    // A folder that is read only for everybody but root.
    let Some(inbox) = Inbox::new().await else { return };
    fs::set_permissions(inbox.root.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(inbox.path("probe"), "").is_err() {
        let detail = refused(send(&*inbox.remote, &object("x", b"abc"), b"abc").await);
        assert!(detail.contains("Permission denied"), "{detail}");
    }
}

#[tokio::test]
async fn a_full_disk_may_have_room_later() {
    let Some(inbox) = Inbox::new().await else { return };
    let Some(_mounted) = Mounted::tmpfs(inbox.root.path()) else { return };
    let content = bytes(9_000_000);
    let (small, large) = (object("small", &content[..1000]), object("large", &content));
    let sent = send(&*inbox.remote, &large, &content).await;
    let asides = inbox.asides();
    let after = send(&*inbox.remote, &small, &content[..1000]).await;
    assert!(later(sent).0.contains("(status 4)"));
    assert_eq!(asides, BTreeSet::new());
    after.unwrap();
}
