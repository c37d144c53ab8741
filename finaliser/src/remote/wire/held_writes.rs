use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// A connection whose failed writes never return.
///
/// hyper ends a connection on the first failed write, and loses an answer that is waiting to be read. Such an answer is
/// the rule, not the exception: a server that refuses a large body answers and closes, and then our next write fails.
/// While that write is held back, hyper goes on reading, and finds the answer or the end of the connection.
pub(super) struct HeldWrites<T> {
    io: T,
    broken: Arc<OnceLock<String>>,
}

impl<T: Unpin> HeldWrites<T> {
    /// `broken` receives the error of the first write that fails.
    pub(super) const fn new(io: T, broken: Arc<OnceLock<String>>) -> Self {
        Self { io, broken }
    }

    fn held<O>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<O>>,
    ) -> Poll<io::Result<O>> {
        if self.broken.get().is_some() {
            return Poll::Pending;
        }
        match write(Pin::new(&mut self.io), cx) {
            // hyper reads before it writes, so the reading side has our waker already.
            Poll::Ready(Err(error)) => {
                self.broken.get_or_init(|| error.to_string());
                Poll::Pending
            }
            done => done,
        }
    }
}

impl<T: Read + Unpin> Read for HeldWrites<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for HeldWrites<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.held(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held(cx, T::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.held(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }
}
