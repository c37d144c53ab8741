use bytes::Bytes;
use tokio::sync::mpsc;

/// The bytes of a file for a remote, which may open them more than once: a server that sends a request on to another address
/// has kept nothing of its body.
#[derive(Debug)]
pub struct Source {
    size: u64,
    room: usize,
    opened: mpsc::Sender<mpsc::Sender<Bytes>>,
}

impl Source {
    /// The bytes of a file of `size` bytes, of which up to `room` pieces may wait for the remote. Each time the remote opens
    /// them, the receiver gets where to put all of them, from the first one on.
    pub fn new(size: u64, room: usize) -> (Self, mpsc::Receiver<mpsc::Sender<Bytes>>) {
        let (opened, requests) = mpsc::channel(1);
        (Self { size, room, opened }, requests)
    }

    /// The bytes from the first one on. A body that was opened before must be dropped first.
    pub(super) async fn open(&self) -> Body {
        let (to, pieces) = mpsc::channel(self.room.max(1));
        // Where nobody gives the bytes any more, the body stops at once.
        let _ = self.opened.send(to).await;
        Body::new(self.size, pieces)
    }
}

/// The bytes of a file on their way to a remote, in order.
///
/// It ends well only after as many bytes as the file has: a sender that dies half-way shows as [`BodyStopped`], never as an end.
#[derive(Debug)]
pub(super) struct Body {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

/// The sender of the bytes stopped before the end, on purpose or not.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the file's bytes stopped {left} bytes before its end")]
pub(super) struct BodyStopped {
    left: u64,
}

impl Body {
    /// A body of `size` bytes that come through `pieces`.
    pub(super) const fn new(size: u64, pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, left: size }
    }

    /// A body whose bytes are in memory.
    pub(super) fn in_memory(bytes: Vec<Bytes>) -> Self {
        let size = bytes.iter().map(|piece| piece.len() as u64).sum();
        let (to, pieces) = mpsc::channel(bytes.len().max(1));
        for piece in bytes {
            // The channel has room for all of them.
            drop(to.try_send(piece));
        }
        Self::new(size, pieces)
    }

    /// The next bytes; `None` at the end of the whole.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BodyStopped>> {
        let piece = self.pieces.recv().await;
        self.take(piece)
    }

    /// [`Body::next`] for a thread that may block; panics in one that runs async tasks.
    pub(super) fn blocking_next(&mut self) -> Option<Result<Bytes, BodyStopped>> {
        let piece = self.pieces.blocking_recv();
        self.take(piece)
    }

    /// [`Body::next`] as a poll.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, BodyStopped>>> {
        self.pieces.poll_recv(cx).map(|piece| self.take(piece))
    }

    fn take(&mut self, piece: Option<Bytes>) -> Option<Result<Bytes, BodyStopped>> {
        match piece {
            Some(bytes) => match self.left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Some(Ok(bytes))
                }
                None => Some(Err(BodyStopped { left: 0 })),
            },
            None if self.left == 0 => None,
            None => Some(Err(BodyStopped { left: self.left })),
        }
    }

    /// How many bytes are still to come.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }
}
