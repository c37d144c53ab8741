//! The server proves who it is, and we log in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use finaliser::remote::{Comparison, Precondition, Remote};
use russh::keys::{HashAlg, PublicKey};
use servers::Sshd;
use settings::{Secret, SftpRemote};
use testing::sshd;

use crate::remotes::conformance::suite;
use crate::remotes::object::{bytes, later, object, refused, send, within};
use crate::remotes::sftp::{Inbox, open, settings};
use crate::remotes::sftp_server::{PasswordServer, Twist};

/// Makes a key. With `authorized`, that server accepts it.
pub(crate) fn key(folder: &Path, kind: &str, passphrase: &str, authorized: Option<&Sshd>) -> PathBuf {
    let path = folder.join(format!("key-{kind}-{}", passphrase.len()));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .status();
    assert!(made.expect("ssh-keygen of the package openssh-client is needed").success());
    if let Some(sshd) = authorized {
        let list = sshd.options().data_dir.join("authorized_keys");
        let public = fs::read(path.with_extension("pub")).unwrap();
        fs::OpenOptions::new().append(true).open(list).unwrap().write_all(&public).unwrap();
    }
    path
}

async fn refused_login(remote: &dyn Remote) -> String {
    let object = object("x", b"abc");
    let detail = refused(within(remote.compare(&object)).await);
    assert_eq!(detail, refused(send(remote, &object, b"abc").await));
    detail
}

#[tokio::test]
async fn only_a_server_with_a_known_key_gets_anything() {
    let Some(sshd) = sshd().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = fs::read_to_string(key(folder.path(), "ed25519", "", None).with_extension("pub")).unwrap();
    let rsa = fs::read_to_string(key(folder.path(), "rsa", "", None).with_extension("pub")).unwrap();
    let fingerprint = |line: &str| PublicKey::from_openssh(line).unwrap().fingerprint(HashAlg::Sha256).to_string();
    let right = sshd.host_key();
    for known in [
        right.to_owned(),
        fingerprint(right),
        format!("{other}\n  {right}  \n"),
        format!("{rsa}{}", fingerprint(right)),
    ] {
        let Some(inbox) = Inbox::with(|settings| settings.host_key = known).await else { return };
        assert!(matches!(within(inbox.remote.compare(&object("x", b"abc"))).await, Ok(Comparison::Absent)));
    }
    for known in [other.clone(), fingerprint(&other), rsa.clone()] {
        let expected = if known.starts_with("SHA256:") { known.clone() } else { fingerprint(&known) };
        let Some(inbox) = Inbox::with(|settings| settings.host_key = known).await else { return };
        let detail = refused_login(&*inbox.remote).await;
        assert!(detail.contains(&expected) && detail.contains(&fingerprint(right)), "{detail}");
        assert!(fs::read_dir(inbox.root.path()).unwrap().next().is_none());
    }
    for wrong in ["*", "ssh-ed25519 AAAA", "SHA256:abc"] {
        let mut settings = settings(sshd, folder.path());
        settings.host_key = format!("{right}\n{wrong}");
        assert!(refused(open(settings)).contains("host_key"), "{wrong}");
    }
}

#[tokio::test]
async fn a_login_needs_a_key_that_the_server_knows() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = key(folder.path(), "ed25519", "", None);
    let Some(inbox) = Inbox::with(|settings| settings.private_key_file = Some(stranger)).await else { return };
    let detail = refused_login(&*inbox.remote).await;
    assert!(detail.contains("did not take the private key") && detail.contains("PublicKey"), "{detail}");
    let Some(inbox) = Inbox::with(|settings| settings.username = "nobody-of-that-name".into()).await else { return };
    assert!(refused_login(&*inbox.remote).await.contains("nobody-of-that-name"));
    let with_password = |settings: &mut SftpRemote| {
        settings.private_key_file = None;
        settings.password = Some(Secret::new("hush".into()));
    };
    let Some(inbox) = Inbox::with(with_password).await else { return };
    let detail = refused_login(&*inbox.remote).await;
    assert!(detail.contains("did not take the password") && !detail.contains("hush"), "{detail}");
    assert!(!format!("{:?}", inbox.remote).contains("hush"));
}

#[tokio::test]
async fn keys_of_every_kind_log_in() {
    let Some(sshd) = sshd().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "hush, hush\n").unwrap();
    for (kind, secret) in [("rsa", ""), ("ecdsa", ""), ("ed25519", "hush, hush")] {
        let private = key(folder.path(), kind, secret, Some(sshd));
        let settings = |settings: &mut SftpRemote| {
            settings.private_key_file = Some(private);
            settings.passphrase_file = (!secret.is_empty()).then(|| passphrase.clone());
        };
        let Some(inbox) = Inbox::with(settings).await else { return };
        send(&*inbox.remote, &object("x", b"abc"), b"abc").await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[tokio::test]
async fn an_unreadable_key_is_reported_at_the_start() {
    let Some(sshd) = sshd().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let locked = key(folder.path(), "ed25519", "hush, hush", None);
    let wrong = folder.path().join("passphrase");
    fs::write(&wrong, "another").unwrap();
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, "hush").unwrap();
    let change = |key: &Path, passphrase: Option<&Path>| SftpRemote {
        private_key_file: Some(key.to_owned()),
        passphrase_file: passphrase.map(Path::to_owned),
        ..settings(sshd, folder.path())
    };
    for (settings, expected) in [
        (change(&locked, None), "passphrase_file"),
        (change(&locked, Some(&wrong)), "its passphrase"),
        (change(&garbage, None), "expected a private key"),
        (change(Path::new("/no/key"), None), "/no/key"),
        (change(&locked, Some(Path::new("/no/passphrase"))), "/no/passphrase"),
    ] {
        let detail = refused(open(settings));
        assert!(detail.contains(expected) && !detail.contains("hush") && !detail.contains("another"), "{detail}");
    }
    // The key may be renewed, and be missing for a moment.
    let private = key(folder.path(), "ed25519", "", Some(sshd));
    let inbox = Inbox::with(|settings| settings.private_key_file = Some(private.clone())).await;
    let Some(inbox) = inbox else { return };
    fs::rename(&private, folder.path().join("moved")).unwrap();
    assert!(later(within(inbox.remote.compare(&object("x", b"abc"))).await).0.contains("key-ed25519-0"));
    fs::rename(folder.path().join("moved"), &private).unwrap();
    within(inbox.remote.compare(&object("x", b"abc"))).await.unwrap();
}

