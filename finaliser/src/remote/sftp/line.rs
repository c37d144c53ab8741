use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The socket of a session. A write that the server does not accept in time fails, and everything fails once the token
/// is cancelled: the task that russh runs for a session ends only with its socket.
pub(super) struct Line {
    stream: TcpStream,
    idle: Duration,
    /// The deadline of a write that is waiting.
    stalled: Option<Pin<Box<Sleep>>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    pub(super) fn new(stream: TcpStream, idle: Duration, ended: &CancellationToken) -> Self {
        Self { stream, idle, stalled: None, ended: Box::pin(ended.clone().cancelled_owned()) }
    }

    fn ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let deadline = Instant::now() + self.idle;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ended(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.ended(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, written)
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
    async fn a_peer_that_reads_nothing_and_an_ended_line_fail() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, peer) = tokio::join!(connecting, listener.accept());
        let end = CancellationToken::new();
        let mut line = Line::new(stream.unwrap(), Duration::from_millis(50), &end);
        // More than the buffers at both ends hold.
        let taken = tokio::time::timeout(Duration::from_secs(60), line.write_all(&vec![0; 256 << 20])).await;
        assert_eq!(taken.expect("it waits for ever").unwrap_err().kind(), io::ErrorKind::TimedOut);
        let ending = async {
            tokio::task::yield_now().await;
            end.cancel();
        };
        let reading = tokio::time::timeout(Duration::from_secs(60), line.read_u8());
        let (read, ()) = tokio::join!(reading, ending);
        assert_eq!(read.expect("it waits for ever").unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(line.write_u8(0).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(peer);
    }
}
