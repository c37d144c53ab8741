use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, Preferred, SshId, cipher};
use settings::{SftpCredentials, SftpRemote as Settings};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::RemoteError;
use super::host_key::HostKeys;
use super::line::{Line, Traffic};
use crate::remote::said::said;
use crate::remote::wire::later;

/// Ciphers, the cheapest first on a processor with AES instructions, which nearly all have. None lacks authentication.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];

/// What to do with an encrypted key in a form that russh does not read, and OpenSSH does.
const CONVERT: &str = "`ssh-keygen -p -f FILE` asks for its passphrase and rewrites it in a form that can be read";

/// Bytes that one read takes from the socket.
const READ_BYTES: usize = 64 * 1024;

/// Why a session ended, as told by the task that runs it.
pub(super) type Ending = Arc<Mutex<Option<String>>>;

/// A connection after login. It ends when this is dropped.
pub(super) struct Login {
    handle: client::Handle<Watch>,
    ending: Ending,
    traffic: Arc<Traffic>,
    _end: DropGuard,
}

/// Checks the server's key, and notes why the connection ends.
struct Watch {
    known: HostKeys,
    ending: Ending,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the server's key is not the one in host_key: expected {expected}, found {found}")]
    OtherKey { expected: String, found: String },
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl client::Handler for Watch {
    type Error = Broken;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Broken> {
        let key = shown.public_key();
        if self.known.contains(&key) {
            return Ok(true);
        }
        let found = said(&format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)));
        Err(Broken::OtherKey { expected: self.known.to_string(), found })
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Broken>) -> Result<(), Broken> {
        let why = match reason {
            DisconnectReason::ReceivedDisconnect(sent) => format!("the server said: {}", said(&sent.message)),
            DisconnectReason::Error(error) => said(&error.to_string()),
        };
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        Ok(())
    }
}

impl Login {
    /// Connects, compares the server's key, and logs in. Each step may take `idle_timeout`.
    pub(super) async fn new(settings: &Settings, known: &HostKeys) -> Result<Self, RemoteError> {
        let at = format!("{}:{}", settings.host, settings.port);
        let idle = settings.idle_timeout();
        let connecting = TcpStream::connect((settings.host.as_str(), settings.port));
        let stream = in_time(idle, &at, "connecting", connecting).await?;
        // Each request is a packet of its own, and its answer is awaited. If this option cannot be set, requests
        // are only slower.
        let _only_slower = stream.set_nodelay(true);
        let end = CancellationToken::new();
        // russh reads a packet in two pieces, and answers are short.
        let line = Line::new(stream, &end).map_err(|error| later(&at, &error.to_string()))?;
        let traffic = line.traffic();
        let line = BufReader::with_capacity(READ_BYTES, line);
        let end = end.drop_guard();
        let ending = Ending::default();
        let watch = Watch { known: known.clone(), ending: Arc::clone(&ending) };
        let config = Arc::new(config(idle, known));
        let greeting = tokio::time::timeout(idle, client::connect_stream(config, line, watch));
        let handle = match greeting.await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error @ Broken::OtherKey { .. })) => return Err(RemoteError::Refused(format!("{at}: {error}"))),
            // Nobody has shown the server's key, so that whatever answered may have been somebody else, such as a
            // proxy.
            Ok(Err(error)) => return Err(later(&at, &format!("no SSH session: {}", said(&error.to_string())))),
            Err(_) => return Err(silent(idle, &at, "the greeting")),
        };
        let mut login = Self { handle, ending, traffic, _end: end };
        login.prove(settings, &at).await?;
        Ok(login)
    }

    /// Opens a channel for SFTP. Its first answer shows whether the server has SFTP.
    pub(super) async fn channel(&self, settings: &Settings) -> Result<Channel<client::Msg>, RemoteError> {
        let at = format!("{}:{}", settings.host, settings.port);
        let idle = settings.idle_timeout();
        let channel = in_time(idle, &at, "opening a channel", self.handle.channel_open_session()).await?;
        in_time(idle, &at, "asking for SFTP", channel.request_subsystem(true, "sftp")).await?;
        Ok(channel)
    }

    /// What passes over the connection.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Why the connection ended, if it did.
    pub(super) fn ending(&self) -> Option<String> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn prove(&mut self, settings: &Settings, at: &str) -> Result<(), RemoteError> {
        let idle = settings.idle_timeout();
        // A credential file may be missing for a moment while it is renewed.
        let credentials = settings.credentials().map_err(|error| later("credentials", &error.to_string()))?;
        let user = settings.username.as_str();
        let (by, result) = match credentials {
            SftpCredentials::Password(password) => {
                let proving = self.handle.authenticate_password(user, password.expose());
                ("password", in_time(idle, at, "logging in", proving).await?)
            }
            SftpCredentials::PrivateKey(..) => {
                let key = Arc::new(off_thread(move || private_key(&credentials)).await?);
                let hash = match key.algorithm().is_rsa() {
                    // The default for a server that does not list its hashes.
                    true => in_time(idle, at, "asking for hashes", self.handle.best_supported_rsa_hash())
                        .await?
                        .flatten()
                        .or(Some(HashAlg::Sha256)),
                    false => None,
                };
                let proving = self.handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, hash));
                ("private key", in_time(idle, at, "logging in", proving).await?)
            }
        };
        match result {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { remaining_methods, partial_success } => {
                let more = if partial_success { ", but wants more than that" } else { "" };
                let takes: Vec<String> = remaining_methods.iter().map(|method| format!("{method:?}")).collect();
                let took = if partial_success { "took" } else { "did not take" };
                Err(RemoteError::Refused(format!(
                    "{at}: the server {took} the {by} of {user:?}{more}; it takes {}",
                    said(&takes.join(", "))
                )))
            }
        }
    }
}

