//! `POST /upload/prepare`: records a file and queues its chunking.

mod key;
mod request;
mod storage;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use contract::{FileId, ObjectName, ProblemKind, Split, State as FileState, Step};
use ledger::{Created, NewFile};

use super::{accepted, check_remote};
use crate::Gateway;
use crate::auth::Caller;
use crate::body::Media;
use crate::refusal::Refusal;
use request::PrepareRequest;
use storage::Found;

pub(crate) use storage::{INSPECTIONS_MAX, Storage};

pub(crate) async fn prepare(
    State(gateway): State<Arc<Gateway>>,
    Extension(Caller { user, .. }): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    match Media::of(&head.headers)? {
        Media::Json | Media::Unnamed => {}
        other => return Err(other.unexpected("application/json")),
    }
    let key = key::of(&head.headers)?;
    let request = PrepareRequest::parse(&gateway.limits.read(body).await?)?;
    let idempotency = key.map(|key| ledger::Idempotency { key, fingerprint: request.fingerprint() });
    // This comes before the file is opened: the first answer holds even if the file has gone since.
    if let Some(idempotency) = &idempotency
        && let Some(before) = gateway.service.ledger.find_created(&user, idempotency).await?
    {
        return answer(&gateway, before);
    }
    let service = &gateway.service;
    if let Some(remote) = &request.remote {
        check_remote(&service.settings, remote)?;
    }
    let found = gateway.storage.find(&request.file_path).await?;
    check_size(&gateway, found.source.size).await?;
    let new = new_file(request, found, user, idempotency)?;
    fail::fail_point!("gateway-before-record", |_| std::process::abort());
    let created = service.ledger.create(new).await?;
    fail::fail_point!("gateway-after-record", |_| std::process::abort());
    answer(&gateway, created)
}

/// Refuses a file that is too large, or for which there is no space now. Other files that were accepted and are not
/// stored yet are not counted: the stores stop at a floor of their own.
async fn check_size(gateway: &Gateway, size: u64) -> Result<(), Refusal> {
    let files = &gateway.service.settings.files;
    let too_large = |why: String| Err(Refusal::new(ProblemKind::FileTooLarge, why));
    if size > files.max_size {
        return too_large(format!("expected at most {} bytes (files.max_size), found {size}", files.max_size));
    }
    if Split::new(size, files.chunk_size).is_none() {
        return too_large(format!("a file of {size} bytes has too many chunks; raise files.chunk_size"));
    }
    let Some(free) = gateway.space.shortage(size).await else { return Ok(()) };
    let floor = gateway.space.floor();
    Err(Refusal::new(
        ProblemKind::InsufficientStorage,
        format!(
            "expected room at the database for the {size} bytes of the file and for {floor} more \
             (gateway.free_space_floor), found {free} free bytes; try again later"
        ),
    ))
}

fn new_file(
    request: PrepareRequest,
    found: Found,
    user: String,
    idempotency: Option<ledger::Idempotency>,
) -> Result<NewFile, Refusal> {
    let media_type = mime_guess::from_path(&found.name).first_or_octet_stream().to_string();
    let name = ObjectName::new(request.name.unwrap_or(found.name));
    let name = name.map_err(|error| Refusal::new(ProblemKind::BadName, error.to_string()))?;
    Ok(NewFile {
        id: FileId::generate(),
        source: found.source,
        name,
        media_type,
        metadata: request.metadata,
        user,
        remote: request.remote,
        idempotency,
    })
}

fn answer(gateway: &Gateway, created: Created) -> Result<Response, Refusal> {
    match created {
        Created::New(record) => {
            // While the source must stand still, nobody can claim the file; the sweep publishes the hint then.
            let hint = record.not_before.is_none().then_some(Step::Prepare);
            gateway.service.announcer.announce(&record, hint);
            Ok(accepted(StatusCode::CREATED, record.id, record.state))
        }
        // The first answer again, whatever has become of the file since.
        Created::Existing(record) => Ok(accepted(StatusCode::CREATED, record.id, FileState::Prepared)),
        Created::KeyReused => Err(Refusal::new(
            ProblemKind::IdempotencyKeyReused,
            "expected the same request as the first one with this Idempotency-Key, found another; use a new key",
        )),
    }
}
