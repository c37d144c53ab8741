use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Buf, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::remote::RemoteError;
use crate::remote::body::{Body, BodyStopped};
use crate::remote::patience::{self, Moved};
use crate::remote::send_queue::SendQueue;

/// How much of a body the connection has taken.
#[derive(Debug, Default)]
pub(super) struct Flow {
    size: u64,
    handed: AtomicU64,
    taken: AtomicU64,
    at_source: AtomicBool,
}

impl Flow {
    /// The flow of a body of `size` bytes, the channel into which [`Flow::feed`] puts its pieces, and the body for
    /// hyper.
    pub(super) fn new(size: u64) -> (Arc<Self>, mpsc::Sender<Bytes>, Outgoing) {
        let flow = Arc::new(Self { size, ..Self::default() });
        // Room for one piece: hyper has a buffer of its own.
        let (to, pieces) = mpsc::channel(1);
        (Arc::clone(&flow), to, Outgoing { pieces: Body::new(size, pieces), flow })
    }

    /// How many bytes the connection has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Passes on the pieces, the last one only if the lease still holds: with the last piece the remote has everything.
    pub(super) async fn feed(
        &self,
        mut body: Body,
        to: mpsc::Sender<Bytes>,
        still_ours: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(), RemoteError> {
        while body.left() > 0 {
            self.at_source.store(true, Ordering::Release);
            let piece = body.next().await;
            self.at_source.store(false, Ordering::Release);
            let Some(Ok(piece)) = piece else { return Err(RemoteError::Stopped) };
            if body.left() == 0 && !still_ours() {
                return Err(RemoteError::Stopped);
            }
            self.handed.fetch_add(piece.len() as u64, Ordering::AcqRel);
            if to.send(piece).await.is_err() {
                // The connection has ended, and its own error says why.
                break;
            }
        }
        Ok(())
    }

    /// Returns why the remote is given up: it has taken nothing for `idle`, although we had some for it, or too little.
    /// What the kernel still holds it has not taken. Waiting for the source does not count.
    pub(super) async fn runs_out(&self, idle: Duration, queue: &SendQueue) -> String {
        let look = || {
            let taken = self.taken();
            if self.at_source.load(Ordering::Acquire) && self.handed.load(Ordering::Acquire) == taken {
                return None;
            }
            // With TLS the kernel holds a little more than these bytes.
            let bytes = taken.saturating_sub(queue.held());
            Some(Moved { bytes, more: bytes < self.size })
        };
        patience::runs_out(idle, 1, look).await
    }
}

/// A body on its way out. Its length is known in advance.
#[derive(Debug)]
pub(in crate::remote) struct Outgoing {
    pieces: Body,
    flow: Arc<Flow>,
}

impl Outgoing {
    /// A body that is in memory, for example of a command.
    pub(super) fn in_memory(bytes: Bytes) -> (Arc<Flow>, Self) {
        let flow = Arc::new(Flow { size: bytes.len() as u64, ..Flow::default() });
        (Arc::clone(&flow), Self { pieces: Body::in_memory(vec![bytes]), flow })
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Piece;
    type Error = BodyStopped;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyStopped>>> {
        self.pieces.poll_next(cx).map(|piece| {
            piece.map(|piece| piece.map(|bytes| Frame::data(Piece { bytes, flow: Arc::clone(&self.flow) })))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.left())
    }
}

/// Bytes that count themselves when the connection takes them.
#[derive(Debug)]
pub(in crate::remote) struct Piece {
    bytes: Bytes,
    flow: Arc<Flow>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.flow.taken.fetch_add(count as u64, Ordering::AcqRel);
    }
}
