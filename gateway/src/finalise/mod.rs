//! `POST /upload/{id}/finalise`: says what the file must be, and queues its delivery.

mod header;
mod request;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use contract::{Digest, Expectation, ObjectName, ProblemKind, Step};
use ledger::{Expected, FileRecord};
use serde_json::json;
use settings::Settings;

use crate::body::{self, Media};
use crate::prepare::accepted;
use crate::problem::Problem;
use crate::{Gateway, files};
use request::FinaliseRequest;

pub(crate) async fn finalise(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let id = files::id_of(id)?;
    let (head, body) = request.into_parts();
    let sha256 = header::digest(&head.headers)?;
    let media = Media::of(&head.headers)?;
    let request = FinaliseRequest::parse(&media, &body::read(&gateway, body).await?)?;
    let settings = &gateway.service.settings;
    if let Some(remote) = &request.remote {
        check_remote(settings, remote)?;
    }
    let complete = |record: &FileRecord| expectation(settings, &request, sha256, record);
    let expected = gateway.service.ledger.expect(id, complete).await??;
    fail::fail_point!("gateway-after-expect", |_| std::process::abort());
    match expected {
        Expected::Accepted(record) => {
            gateway.service.announcer.announce(&record, Some(Step::Finalise));
            Ok(accepted(StatusCode::ACCEPTED, id, record.state))
        }
        Expected::Waiting(record) | Expected::Already(record) => Ok(accepted(StatusCode::ACCEPTED, id, record.state)),
        Expected::Refused(mismatch) => Err(Problem::from(&mismatch)),
        Expected::Another(record) => Err(another(&record, complete(&record)?)),
        Expected::Ended(record) => Err(ended(&record)),
        Expected::Unknown => Err(files::unknown(id)),
    }
}

/// The request with what it leaves open taken from the record and the settings.
fn expectation(
    settings: &Settings,
    request: &FinaliseRequest,
    sha256: Digest,
    record: &FileRecord,
) -> Result<Expectation, Problem> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => ObjectName::new(record.name.as_str()).map_err(|error| {
            Problem::new(ProblemKind::BadName, format!("the file's own name: {error}; send filename"))
        })?,
    };
    let remote = request.remote.as_ref().or(record.remote.as_ref()).or(settings.default_remote.as_ref());
    let remote = remote.cloned().ok_or_else(|| {
        Problem::new(
            ProblemKind::NoRemote,
            "expected a remote in this request or in prepare's, or the setting default_remote, found none",
        )
    })?;
    check_remote(settings, &remote)?;
    Ok(Expectation { sha256, size: request.size, chunks: request.chunks, name, remote })
}

/// Whether a remote is configured: no caller can name any other.
pub(crate) fn check_remote(settings: &Settings, remote: &str) -> Result<(), Problem> {
    if settings.remotes.contains_key(remote) {
        return Ok(());
    }
    let remote: String = remote.chars().take(64).collect();
    Err(Problem::new(ProblemKind::UnknownRemote, format!("expected the name of a configured remote, found {remote:?}")))
}

fn another(record: &FileRecord, asked: Expectation) -> Problem {
    let shown = |it: &Expectation| json!({ "sha256": it.sha256, "filename": it.name, "remote": it.remote });
    let detail = "expected the same SHA-256, filename and remote as the request that was accepted before, found others";
    Problem::new(ProblemKind::AlreadyFinalised, detail)
        .comparing(shown(&asked), record.expectation.as_ref().map_or(serde_json::Value::Null, shown))
}

fn ended(record: &FileRecord) -> Problem {
    let reason = record.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.detail));
    Problem::new(
        ProblemKind::FileEnded,
        format!("expected a file that can still be delivered, found it {}{reason}", record.state),
    )
}
