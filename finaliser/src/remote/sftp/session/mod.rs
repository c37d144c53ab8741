//! An SFTP session: one request at a time, but many in flight when file content is read or written.

mod read;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use settings::SftpRemote as Settings;

use super::RemoteError;
use super::host_key::HostKeys;
use super::line::Traffic;
use super::login::Login;
use super::packet::{self, Attributes, Extension, Malformed, Reply, Request, Status, code};
use crate::remote::patience::{QUESTION, overdue};

/// The most requests in flight, however small they are: their answers fit into the channel's buffer (`login.rs`).
const REQUESTS: u32 = 64;

/// A session. It ends when it is dropped.
pub(super) struct Session {
    replies: Replies,
    writer: ChannelWriteHalf<Msg>,
    next_id: u32,
    has: Extensions,
    patience: Patience,
    /// The most bytes of one write and of one read.
    write_bytes: u32,
    read_bytes: u32,
    /// No more requests are possible.
    is_broken: bool,
}

/// The extensions that the server has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extensions {
    pub(super) fsync: bool,
    pub(super) posix_rename: bool,
    statvfs: bool,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server refused the request or failed to carry it out.
    Status(Status),
    /// The session has ended. The server may or may not have carried out the request.
    Broken(String),
    /// The body to be written stopped.
    Stopped,
}

impl Fault {
    /// The error for a fault in `doing` something with `path`.
    pub(super) fn of(self, doing: &str, path: &str) -> RemoteError {
        let why = match &self {
            Self::Stopped => return RemoteError::Stopped,
            Self::Status(status) => status.to_string(),
            Self::Broken(why) => why.clone(),
        };
        let detail = format!("cannot {doing} {path:?}: {why}");
        match self {
            // These last until somebody changes a setting or a permission. A failure without a code of its own (full,
            // quota, read only, I/O error) may pass.
            Self::Status(Status {
                code: code::PERMISSION_DENIED | code::BAD_MESSAGE | code::OP_UNSUPPORTED | code::WRITE_PROTECT,
                ..
            }) => RemoteError::Refused(detail),
            _ => RemoteError::Later { detail, after: None },
        }
    }
}

/// How long the server may take.
#[derive(Clone)]
struct Patience {
    traffic: Arc<Traffic>,
    idle: Duration,
}

impl Patience {
    /// Waits for the answer to a question, but not for ever.
    async fn question<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => done,
            why = self.traffic.runs_out(self.idle, false, || true) => Err(Fault::Broken(why)),
            () = tokio::time::sleep(self.idle * QUESTION) => Err(Fault::Broken(overdue(self.idle))),
        }
    }

    /// Waits for the end of a transfer, as long as the server does its share whenever it `is_awaited`.
    async fn transfer<T>(
        &self,
        is_awaited: impl Fn() -> bool,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => done,
            why = self.traffic.runs_out(self.idle, true, is_awaited) => Err(Fault::Broken(why)),
        }
    }
}

/// The server's side of the session.
struct Replies {
    login: Login,
    half: ChannelReadHalf,
    buffer: BytesMut,
}

impl Replies {
    /// The next packet, without its length.
    async fn packet(&mut self) -> Result<Bytes, Fault> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > packet::PACKET_BYTES {
                    return Err(Fault::Broken(format!("the server sent a packet of {length} bytes: is it SFTP?")));
                }
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            self.more().await?;
        }
    }

    /// Waits for one message of any kind. Cancel-safe.
    async fn more(&mut self) -> Result<(), Fault> {
        match self.half.wait().await {
            Some(ChannelMsg::Data { data }) if self.buffer.len() <= 2 * packet::PACKET_BYTES => {
                self.buffer.extend_from_slice(&data);
                Ok(())
            }
            Some(ChannelMsg::Data { .. }) => Err(Fault::Broken("the server sent data without a request".into())),
            Some(ChannelMsg::Failure) => Err(Fault::Broken("the server has no SFTP".into())),
            Some(ChannelMsg::Eof | ChannelMsg::Close) => Err(Fault::Broken("the server ended the session".into())),
            // For example, an adjustment of the window.
            Some(_) => Ok(()),
            None => {
                let why = self.login.ending().unwrap_or_else(|| "no reason given".into());
                Err(Fault::Broken(format!("the connection ended: {why}")))
            }
        }
    }

    /// Waits for the end of the session while no request is in flight. Then only the messages of SSH itself show that
    /// the server is alive.
    async fn end(&mut self, patience: &Patience) -> Fault {
        let ending = async {
            loop {
                if let Err(fault) = self.more().await {
                    return fault;
                }
            }
        };
        tokio::select! {
            biased;
            fault = ending => fault,
            why = patience.traffic.dies(patience.idle) => Fault::Broken(why),
        }
    }

    async fn reply(&mut self) -> Result<(u32, Reply), Fault> {
        Ok(packet::parse(self.packet().await?)?)
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Broken("the server's answer cannot be read".into())
    }
}

