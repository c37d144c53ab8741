//! `GET /healthz` and `GET /readyz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runtime::Service;
use serde_json::json;
use tokio::sync::Mutex;

use crate::Gateway;

/// How long the result of one check answers every request: anybody may ask without a token, and each check costs a
/// round trip to MongoDB.
const FRESH: Duration = Duration::from_secs(1);

/// What kept the service from working at the last check.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Option<Check>>>);

#[derive(Debug)]
struct Check {
    at: Instant,
    problems: Vec<String>,
}

impl Readiness {
    /// At most one check runs at a time; requests that come meanwhile get its result.
    async fn problems(&self, service: &Service) -> Vec<String> {
        let (last, service) = (self.0.clone(), service.clone());
        // A task of its own: a caller who goes away must not let the next check begin early.
        let checking = tokio::spawn(async move {
            let mut last = last.lock().await;
            if let Some(check) = last.as_ref().filter(|check| check.at.elapsed() < FRESH) {
                return check.problems.clone();
            }
            let problems = service.problems().await;
            *last = Some(Check { at: Instant::now(), problems: problems.clone() });
            problems
        });
        checking.await.unwrap_or_else(|ended| vec![ended.to_string()])
    }
}

pub(crate) async fn alive() -> Response {
    Json(json!({ "ok": true })).into_response()
}

pub(crate) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let problems = gateway.readiness.problems(&gateway.service).await;
    if problems.is_empty() {
        return Json(json!({ "ok": true })).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ok": false, "problems": problems }))).into_response()
}
