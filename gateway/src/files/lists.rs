use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use contract::ProblemKind;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use crate::refusal::Refusal;
use crate::seats::{Seat, Seats};

/// How many lists may be under way, from the query until the client has taken the answer. Each takes some MiB.
const LISTS_MAX: usize = 32;

/// How many of them may be for one user.
const LISTS_OF_ONE: usize = 8;

/// How many bytes of an answer are handed over at once. The rest waits until the client has taken most of them.
const FRAME: usize = 16 * 1024;

/// Bounds how many lists are under way.
#[derive(Debug)]
pub(crate) struct Lists(Seats<String>);

impl Default for Lists {
    fn default() -> Self {
        Self(Seats::new(LISTS_MAX, LISTS_OF_ONE))
    }
}

impl Lists {
    pub(super) fn begin(&self, user: String) -> Result<Seat<String>, Refusal> {
        self.0.take(user).ok_or_else(|| Refusal::new(ProblemKind::Busy, "too many lists at once; try again later"))
    }
}

/// The answer with a list. The seat is kept until the client has taken all but the last frames of it.
pub(super) fn answer(list: &impl Serialize, seat: Seat<String>) -> Response {
    // A struct of strings, numbers and JSON values can always be written.
    let rest = serde_json::to_vec(list).expect("a list is plain data").into();
    ([(CONTENT_TYPE, "application/json")], Body::new(SeatedBody { rest, _seat: seat })).into_response()
}

struct SeatedBody {
    rest: Bytes,
    _seat: Seat<String>,
}

impl HttpBody for SeatedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(FRAME);
        if length == 0 {
            return Poll::Ready(None);
        }
        // A copy: a slice would keep the whole answer in memory for as long as the connection has it, without the seat.
        let frame = Bytes::copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
