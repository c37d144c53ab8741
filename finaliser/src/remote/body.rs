use bytes::Bytes;
use tokio::sync::mpsc;

/// The content of a file. A remote may open it more than once, for example to send it again to another address after a
/// redirect.
#[derive(Debug)]
pub struct Source {
    size: u64,
    room: usize,
    opened: mpsc::Sender<mpsc::Sender<Bytes>>,
}

impl Source {
    /// A source of `size` bytes; up to `room` pieces wait for the remote. Each time the remote opens the source, the
    /// receiver gets a channel for its pieces, from the first one on.
    pub fn new(size: u64, room: usize) -> (Self, mpsc::Receiver<mpsc::Sender<Bytes>>) {
        let (opened, receiver) = mpsc::channel(1);
        (Self { size, room, opened }, receiver)
    }

    /// The content from its first byte on. An earlier body must be dropped first: until then the sender may wait for
    /// it.
    pub(super) async fn open(&self) -> Body {
        let (to, pieces) = mpsc::channel(self.room.max(1));
        // Without a receiver `to` is dropped here, and the body stops at once.
        let _ = self.opened.send(to).await;
        Body::new(self.size, pieces)
    }
}

/// The bytes of a file, or of a part of it, in order.
///
/// It ends only after exactly as many bytes as were announced: a sender that stops earlier becomes [`BodyStopped`],
/// never an end.
#[derive(Debug)]
pub(super) struct Body {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

/// The sender stopped before the end, on purpose or not.
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

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BodyStopped>> {
        let piece = self.pieces.recv().await;
        self.take(piece)
    }

    /// [`Body::next`] for a thread that may block; panics in a thread that runs async tasks.
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
