use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::remote::patience::{self, Moved};
use crate::remote::send_queue::SendQueue;

/// The most bytes within an idle timeout that count as silence: SSH's own messages that keep a session alive have
/// fewer.
const ALIVE_BYTES: u64 = 2048;

/// What passes over the socket of a session.
#[derive(Debug)]
pub(super) struct Traffic {
    received: AtomicU64,
    written: AtomicU64,
    queue: SendQueue,
}

impl Traffic {
    /// Bytes that the server has sent.
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that the server has sent or taken, without those that the kernel still holds for it.
    fn moved(&self) -> u64 {
        self.received() + self.written.load(Ordering::Relaxed).saturating_sub(self.queue.held())
    }

    /// Returns why the server is given up. While `is_awaited`, it is to answer, or to move `more` than an answer.
    pub(super) async fn runs_out(&self, idle: Duration, more: bool, is_awaited: impl Fn() -> bool) -> String {
        let look = || is_awaited().then(|| Moved { bytes: self.moved(), more });
        patience::runs_out(idle, ALIVE_BYTES, look).await
    }

    /// Returns once the server has sent nothing at all for `idle`, not even a sign that it is alive.
    pub(super) async fn dies(&self, idle: Duration) -> String {
        patience::runs_out(idle, 1, || Some(Moved { bytes: self.received(), more: false })).await
    }
}

/// The socket of a session. Everything fails once the token is cancelled: the task that russh runs for a session ends
/// only with its socket.
pub(super) struct Line {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    pub(super) fn new(stream: TcpStream, ended: &CancellationToken) -> io::Result<Self> {
        let (received, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let traffic = Arc::new(Traffic { received, written, queue: SendQueue::of(&stream)? });
        Ok(Self { stream, traffic, ended: Box::pin(ended.clone().cancelled_owned()) })
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    fn ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ended(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.traffic.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.ended(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            self.traffic.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up_and_an_ended_line_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, peer) = tokio::join!(connecting, listener.accept());
        let end = CancellationToken::new();
        let mut line = Line::new(stream.unwrap(), &end).unwrap();
        let traffic = line.traffic();
        // More than the buffers at both ends hold.
        let content = vec![0; 256 << 20];
        let written = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                written = line.write_all(&content) => panic!("{written:?}"),
                why = traffic.runs_out(Duration::from_millis(50), false, || true) => why,
            }
        });
        assert_eq!(written.await.expect("the write waits for ever"), "neither took bytes nor answered for 50ms");
        let ending = async {
            tokio::task::yield_now().await;
            end.cancel();
        };
        let reading = tokio::time::timeout(Duration::from_secs(60), line.read_u8());
        let (read, ()) = tokio::join!(reading, ending);
        assert_eq!(read.expect("the read waits for ever").unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(line.write_u8(0).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(peer);
    }
}
