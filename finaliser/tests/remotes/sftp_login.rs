//! Who the server is, and who we are.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use finaliser::remote::{Look, Remote};
use runtime::settings::{Secret, SftpRemote};
use russh::keys::{HashAlg, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use servers::Sshd;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::conformance::suite;
use crate::parcel::{later, parcel, refused, send, within};
use crate::sftp::{Inbox, open, settings, sshd};

/// Makes a key, and lets who has it log in if wanted.
fn key(folder: &Path, kind: &str, passphrase: &str, authorized: Option<&Sshd>) -> PathBuf {
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
    let parcel = parcel("x", b"abc");
    let detail = refused(within(remote.look(&parcel)).await);
    assert_eq!(detail, refused(send(remote, &parcel, b"abc").await));
    detail
}

#[tokio::test]
async fn only_a_server_with_a_known_key_gets_anything() {
    let folder = tempfile::tempdir().unwrap();
    let other = fs::read_to_string(key(folder.path(), "ed25519", "", None).with_extension("pub")).unwrap();
    let rsa = fs::read_to_string(key(folder.path(), "rsa", "", None).with_extension("pub")).unwrap();
    let fingerprint = |line: &str| PublicKey::from_openssh(line).unwrap().fingerprint(HashAlg::Sha256).to_string();
    let right = sshd().await.host_key();
    for known in [
        right.to_owned(),
        fingerprint(right),
        format!("{other}\n  {right}  \n"),
        format!("{rsa}{}", fingerprint(right)),
    ] {
        let inbox = Inbox::with(|settings| settings.host_key = known).await;
        assert!(matches!(within(inbox.remote.look(&parcel("x", b"abc"))).await, Ok(Look::Absent)));
    }
    for known in [other.clone(), fingerprint(&other), rsa.clone()] {
        let expected = if known.starts_with("SHA256:") { known.clone() } else { fingerprint(&known) };
        let inbox = Inbox::with(|settings| settings.host_key = known).await;
        let detail = refused_login(&*inbox.remote).await;
        assert!(detail.contains(&expected) && detail.contains(&fingerprint(right)), "{detail}");
        assert!(fs::read_dir(inbox.root.path()).unwrap().next().is_none());
    }
    for wrong in ["*", "ssh-ed25519 AAAA", "SHA256:abc"] {
        let mut settings = settings(sshd().await, folder.path());
        settings.host_key = format!("{right}\n{wrong}");
        assert!(refused(open(settings)).contains("host_key"), "{wrong}");
    }
}

#[tokio::test]
async fn a_login_needs_a_key_that_the_server_knows() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = key(folder.path(), "ed25519", "", None);
    let inbox = Inbox::with(|settings| settings.private_key_file = Some(stranger)).await;
    let detail = refused_login(&*inbox.remote).await;
    assert!(detail.contains("did not take the private key") && detail.contains("PublicKey"), "{detail}");
    let inbox = Inbox::with(|settings| settings.username = "nobody-of-that-name".into()).await;
    assert!(refused_login(&*inbox.remote).await.contains("nobody-of-that-name"));
    let inbox = Inbox::with(|settings| {
        settings.private_key_file = None;
        settings.password = Some(Secret::new("hush".into()));
    })
    .await;
    let detail = refused_login(&*inbox.remote).await;
    assert!(detail.contains("did not take the password") && !detail.contains("hush"), "{detail}");
    assert!(!format!("{:?}", inbox.remote).contains("hush"));
}

#[tokio::test]
async fn keys_of_every_kind_log_in() {
    let (folder, sshd) = (tempfile::tempdir().unwrap(), sshd().await);
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "hush, hush\n").unwrap();
    for (kind, secret) in [("rsa", ""), ("ecdsa", ""), ("ed25519", "hush, hush")] {
        let private = key(folder.path(), kind, secret, Some(sshd));
        let inbox = Inbox::with(|settings| {
            settings.private_key_file = Some(private);
            settings.passphrase_file = (!secret.is_empty()).then(|| passphrase.clone());
        })
        .await;
        send(&*inbox.remote, &parcel("x", b"abc"), b"abc").await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_said_at_the_start() {
    let (folder, sshd) = (tempfile::tempdir().unwrap(), sshd().await);
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
    // It may be renewed, and be missing for a moment.
    let inbox =
        Inbox::with(|settings| settings.private_key_file = Some(key(folder.path(), "ed25519", "", Some(sshd)))).await;
    let private = folder.path().join("key-ed25519-0");
    fs::rename(&private, folder.path().join("moved")).unwrap();
    assert!(later(within(inbox.remote.look(&parcel("x", b"abc"))).await).0.contains("key-ed25519-0"));
    fs::rename(folder.path().join("moved"), &private).unwrap();
    within(inbox.remote.look(&parcel("x", b"abc"))).await.unwrap();
}

/// Another SSH server: it asks for a password, which OpenSSH does only of users of the system. What it serves is OpenSSH's
/// sftp-server.
struct PasswordServer {
    port: u16,
    host_key: String,
    _task: AbortOnDropHandle<()>,
}

struct Visitor(Option<Channel<Msg>>);

impl PasswordServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = key(folder.path(), "ed25519", "", None);
        let host_key = fs::read_to_string(path.with_extension("pub")).unwrap();
        let keys = vec![PrivateKey::from_openssh(fs::read(path).unwrap()).unwrap()];
        let config = Arc::new(russh::server::Config {
            keys,
            auth_rejection_time: std::time::Duration::ZERO,
            ..russh::server::Config::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let config = Arc::clone(&config);
                tokio::spawn(async move { russh::server::run_stream(config, client, Visitor(None)).await?.await });
            }
        };
        Self { port, host_key, _task: AbortOnDropHandle::new(tokio::spawn(accept)) }
    }

    fn inbox(&self, password: &str) -> Inbox {
        let root = TempDir::new().unwrap();
        let mut settings = SftpRemote::new("127.0.0.1", self.host_key.clone(), "ada");
        settings.port = self.port;
        settings.path = root.path().to_str().unwrap().to_owned();
        let file = root.path().with_extension("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        settings.password_file = Some(file);
        Inbox { remote: open(settings).unwrap(), root }
    }
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if (user, password) == ("ada", "hush 1815") { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.0 = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let channel = self.0.take().expect("a channel was opened before");
        tokio::spawn(async move {
            let mut server = tokio::process::Command::new(Sshd::sftp_server().unwrap())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut stdio = tokio::io::join(server.stdout.take().unwrap(), server.stdin.take().unwrap());
            // A client that goes away is what some tests are about.
            let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut stdio).await;
        });
        Ok(())
    }
}

#[tokio::test]
async fn a_password_logs_in_to_another_server() {
    let server = PasswordServer::start().await;
    let inbox = server.inbox("hush 1815");
    suite(&inbox).await;
    assert!(inbox.asides().is_empty());
    let detail = refused_login(&*server.inbox("hush 1816").remote).await;
    assert!(detail.contains("did not take the password") && !detail.contains("hush"), "{detail}");
}
