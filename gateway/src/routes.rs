use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{MethodRouter, get, post};

use contract::ProblemKind;

use crate::problem::Problem;
use crate::{Gateway, auth, files, finalise, health, prepare};

const TOKEN: &str = "/auth/token";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

/// All routes, each with and without a trailing slash, as the original service's callers use both.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let routes: [(&str, MethodRouter<Arc<Gateway>>); 7] = [
        (TOKEN, post(auth::token)),
        ("/upload/prepare", post(prepare::prepare)),
        ("/upload/{id}/finalise", post(finalise::finalise)),
        ("/files", get(files::list)),
        ("/files/{id}", get(files::file)),
        (HEALTHZ, get(health::alive)),
        (READYZ, get(health::ready)),
    ];
    let mut router = Router::new();
    for (path, methods) in routes {
        router = router.route(&format!("{path}/"), methods.clone()).route(path, methods);
    }
    router.fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(gateway)
}

/// Whether a request needs no token.
pub(crate) fn is_open(method: &Method, path: &str) -> bool {
    match path.strip_suffix('/').unwrap_or(path) {
        TOKEN => method == Method::POST,
        HEALTHZ | READYZ => true,
        _ => false,
    }
}

async fn no_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(ProblemKind::NotFound, format!("expected an address of this service, found {path:?}"))
}

// The router adds `Allow`.
async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        ProblemKind::MethodNotAllowed,
        format!("{path} does not take {method}; the header Allow names what it takes"),
    )
}

impl Gateway {
    /// How long a client has to send the head of a request, and then its body.
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.service.settings.gateway.read_timeout_ms)
    }
}
