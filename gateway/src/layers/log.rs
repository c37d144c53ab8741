//! Logs one line for every request.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::refusal::InternalCause;

pub(crate) async fn log(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    match response.extensions().get::<InternalCause>() {
        Some(InternalCause(cause)) => tracing::warn!(%method, path, status, ?took, "a request was not served: {cause}"),
        None if status >= 500 => tracing::warn!(%method, path, status, ?took, "a request was not served"),
        None => tracing::debug!(%method, path, status, ?took, "answered"),
    }
    response
}
