//! `POST /upload/prepare`: records a file and queues its chunking.

mod key;
mod request;
mod storage;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contract::{FileId, ObjectName, ProblemKind, Split, State as FileState, Step};
use ledger::{Created, NewFile};
use serde::Serialize;

use crate::Gateway;
use crate::auth::Caller;
use crate::body::{self, Media};
use crate::problem::Problem;
use request::PrepareRequest;
use storage::Found;

pub(crate) use storage::Storage;

/// What prepare and finalise answer.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    pub(crate) file_id: FileId,
    pub(crate) state: FileState,
}

pub(crate) async fn prepare(
    State(gateway): State<Arc<Gateway>>,
    Extension(Caller(user)): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    match Media::of(&head.headers)? {
        Media::Json | Media::Unnamed => {}
        other => return Err(other.unexpected("application/json")),
    }
    let key = key::of(&head.headers)?;
    let request = PrepareRequest::parse(&body::read(&gateway, body).await?)?;
    let idempotency = key.map(|key| ledger::Idempotency { key, fingerprint: request.fingerprint() });
    // Before the file is looked at: the first answer holds even if the file is gone since.
    if let Some(idempotency) = &idempotency
        && let Some(before) = gateway.service.ledger.created_before(&user, idempotency).await?
    {
        return taken(&gateway, before);
    }
    let service = &gateway.service;
    if let Some(remote) = &request.remote {
        crate::finalise::check_remote(&service.settings, remote)?;
    }
    if let Some(free) = gateway.space.shortage().await {
        let floor = gateway.space.floor();
        let detail = format!("expected at least {floor} bytes of space at the database, found {free}; try again later");
        return Err(Problem::new(ProblemKind::InsufficientStorage, detail));
    }
    let found = gateway.storage.look(&request.file_path).await?;
    let size = found.source.size;
    if Split::new(size, service.settings.files.chunk_size).is_none() {
        return Err(Problem::new(
            ProblemKind::FileTooLarge,
            format!("a file of {size} bytes has too many chunks; raise files.chunk_size"),
        ));
    }
    let new = new_file(request, found, user, idempotency)?;
    fail::fail_point!("gateway-before-record", |_| std::process::abort());
    let created = service.ledger.create(new).await?;
    fail::fail_point!("gateway-after-record", |_| std::process::abort());
    taken(&gateway, created)
}

fn new_file(
    request: PrepareRequest,
    found: Found,
    user: String,
    idempotency: Option<ledger::Idempotency>,
) -> Result<NewFile, Problem> {
    let media_type = mime_guess::from_path(&found.name).first_or_octet_stream().to_string();
    let name = ObjectName::new(request.name.unwrap_or(found.name));
    let name = name.map_err(|error| Problem::new(ProblemKind::BadName, error.to_string()))?;
    Ok(NewFile {
        id: FileId::generate(),
        source: found.source,
        name: name.into(),
        media_type,
        metadata: request.metadata,
        user,
        remote: request.remote,
        idempotency,
    })
}

fn taken(gateway: &Gateway, created: Created) -> Result<Response, Problem> {
    match created {
        Created::New(record) => {
            gateway.service.announcer.announce(&record, Some(Step::Prepare));
            Ok(accepted(StatusCode::CREATED, record.id, record.state))
        }
        // The first answer again, whatever became of the file since.
        Created::Before(record) => Ok(accepted(StatusCode::CREATED, record.id, FileState::Prepared)),
        Created::KeyReused => Err(Problem::new(
            ProblemKind::IdempotencyKeyReused,
            "expected the same request as the first one with this Idempotency-Key, found another; use a new key",
        )),
    }
}

/// The answer to a request that was taken.
pub(crate) fn accepted(status: StatusCode, file_id: FileId, state: FileState) -> Response {
    (status, [(LOCATION, format!("/files/{file_id}"))], Json(Taken { file_id, state })).into_response()
}
