//! All addresses, in an open and a protected router. A request that the open router does not know goes to the protected
//! one.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::ALLOW;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any, get, post};
use contract::ProblemKind;
use tower::Layer;

use crate::layers::admit::admit;
use crate::layers::log::log;
use crate::refusal::Refusal;
use crate::upload::{finalise, prepare};
use crate::{Gateway, auth, files, health};

pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let admit = from_fn_with_state(gateway.clone(), admit);
    let open = routes([
        // Only POST needs no token here; any other method is answered as at a protected address.
        ("/auth/token", any(not_post).layer(admit.clone()).post(auth::token)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
    ]);
    let protected = routes([
        ("/upload/prepare", post(prepare::prepare)),
        ("/upload/{id}/finalise", post(finalise::finalise)),
        ("/files", get(files::list)),
        ("/files/{id}", get(files::file)),
    ]);
    // `admit` wraps the whole protected router: as a layer of each route it would leave the header Allow on a 401, and
    // so tell a stranger which addresses exist.
    let protected = admit.layer(protected.fallback(no_route).with_state(gateway.clone()));
    open.fallback_service(protected).layer(from_fn(log)).with_state(gateway)
}

/// What a connection beyond the limits gets: health checks, and nothing else.
pub(crate) fn crowded(gateway: Arc<Gateway>) -> Router {
    let open = routes([("/healthz", get(health::alive)), ("/readyz", get(health::ready))]);
    open.fallback(busy).layer(from_fn(log)).with_state(gateway)
}

async fn busy(State(gateway): State<Arc<Gateway>>, body: Body) -> Refusal {
    // A connection that is closed while its client still sends is reset, and the client may never see this answer.
    drop(gateway.limits.read(body).await);
    Refusal::new(
        ProblemKind::Busy,
        "all connections of the service are in use, or all that your address may have; try again later",
    )
}

/// Adds each address with and without a trailing slash, because callers of the original service use both.
fn routes<const N: usize>(table: [(&str, MethodRouter<Arc<Gateway>>); N]) -> Router<Arc<Gateway>> {
    let router = table.into_iter().fold(Router::new(), |router, (path, methods)| {
        router.route(&format!("{path}/"), methods.clone()).route(path, methods)
    });
    router.method_not_allowed_fallback(wrong_method)
}

async fn no_route(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(ProblemKind::NotFound, format!("expected an address of this service, found {path:?}"))
}

/// The router adds the header `Allow`.
async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(
        ProblemKind::MethodNotAllowed,
        format!("{path} does not take {method}; the header Allow lists what it takes"),
    )
}

/// `any` adds no header `Allow`.
async fn not_post(method: Method, uri: Uri) -> impl IntoResponse {
    ([(ALLOW, "POST")], wrong_method(method, uri).await)
}
