//! HTTP/2 with one request per connection.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, poll_fn};
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::http2;
use hyper::rt::Executor;

/// How many unread bytes of an answer the server may send: enough for 100 MiB/s at 20 ms, and the most that is in
/// memory. The server sets the same limit for what we send.
const WINDOW: u32 = 2 * 1024 * 1024;

/// The most bytes of the head of an answer, as HTTP/2 counts them; hyper's own limit of 16 KiB is about 100 fields.
const HEAD: u32 = 128 * 1024;

/// The tasks that hyper runs beside a connection. They make progress only while the connection is driven, and are
/// dropped with it, so here too, a caller that stops waiting has stopped sending.
#[derive(Clone, Default)]
pub(super) struct Streams {
    new: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, work: F) {
        // A poisoned lock is harmless: every update is one push or one take.
        self.new.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }
}

impl Streams {
    /// Drives the connection and its tasks until all of them have ended.
    pub(super) async fn run(self, connection: impl Future<Output = ()>) {
        let mut connection = pin!(connection);
        let mut connected = true;
        let mut work = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                connected = connected && connection.as_mut().poll(cx).is_pending();
                work.extend(std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner)));
                match work.poll_next_unpin(cx) {
                    // The connection may have waited for this task.
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) if connected => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending if self.new.lock().unwrap_or_else(PoisonError::into_inner).is_empty() => {
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
        })
        .await;
    }
}

/// The settings of a connection.
pub(super) fn builder(streams: &Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams.clone());
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW).max_header_list_size(HEAD);
    builder
}
