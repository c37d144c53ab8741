//! An SSH server that says much when it ends the connection.

use std::fs;
use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session};
use russh::{Channel, ChannelId, Disconnect};
use servers::Sshd;
use settings::{Secret, SftpRemote};
use tokio::net::TcpListener;

use crate::remotes::object::{later, object, within};
use crate::remotes::sftp::open;
use crate::remotes::sftp_login::key;

struct Talker;

impl Handler for Talker {
    type Error = russh::Error;

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        session.disconnect(Disconnect::ByApplication, &format!("\u{202e}too{}", " many".repeat(20_000)), "")
    }
}

#[tokio::test]
async fn a_long_farewell_is_cut() {
    // Its ssh-keygen makes the key.
    if !servers::can_test(Sshd::is_here()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = key(folder.path(), "ed25519", "", None);
    let mut settings = SftpRemote::new("127.0.0.1", fs::read_to_string(path.with_extension("pub")).unwrap(), "ada");
    let keys = vec![PrivateKey::from_openssh(fs::read(path).unwrap()).unwrap()];
    let config = Arc::new(Config { keys, ..Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.port = listener.local_addr().unwrap().port();
    settings.password = Some(Secret::new("hush".into()));
    let remote = open(settings).unwrap();
    let serving = async {
        let (client, _) = listener.accept().await.unwrap();
        russh::server::run_stream(config, client, Talker).await.unwrap().await
    };
    let object = object("x", b"abc");
    let (found, _ended) = within(async { tokio::join!(remote.compare(&object), serving) }).await;
    let (detail, _) = later(found);
    assert!(detail.contains("the server said: \\u{202e}too many") && detail.len() < 1024, "{detail}");
}
