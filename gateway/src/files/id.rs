use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use contract::{FileId, FileIdError, ProblemKind};

use crate::refusal::Refusal;

/// The `{id}` in an address. Text that is not an id is answered like the id of an unknown file.
pub(crate) struct IdInPath(pub(crate) FileId);

impl<S: Send + Sync> FromRequestParts<S> for IdInPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let refuse = |why: String| Refusal::new(ProblemKind::UnknownFile, why);
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|error| refuse(error.body_text()))?;
        text.parse().map(Self).map_err(|error: FileIdError| refuse(error.to_string()))
    }
}

/// Refuses an id that no file has.
pub(crate) fn unknown_file(id: FileId) -> Refusal {
    Refusal::new(ProblemKind::UnknownFile, format!("no file {id} was prepared here"))
}
