//! Another SSH server: it asks for a password, which OpenSSH does only of users of the system. What it serves is
//! OpenSSH's sftp-server, whose packets it changes where a test says so.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use servers::Sshd;
use settings::SftpRemote;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::sftp::{Inbox, open};
use crate::remotes::sftp_login::key;

/// How packets are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twist {
    None,
    /// Reads return less than was asked for.
    ShortReads,
    /// Two pieces of a file arrive in the wrong order.
    Shuffled,
    /// A failure has a code of a later protocol version: no space.
    LaterCodes,
    /// The second answer is not a packet.
    Garbage,
    /// The second answer has the id of another request.
    OtherId,
    /// Attributes have permissions, but not the bits for the file type.
    NoTypes,
    /// Where nothing has the path, the answer is the general failure.
    MissingIsFailure,
    /// Questions about a file's own attributes all get the general failure; folders are answered.
    AttributesFail,
    /// The server speaks another version.
    OtherVersion,
}

pub(crate) struct PasswordServer {
    port: u16,
    host_key: String,
    _task: AbortOnDropHandle<()>,
}

struct Visitor(Twist, Option<Channel<Msg>>);

impl PasswordServer {
    /// `None`, with a message, where OpenSSH is missing.
    pub(crate) async fn start(twist: Twist) -> Option<Self> {
        if !servers::can_test(Sshd::is_here()) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = key(folder.path(), "ed25519", "", None);
        let host_key = fs::read_to_string(path.with_extension("pub")).unwrap();
        let keys = vec![PrivateKey::from_openssh(fs::read(path).unwrap()).unwrap()];
        let config = Arc::new(Config { keys, auth_rejection_time: Duration::ZERO, ..Config::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let config = Arc::clone(&config);
                tokio::spawn(
                    async move { russh::server::run_stream(config, client, Visitor(twist, None)).await?.await },
                );
            }
        };
        Some(Self { port, host_key, _task: AbortOnDropHandle::new(tokio::spawn(accept)) })
    }

    /// A folder of its own, with a login by this password.
    pub(crate) fn inbox(&self, password: &str) -> Inbox {
        let root = TempDir::new().unwrap();
        let mut settings = SftpRemote::new("127.0.0.1", self.host_key.clone(), "ada");
        settings.port = self.port;
        settings.path = root.path().to_str().unwrap().to_owned();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("{password}\n")).unwrap();
        settings.password_file = Some(file.into_temp_path().keep().unwrap());
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
        self.1 = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let channel = self.1.take().expect("a channel was opened before");
        let twist = self.0;
        tokio::spawn(async move {
            let mut server = tokio::process::Command::new(Sshd::sftp_server().unwrap())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let (from_client, to_client) = tokio::io::split(channel.into_stream());
            // Some tests are about a client that goes away.
            tokio::select! {
                _ = requests(twist, from_client, server.stdin.take().unwrap()) => {}
                _ = answers(twist, server.stdout.take().unwrap(), to_client) => {}
            }
        });
        Ok(())
    }
}

/// A packet without its length.
async fn packet(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; from.read_u32().await? as usize];
    from.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn pass(packet: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let whole = [&u32::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat();
    to.write_all(&whole).await?;
    to.flush().await
}

async fn requests(
    twist: Twist,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    loop {
        let mut packet = packet(&mut from).await?;
        let at = packet.len() - 4;
        if (packet[0], twist) == (5, Twist::ShortReads) && packet[at..] > 5_000_u32.to_be_bytes()[..] {
            // All lengths occur: even one byte less than was asked for must be noticed.
            let asked = u32::from_be_bytes(packet[at..].try_into().unwrap());
            let less = if asked.is_multiple_of(2) { asked - 1 } else { 4_999 };
            packet[at..].copy_from_slice(&less.to_be_bytes());
        }
        pass(&packet, &mut to).await?;
    }
}

/// Changes an answer with attributes: their mode is the fifth number after the flags if the size and the owner are
/// there.
fn attributes(twist: Twist, packet: &mut Vec<u8>) {
    assert_eq!(packet[8] & 0x07, 0x07, "sftp-server says everything");
    let mode = &mut packet[25..29];
    let is_folder = mode[2] & 0xf0 == 0x40;
    match twist {
        Twist::NoTypes => mode[2] &= 0x0f,
        _ if is_folder => {}
        // A status, without a text.
        _ => {
            packet.truncate(5);
            packet[0] = 101;
            packet.extend([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
}

async fn answers(
    twist: Twist,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut kept: Option<Vec<u8>> = None;
    for number in 0.. {
        let mut packet = packet(&mut from).await?;
        match (twist, packet[0]) {
            // The second of two pieces goes first; at the end of the file there may be only one.
            (Twist::Shuffled, 103) if kept.is_none() && packet.len() > 50_000 => {
                kept = Some(packet);
                continue;
            }
            (Twist::LaterCodes, 101) if packet[5..9] == [0, 0, 0, 4] => packet[8] = 14,
            (Twist::NoTypes | Twist::AttributesFail, 105) => attributes(twist, &mut packet),
            (Twist::MissingIsFailure | Twist::AttributesFail, 101) if packet[5..9] == [0, 0, 0, 2] => packet[8] = 4,
            (Twist::Garbage, _) if number == 1 => packet = vec![255; 40],
            (Twist::OtherId, _) if number == 1 => packet[4] ^= 0xff,
            (Twist::OtherVersion, _) if number == 0 => packet[4] = 6,
            _ => {}
        }
        pass(&packet, &mut to).await?;
        if let Some(kept) = kept.take() {
            pass(&kept, &mut to).await?;
        }
    }
    Ok(())
}