/// Reads a private key. Fails if the credentials have none.
pub(super) fn private_key(credentials: &SftpCredentials) -> Result<PrivateKey, RemoteError> {
    let wrong = |why: String| RemoteError::Refused(format!("private_key_file: {why}"));
    let SftpCredentials::PrivateKey(text, passphrase) = credentials else {
        return Err(wrong("expected one".into()));
    };
    let text = text.expose();
    let passphrase = passphrase.as_ref().map(|passphrase| passphrase.expose());
    let (is_old, is_pkcs8) = (text.contains("Proc-Type: 4,ENCRYPTED"), text.contains("BEGIN ENCRYPTED PRIVATE KEY"));
    // An inner error may quote the key, so only its kind is reported.
    russh::keys::decode_secret_key(text, passphrase).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => wrong("the key is encrypted: expected a passphrase_file".into()),
        _ if passphrase.is_none() && (is_old || is_pkcs8) => {
            wrong("the key is encrypted: expected a passphrase_file".into())
        }
        _ if is_old && !(text.contains("BEGIN RSA") && text.contains("AES-128-CBC")) => {
            wrong(format!("found an encrypted key in an old PEM form: {CONVERT}"))
        }
        _ if is_pkcs8 => wrong(format!(
            "expected a private key and its passphrase, found something else; if the passphrase is right, {CONVERT}"
        )),
        _ if passphrase.is_some() => wrong("expected a private key and its passphrase, found something else".into()),
        _ => wrong("expected a private key as ssh-keygen writes it, found something else".into()),
    })
}

/// Runs work on a thread that may block: decrypting a private key takes tenths of a second.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    // The work does not panic, so an error means that the runtime is shutting down.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(RemoteError::Stopped))
}

fn config(idle: Duration, known: &HostKeys) -> client::Config {
    let all = Preferred::DEFAULT;
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-waybill_", env!("CARGO_PKG_VERSION")))),
        preferred: Preferred { key: known.prefer(&all.key).into(), cipher: CIPHERS.into(), ..all },
        // The answers show that the server is alive, while we wait for content. How long it may be silent is judged by
        // `line.rs`, which sees what it still has to take: russh must not (0).
        keepalive_interval: Some(idle / 4),
        keepalive_max: 0,
        // Messages that wait unread: enough for all answers that may be outstanding (`session/read.rs`), even in small
        // pieces.
        channel_buffer_size: 256,
        ..client::Config::default()
    }
}

fn silent(idle: Duration, at: &str, doing: &str) -> RemoteError {
    later(at, &format!("{doing}: no answer within {} ms", idle.as_millis()))
}

async fn in_time<T, E: std::fmt::Display>(
    idle: Duration,
    at: &str,
    doing: &str,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, RemoteError> {
    match tokio::time::timeout(idle, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(later(at, &format!("{doing}: {}", said(&error.to_string())))),
        Err(_) => Err(silent(idle, at, doing)),
    }
}