impl Session {
    /// Logs in and begins a session.
    pub(super) async fn begin(settings: &Settings, known: &HostKeys) -> Result<Self, RemoteError> {
        let login = Login::new(settings, known).await?;
        let (half, writer) = login.channel(settings).await?.split();
        let patience = Patience { traffic: login.traffic(), idle: settings.idle_timeout() };
        let replies = Replies { login, half, buffer: BytesMut::new() };
        let mut session = Self {
            replies,
            writer,
            next_id: 0,
            has: Extensions::default(),
            patience: patience.clone(),
            write_bytes: packet::DATA_BYTES,
            read_bytes: packet::DATA_BYTES,
            is_broken: false,
        };
        let greeted = patience.question(session.greet()).await;
        greeted.map_err(|fault| fault.of("speak SFTP with", &format!("{}:{}", settings.host, settings.port)))?;
        Ok(session)
    }

    pub(super) const fn has(&self) -> Extensions {
        self.has
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, request: Request) -> Result<Reply, Fault> {
        if self.is_broken {
            return Err(Fault::Broken("the connection has ended before".into()));
        }
        let patience = self.patience.clone();
        let answer = patience.question(self.exchange(request)).await;
        self.is_broken = matches!(answer, Err(Fault::Broken(_)));
        match answer? {
            Reply::Status(status) if !status.is_ok() => Err(Fault::Status(status)),
            reply => Ok(reply),
        }
    }

    /// [`Session::call`] for a request that is answered by a status only.
    pub(super) async fn done(&mut self, request: Request) -> Result<(), Fault> {
        match self.call(request).await? {
            Reply::Status(_) => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// [`Session::call`] for a request that opens something.
    pub(super) async fn open(&mut self, request: Request) -> Result<Bytes, Fault> {
        match self.call(request).await? {
            Reply::Handle(handle) => Ok(handle),
            _ => Err(self.unexpected()),
        }
    }

    /// How long a question may take.
    pub(super) fn question_limit(&self) -> Duration {
        self.patience.idle * QUESTION
    }

    /// Ends a session in which a question took longer than that.
    pub(super) fn abandon(&mut self) -> Fault {
        self.is_broken = true;
        Fault::Broken(overdue(self.patience.idle))
    }

    /// [`Session::call`] for a request for attributes.
    pub(super) async fn attributes(&mut self, request: Request) -> Result<Attributes, Fault> {
        match self.call(request).await? {
            Reply::Attributes(found) => Ok(found),
            _ => Err(self.unexpected()),
        }
    }

    /// The id of the file system of a path, if the server tells.
    pub(super) async fn file_system(&mut self, path: &str) -> Option<u64> {
        if !self.has.statvfs {
            return None;
        }
        match self.call(Request::file_system(path)).await {
            // Some file systems have no id.
            Ok(Reply::Extended(reply)) => packet::parse_file_system(reply).ok().filter(|id| *id != 0),
            _ => None,
        }
    }

    /// The next names in a folder; `None` at the end.
    pub(super) async fn names(&mut self, folder: &[u8]) -> Result<Option<Vec<Bytes>>, Fault> {
        match self.call(Request::read_folder(folder)).await {
            Ok(Reply::Names(names)) => Ok(Some(names)),
            Ok(_) => Err(self.unexpected()),
            Err(Fault::Status(Status { code: code::EOF, .. })) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Exchanges versions and asks for the server's limits.
    async fn greet(&mut self) -> Result<(), Fault> {
        self.send(Request::hello()).await?;
        let (version, extensions) = packet::parse_hello(self.replies.packet().await?)?;
        if version != packet::VERSION {
            return Err(Fault::Broken(format!("expected version {} of SFTP, found {version}", packet::VERSION)));
        }
        let has = |name: &str| extensions.iter().any(|found| found == name.as_bytes());
        self.has = Extensions {
            fsync: has(Extension::FSYNC),
            posix_rename: has(Extension::POSIX_RENAME),
            statvfs: has(Extension::STATVFS),
        };
        if !has(Extension::LIMITS) {
            return Ok(());
        }
        match self.call(Request::limits()).await {
            Ok(Reply::Extended(limits)) => {
                let (read, write) = packet::parse_limits(limits)?;
                self.read_bytes = at_once(read, read::MOST);
                self.write_bytes = at_once(write, write::MOST);
                Ok(())
            }
            Ok(_) => Err(self.unexpected()),
            // Then the limits of the draft apply.
            Err(Fault::Status(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn exchange(&mut self, request: Request) -> Result<Reply, Fault> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.send(request.with_id(id)).await?;
        match self.replies.reply().await? {
            (found, reply) if found == id => Ok(reply),
            (found, _) => Err(Fault::Broken(format!("expected the answer {id}, found the answer {found}"))),
        }
    }

    async fn send(&self, packet: Bytes) -> Result<(), Fault> {
        let sent = self.writer.data_bytes(packet).await;
        sent.map_err(|error| Fault::Broken(format!("cannot send: {error}")))
    }

    fn unexpected(&mut self) -> Fault {
        self.is_broken = true;
        Fault::Broken("the server's answer does not fit the request".into())
    }
}

/// The most bytes of one read or write under the limit of a server, where 0 stands for no limit.
fn at_once(limit: u64, most: u32) -> u32 {
    match u32::try_from(limit) {
        Ok(0) | Err(_) => most,
        Ok(limit) => limit.min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_lower_the_limit_but_not_raise_it() {
        for most in [read::MOST, write::MOST] {
            assert_eq!([0, 1000, 1 << 20, u64::MAX].map(|limit| at_once(limit, most)), [most, 1000, most, most]);
        }
    }
}
