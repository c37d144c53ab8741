use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger::LedgerError;
use runtime::Service;
use serde_json::json;
use tokio::sync::Mutex;

use crate::Gateway;

/// How long an answer about readiness is given again: nobody needs a token to ask, and each look costs MongoDB a round trip.
const FRESH: Duration = Duration::from_secs(1);

/// What keeps the service from working, as of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Option<Look>>>);

#[derive(Debug)]
struct Look {
    at: Instant,
    problems: Vec<String>,
}

impl Readiness {
    /// At most one look is under way at any time; whoever asks meanwhile gets what it finds.
    async fn problems(&self, service: &Service) -> Vec<String> {
        let (last, service) = (self.0.clone(), service.clone());
        // A task of its own: a caller who goes away does not make room for another look.
        let looking = tokio::spawn(async move {
            let mut last = last.lock().await;
            if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
                return look.problems.clone();
            }
            let problems = look(&service).await;
            *last = Some(Look { at: Instant::now(), problems: problems.clone() });
            problems
        });
        looking.await.unwrap_or_else(|ended| vec![ended.to_string()])
    }
}

/// Like [`Service::problems`], but without what the driver says: it names hosts, and nobody needs a token to ask here.
async fn look(service: &Service) -> Vec<String> {
    let mut problems = Vec::new();
    if service.life.is_stopping() {
        problems.push("stopping".to_owned());
    }
    problems.extend(service.nats.problem(service.settings.files.chunk_size));
    match service.ledger.ping().await {
        Ok(()) => {}
        Err(error @ LedgerError::NotPrimary) => problems.push(error.to_string()),
        Err(error) => {
            tracing::warn!("not ready: {error}");
            problems.push("MongoDB does not answer; the log of the service says why".to_owned());
        }
    }
    problems
}

/// `GET /healthz`
pub(crate) async fn alive() -> Response {
    Json(json!({ "ok": true })).into_response()
}

/// `GET /readyz`
pub(crate) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let problems = gateway.readiness.problems(&gateway.service).await;
    if problems.is_empty() {
        return Json(json!({ "ok": true })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ok": false, "problems": problems }))).into_response()
}
