//! `POST /upload/{id}/finalise`: records what the file must be, and queues its delivery.

mod header;
mod request;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use contract::{Digest, Expectation, ProblemKind, State as FileState, Step};
use ledger::{ExpectationOutcome, FileRecord};
use serde_json::json;
use settings::Settings;

use super::{accepted, check_remote};
use crate::Gateway;
use crate::auth::Caller;
use crate::body::Media;
use crate::files::{IdInPath, unknown_file};
use crate::refusal::Refusal;
use request::FinaliseRequest;

pub(crate) async fn finalise(
    State(gateway): State<Arc<Gateway>>,
    Extension(Caller { user, .. }): Extension<Caller>,
    IdInPath(id): IdInPath,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let sha256 = header::digest(&head.headers)?;
    let media = Media::of(&head.headers)?;
    let request = FinaliseRequest::parse(&media, &gateway.limits.read(body).await?)?;
    let settings = &gateway.service.settings;
    if let Some(remote) = &request.remote {
        check_remote(settings, remote)?;
    }
    let complete = |record: &FileRecord| expectation(settings, &request, sha256, record);
    let expected = gateway.service.ledger.record_expectation(id, &user, complete).await??;
    fail::fail_point!("gateway-after-expect", |_| std::process::abort());
    match expected {
        ExpectationOutcome::Accepted(record) => {
            gateway.service.announcer.announce(&record, Some(Step::Finalise));
            Ok(accepted(StatusCode::ACCEPTED, id, record.state))
        }
        ExpectationOutcome::Waiting(record) | ExpectationOutcome::Already(record) => {
            Ok(accepted(StatusCode::ACCEPTED, id, record.state))
        }
        ExpectationOutcome::Refused(mismatch) => Err(Refusal::from(&mismatch)),
        ExpectationOutcome::Another(record) => Err(already_finalised(&record, complete(&record)?)),
        ExpectationOutcome::Ended(record) => Err(file_ended(&record)),
        ExpectationOutcome::Unknown => Err(unknown_file(id)),
    }
}

/// What the file must be: the request; the record and the settings supply what it leaves out.
fn expectation(
    settings: &Settings,
    request: &FinaliseRequest,
    sha256: Digest,
    record: &FileRecord,
) -> Result<Expectation, Refusal> {
    let name = request.name.as_ref().unwrap_or(&record.name).clone();
    let remote = request.remote.as_ref().or(record.remote.as_ref()).or(settings.default_remote.as_ref());
    let remote = remote.cloned().ok_or_else(|| {
        Refusal::new(
            ProblemKind::NoRemote,
            "expected a remote in this request or in prepare's, or the setting default_remote, found none",
        )
    })?;
    check_remote(settings, &remote)?;
    Ok(Expectation { sha256, size: request.size, chunks: request.chunks, name, remote })
}

fn already_finalised(record: &FileRecord, asked: Expectation) -> Refusal {
    let waiting = matches!(record.state, FileState::Prepared | FileState::Chunking);
    let shown = |said: &Expectation| {
        let mut shown = json!({ "sha256": said.sha256, "filename": said.name, "remote": said.remote });
        if waiting {
            (shown["fileSize"], shown["chunks"]) = (json!(said.size), json!(said.chunks));
        }
        shown
    };
    let detail = if waiting {
        "a finalise request of another user waits until the file is stored: expected the same request, found another"
    } else {
        "expected the same SHA-256, filename and remote as the request that was accepted before, found others"
    };
    Refusal::new(ProblemKind::AlreadyFinalised, detail)
        .comparing(shown(&asked), record.expectation.as_ref().map_or(serde_json::Value::Null, shown))
}

fn file_ended(record: &FileRecord) -> Refusal {
    let reason = record.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.detail));
    Refusal::new(
        ProblemKind::FileEnded,
        format!("expected a file that can still be delivered, found one that is {}{reason}", record.state),
    )
}
