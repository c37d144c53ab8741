use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::packet::{Reply, Request, Status};
use super::{Fault, REQUESTS, Replies, Session};
use crate::remote::body::Body;

/// Bytes written at once where the server allows it: OpenSSH's own limit, a little less than its packets hold.
pub(super) const MOST: u32 = 255 * 1024;

/// Bytes of writes that are not answered at most. OpenSSH takes 2 MiB before it has looked at any.
const UNANSWERED: u32 = 4 * 1024 * 1024;

/// Written bytes are synced this often, where the server can, so that the last sync of a large file takes less than the idle
/// timeout: a server that syncs shows no sign of life.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;

impl Session {
    /// Writes the whole body, with many writes on their way, and syncs it now and then where the server can. After a write that
    /// failed nothing more is sent, but the answers to those before it are awaited, so that the session can be used again.
    pub(in super::super) async fn write(&mut self, handle: &[u8], body: &mut Body) -> Result<(), Fault> {
        let under_way = (UNANSWERED / self.write_bytes).clamp(1, REQUESTS);
        let (asked, to_be_answered) = mpsc::channel(under_way as usize);
        let failed = CancellationToken::new();
        let mut writes = Writes {
            writer: &self.writer,
            next_id: &mut self.next_id,
            handle,
            at_once: self.write_bytes as usize,
            syncs: self.has.fsync,
            asked,
            failed: &failed,
        };
        let sending = async move { writes.send(body).await };
        // A session that broke ends both.
        let ended = tokio::try_join!(sending, answers(&mut self.replies, to_be_answered, &failed));
        self.is_broken |= ended.is_err();
        match ended? {
            (_, Some(status)) => Err(Fault::Status(status)),
            (false, None) => Err(Fault::Stopped),
            (true, None) => Ok(()),
        }
    }
}

/// The requests of one file.
struct Writes<'a> {
    writer: &'a ChannelWriteHalf<Msg>,
    next_id: &'a mut u32,
    handle: &'a [u8],
    /// Bytes of one write.
    at_once: usize,
    syncs: bool,
    /// Has room for as many requests as may be under way.
    asked: mpsc::Sender<()>,
    /// A request was not done: no more are sent.
    failed: &'a CancellationToken,
}

impl Writes<'_> {
    /// Sends a write for each piece; `false` if the body stopped.
    async fn send(&mut self, body: &mut Body) -> Result<bool, Fault> {
        let (mut offset, mut unsynced) = (0, 0);
        loop {
            let piece = tokio::select! {
                biased;
                () = self.failed.cancelled() => return Ok(true),
                piece = body.next() => piece,
            };
            let mut piece: Bytes = match piece {
                None => return Ok(true),
                Some(Err(_)) => return Ok(false),
                Some(Ok(piece)) => piece,
            };
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(self.at_once));
                self.ask(Request::write(self.handle, offset, &part)).await;
                offset += part.len() as u64;
                unsynced += part.len() as u64;
                if self.syncs && unsynced >= SYNC_BYTES {
                    self.ask(Request::fsync(self.handle)).await;
                    unsynced = 0;
                }
            }
        }
    }

    /// Sends a request, once few enough are under way; nothing after a failure.
    async fn ask(&mut self, request: Request) {
        let Ok(place) = self.asked.reserve().await else { return };
        if self.failed.is_cancelled() {
            return;
        }
        place.send(());
        let packet = request.with_id(*self.next_id);
        *self.next_id = self.next_id.wrapping_add(1);
        // Not ended half way but by the other end, which waits for the answer and knows why there will be none.
        if self.writer.data_bytes(packet).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes an answer for each request that was sent; the first failure, if there was one.
async fn answers(
    replies: &mut Replies,
    mut to_be_answered: mpsc::Receiver<()>,
    failed: &CancellationToken,
) -> Result<Option<Status>, Fault> {
    let mut failure = None;
    loop {
        // While the body is waited for, the server is alive as long as it answers to SSH itself.
        let asked = tokio::select! {
            biased;
            asked = to_be_answered.recv() => asked,
            fault = replies.end() => return Err(fault),
        };
        if asked.is_none() {
            return Ok(failure);
        }
        // In whatever order. One too many would show with the next request.
        match replies.reply().await? {
            (_, Reply::Status(status)) if status.is_ok() => {}
            (_, Reply::Status(status)) => {
                failure.get_or_insert(status);
                failed.cancel();
            }
            _ => return Err(Fault::Broken("the server answered a write with something else".into())),
        }
    }
}