#[tokio::test]
async fn encrypted_keys_in_every_form_are_read_or_can_be_converted() {
    let Some(sshd) = sshd().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "hush, hush\n").unwrap();
    let keygen = |arguments: &[&str], path: &Path| {
        let done = Command::new("ssh-keygen").args(arguments).arg("-f").arg(path).stdin(Stdio::null()).output();
        assert!(done.unwrap().status.success(), "{arguments:?}");
    };
    let opened = |path: &Path, passphrase: Option<&Path>| {
        open(SftpRemote {
            private_key_file: Some(path.to_owned()),
            passphrase_file: passphrase.map(Path::to_owned),
            ..settings(sshd, folder.path())
        })
    };
    for (kind, form, other_cipher, is_read) in [
        ("rsa", "PEM", None, true),
        ("rsa", "PEM", Some("AES-256-CBC"), false),
        ("ecdsa", "PEM", None, false),
        ("rsa", "PKCS8", None, true),
        ("ecdsa", "PKCS8", None, true),
        ("ecdsa", "RFC4716", None, true),
    ] {
        let path = folder.path().join(format!("{kind}-{form}-{is_read}"));
        keygen(&["-q", "-t", kind, "-m", form, "-N", "hush, hush"], &path);
        let without = refused(opened(&path, None));
        assert!(without.contains("expected a passphrase_file"), "{kind} {form}: {without}");
        if let Some(cipher) = other_cipher {
            // Only the name of the cipher: the key is as unreadable as one that has it.
            let text = fs::read_to_string(&path).unwrap().replace("AES-128-CBC", cipher);
            fs::write(&path, text).unwrap();
        }
        match is_read {
            true => drop(opened(&path, Some(&passphrase)).unwrap_or_else(|error| panic!("{kind} {form}: {error}"))),
            false => {
                let detail = refused(opened(&path, Some(&passphrase)));
                assert!(detail.contains("old PEM form: `ssh-keygen -p -f FILE`"), "{kind} {form}: {detail}");
            }
        }
        if other_cipher.is_none() {
            keygen(&["-q", "-p", "-P", "hush, hush", "-N", "hush, hush"], &path);
            opened(&path, Some(&passphrase)).unwrap_or_else(|error| panic!("{kind} {form}, converted: {error}"));
        }
        // The wrong passphrase may look like a form that we do not read.
        let wrong = folder.path().join("wrong");
        fs::write(&wrong, "another").unwrap();
        let detail = refused(opened(&path, Some(&wrong)));
        assert!(!detail.contains("hush") && !detail.contains("another"), "{detail}");
    }
}

#[tokio::test]
async fn a_password_logs_in_to_another_server() {
    let Some(server) = PasswordServer::start(Twist::None).await else { return };
    let inbox = server.inbox("hush 1815");
    suite(&inbox).await;
    assert!(inbox.asides().is_empty());
    let detail = refused_login(&*server.inbox("hush 1816").remote).await;
    assert!(detail.contains("did not take the password") && !detail.contains("hush"), "{detail}");
}

/// OpenSSH never sends such packets; other servers may.
#[tokio::test]
async fn unusual_packets_are_understood_or_end_the_session() {
    let content = bytes(1_500_000);
    for twist in [Twist::ShortReads, Twist::Shuffled] {
        let Some(server) = PasswordServer::start(twist).await else { return };
        let inbox = server.inbox("hush 1815");
        let object = object("x", &content);
        send(&*inbox.remote, &object, &content).await.unwrap();
        let found = within(inbox.remote.compare(&object)).await;
        assert!(matches!(found, Ok(Comparison::Equal(_))), "{twist:?}: {found:?}");
    }
    for (twist, expected) in [
        (Twist::Garbage, "cannot be read"),
        (Twist::OtherId, "expected the answer"),
        (Twist::OtherVersion, "expected version 3 of SFTP, found 6"),
    ] {
        let Some(server) = PasswordServer::start(twist).await else { return };
        let inbox = server.inbox("hush 1815");
        let (detail, _) = later(send(&*inbox.remote, &object("x", &content), &content).await);
        assert!(detail.contains(expected), "{twist:?}: {detail}");
    }
    // A rename onto a folder fails with the general code of a failure, or with a code of a later version.
    let Some(server) = PasswordServer::start(Twist::LaterCodes).await else { return };
    let inbox = server.inbox("hush 1815");
    let mut claimed = object("x", &content);
    let (folder, asked) = (inbox.path("x"), AtomicU32::new(0));
    claimed.precondition = Precondition::Replace(None);
    claimed.still_ours = Box::new(move || {
        if asked.fetch_add(1, Ordering::Relaxed) == 1 {
            fs::create_dir(&folder).unwrap();
        }
        true
    });
    assert!(refused(send(&*inbox.remote, &claimed, &content).await).contains("it is a folder"));
    assert!(inbox.asides().is_empty());
}
