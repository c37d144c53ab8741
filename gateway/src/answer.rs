use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

use crate::problem::{Cause, Problem};
use crate::{Gateway, routes};

/// Answers a request: who calls is judged before anything else, so that a stranger learns nothing, not even which ids and
/// routes exist.
pub(crate) async fn answer(gateway: Arc<Gateway>, router: Router, mut request: Request) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let admitted = admit(&gateway, &mut request).await;
    let response = match admitted {
        Ok(()) => match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(problem) => problem.into_response(),
    };
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    match response.extensions().get::<Cause>() {
        Some(Cause(cause)) => tracing::warn!(%method, path, status, ?took, "a request was not served: {cause}"),
        None if status >= 500 => tracing::warn!(%method, path, status, ?took, "a request was not served"),
        None => tracing::debug!(%method, path, status, ?took, "answered"),
    }
    response
}

async fn admit(gateway: &Gateway, request: &mut Request) -> Result<(), Problem> {
    if routes::is_open(request.method(), request.uri().path()) {
        return Ok(());
    }
    let caller = gateway.auth.caller(&gateway.service.ledger, request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(())
}
