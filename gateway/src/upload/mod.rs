//! `/upload/...`: a file is prepared, then finalised.

pub(crate) mod finalise;
pub(crate) mod prepare;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use contract::{FileId, ProblemKind, State};
use serde::Serialize;
use settings::Settings;

use crate::refusal::Refusal;

#[derive(Debug, Serialize)]
struct Accepted {
    file_id: FileId,
    state: State,
}

/// The answer to a request that was accepted.
fn accepted(status: StatusCode, file_id: FileId, state: State) -> Response {
    (status, [(LOCATION, format!("/files/{file_id}"))], Json(Accepted { file_id, state })).into_response()
}

/// Refuses a remote that is not configured: no caller can name any other.
fn check_remote(settings: &Settings, remote: &str) -> Result<(), Refusal> {
    if settings.remotes.contains_key(remote) {
        return Ok(());
    }
    let remote: String = remote.chars().take(64).collect();
    Err(Refusal::new(ProblemKind::UnknownRemote, format!("expected the name of a configured remote, found {remote:?}")))
}
