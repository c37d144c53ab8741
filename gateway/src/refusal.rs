//! Every answer that is not a success: `application/problem+json` (RFC 9457). `contract::ProblemKind` lists the types.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use contract::{Mismatch, ProblemKind};
use ledger::LedgerError;
use serde::Serialize;
use serde_json::Value;

/// How many seconds a client should wait when a server behind us does not answer: MongoDB takes about as long to elect
/// a primary.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Why one request is not served.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: ProblemKind,
    detail: String,
    compared: Option<Box<(Value, Value)>>,
    cause: Option<InternalCause>,
    retry_after: u64,
}

/// The error behind a refusal. It goes into the log, never into an answer: it may name hosts.
#[derive(Debug, Clone)]
pub(crate) struct InternalCause(pub(crate) String);

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a Value>,
}

impl Refusal {
    /// `detail` says what was expected and what was found.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), compared: None, cause: None, retry_after: RETRY_AFTER_SECONDS }
    }

    /// Adds the members `expected` and `found`.
    pub(crate) fn comparing(mut self, expected: Value, found: Value) -> Self {
        self.compared = Some(Box::new((expected, found)));
        self
    }

    /// Says when to try again, if the status is one that says so.
    pub(crate) fn retry_after(mut self, rest: Duration) -> Self {
        self.retry_after = rest.as_secs() + 1;
        self
    }

    /// Adds the cause, for the log.
    pub(crate) fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(InternalCause(cause.to_string()));
        self
    }
}

impl From<&Mismatch> for Refusal {
    fn from(mismatch: &Mismatch) -> Self {
        let (expected, found) = mismatch.expected_and_found();
        Self::new(mismatch.problem_kind(), mismatch.to_string()).comparing(expected, found)
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        let refusal = match &error {
            LedgerError::Unreadable { .. }
            | LedgerError::Damaged { .. }
            | LedgerError::Refused { .. }
            | LedgerError::Password(_) => {
                Self::new(ProblemKind::Internal, "the request could not be served; the log of the service says why")
            }
            LedgerError::Contended { .. } => {
                Self::new(ProblemKind::Unavailable, "the file is changing too fast; send the request again")
            }
            // MongoDB cannot be reached, is silent, is not the primary, or refuses.
            _ => Self::new(ProblemKind::Unavailable, "the database does not answer; the request may be sent again"),
        };
        refusal.because(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { kind, detail, compared, cause, retry_after } = self;
        // Kinds without a status occur only in records; one that came here would be a bug of ours.
        let status = kind.status().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Body {
            r#type: kind.uri(),
            title: kind.title(),
            status: status.as_u16(),
            detail: &detail,
            expected: compared.as_deref().map(|(expected, _)| expected),
            found: compared.as_deref().map(|(_, found)| found),
        };
        // A struct of strings, numbers and JSON values can always be written.
        let body = serde_json::to_vec(&body).expect("a refusal is plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
            }
            _ => {}
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
