use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::packet::{Reply, Request, Status};
use super::{Fault, Patience, REQUESTS, Replies, Session};
use crate::remote::body::Body;

/// The most bytes of one write, if the server allows that many: OpenSSH's limit, a little less than its packets hold.
pub(super) const MOST: u32 = 255 * 1024;

/// The most bytes of unanswered writes. OpenSSH buffers 2 MiB before it reads the first of them.
const UNANSWERED: u32 = 4 * 1024 * 1024;

/// How many bytes are written between two syncs, if the server can sync. The last sync of a large file must take less
/// than the idle timeout, because a server that syncs is silent.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;

impl Session {
    /// Writes the whole body, with many writes in flight, and syncs it now and then if the server can. After a failed
    /// write it sends nothing more, but awaits the outstanding answers, so that the session stays usable.
    pub(in super::super) async fn write(&mut self, handle: &[u8], body: &mut Body) -> Result<(), Fault> {
        let most = (UNANSWERED / self.write_bytes).clamp(1, REQUESTS);
        let (sent, unanswered) = mpsc::channel(most as usize);
        let failed = CancellationToken::new();
        let awaited = AtomicU32::new(0);
        let mut writes = Writes {
            writer: &self.writer,
            next_id: &mut self.next_id,
            handle,
            at_once: self.write_bytes as usize,
            syncs: self.has.fsync,
            sent,
            awaited: &awaited,
            failed: &failed,
        };
        let sending = async move { writes.send(body).await };
        let patience = &self.patience;
        let answering = answers(&mut self.replies, unanswered, &awaited, &failed, patience);
        // A broken session ends both.
        let working = async { tokio::try_join!(sending, answering) };
        let ended = patience.transfer(|| awaited.load(Ordering::Relaxed) > 0, working).await;
        self.is_broken |= ended.is_err();
        match ended? {
            (_, Some(status)) => Err(Fault::Status(status)),
            (false, None) => Err(Fault::Stopped),
            (true, None) => Ok(()),
        }
    }
}

/// The sending of one file.
struct Writes<'a> {
    writer: &'a ChannelWriteHalf<Msg>,
    next_id: &'a mut u32,
    handle: &'a [u8],
    /// Bytes of one write.
    at_once: usize,
    syncs: bool,
    /// It has room for as many requests as may be in flight.
    sent: mpsc::Sender<()>,
    /// How many answers are awaited.
    awaited: &'a AtomicU32,
    /// Cancelled when a request failed: no more are sent.
    failed: &'a CancellationToken,
}

impl Writes<'_> {
    /// Writes each piece; `false` if the body stopped.
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

    /// Sends a request once few enough are in flight, and nothing after a failure.
    async fn ask(&mut self, request: Request) {
        let Ok(permit) = self.sent.reserve().await else { return };
        if self.failed.is_cancelled() {
            return;
        }
        permit.send(());
        self.awaited.fetch_add(1, Ordering::Relaxed);
        let packet = request.with_id(*self.next_id);
        *self.next_id = self.next_id.wrapping_add(1);
        // The task that awaits the answers ends this one: it knows why there will be none.
        if self.writer.data_bytes(packet).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Awaits an answer to each request that was sent. Returns the first failure, if there was one.
async fn answers(
    replies: &mut Replies,
    mut unanswered: mpsc::Receiver<()>,
    awaited: &AtomicU32,
    failed: &CancellationToken,
    patience: &Patience,
) -> Result<Option<Status>, Fault> {
    let mut failure = None;
    loop {
        let sent = tokio::select! {
            biased;
            sent = unanswered.recv() => sent,
            fault = replies.end(patience) => return Err(fault),
        };
        if sent.is_none() {
            return Ok(failure);
        }
        // Answers may come in any order. An excess answer would show at the next request.
        let (_, reply) = replies.reply().await?;
        awaited.fetch_sub(1, Ordering::Relaxed);
        match reply {
            Reply::Status(status) if status.is_ok() => {}
            Reply::Status(status) => {
                failure.get_or_insert(status);
                failed.cancel();
            }
            _ => return Err(Fault::Broken("the server answered a write with something else".into())),
        }
    }
}
