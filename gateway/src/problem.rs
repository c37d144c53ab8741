//! Every answer that is no success: `application/problem+json` (RFC 9457).

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use contract::Mismatch;
use ledger::LedgerError;
use serde::Serialize;
use serde_json::Value;

/// After how many seconds to come back when a server behind us does not answer: about as long as MongoDB takes to elect.
const RETRY_AFTER_SECONDS: u32 = 5;

/// What is the same for all problems of a type. Types are stable: callers compare them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    uri: &'static str,
    title: &'static str,
    status: StatusCode,
}

macro_rules! kinds {
    ($($name:ident: $status:ident, $uri:literal, $title:literal;)*) => {
        $(pub(crate) const $name: Kind = Kind { uri: $uri, title: $title, status: StatusCode::$status };)*
    };
}

kinds! {
    MALFORMED: BAD_REQUEST, "/problems/malformed-request", "The request cannot be read";
    BAD_PATH: BAD_REQUEST, "/problems/bad-path", "The path cannot name a file";
    BAD_DIGEST: BAD_REQUEST, "/problems/bad-digest", "The SHA-256 of the file is missing or cannot be read";
    BAD_PARAMETER: BAD_REQUEST, "/problems/bad-parameter", "A query parameter cannot be used";
    UNAUTHORIZED: UNAUTHORIZED, "/problems/unauthorized", "A valid token is needed";
    WRONG_CREDENTIALS: UNAUTHORIZED, "/problems/wrong-credentials", "The user may not come in";
    OUTSIDE: FORBIDDEN, "/problems/outside-roots", "The path leads outside the allowed folders";
    UNREADABLE: FORBIDDEN, "/problems/unreadable-file", "The file cannot be read";
    NOT_FOUND: NOT_FOUND, "/problems/not-found", "There is nothing at this address";
    NO_SOURCE: NOT_FOUND, "/problems/no-such-file", "There is no file at the path";
    UNKNOWN_FILE: NOT_FOUND, "/problems/unknown-file", "No file of this id is known";
    METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED, "/problems/method-not-allowed", "The address does not take this method";
    READ_TIMEOUT: REQUEST_TIMEOUT, "/problems/request-timeout", "The request took too long to arrive";
    ALREADY_FINALISED: CONFLICT, "/problems/already-finalised", "Another finalise request was accepted before";
    FILE_ENDED: CONFLICT, "/problems/file-ended", "The file is given up";
    BODY_TOO_LARGE: PAYLOAD_TOO_LARGE, "/problems/body-too-large", "The body of the request is too large";
    NOT_REGULAR: UNSUPPORTED_MEDIA_TYPE, "/problems/not-a-regular-file", "The path names no regular file";
    BAD_NAME: UNPROCESSABLE_ENTITY, "/problems/bad-name", "The name cannot name a file at a remote";
    UNKNOWN_REMOTE: UNPROCESSABLE_ENTITY, "/problems/unknown-remote", "No remote of this name is configured";
    NO_REMOTE: UNPROCESSABLE_ENTITY, "/problems/no-remote", "No remote is named";
    KEY_REUSED: UNPROCESSABLE_ENTITY, "/problems/idempotency-key-reused", "The Idempotency-Key belongs to another request";
    FILE_TOO_LARGE: UNPROCESSABLE_ENTITY, "/problems/file-too-large", "The file has too many chunks";
    INTERNAL: INTERNAL_SERVER_ERROR, "/problems/internal", "The service has a fault";
    BUSY: SERVICE_UNAVAILABLE, "/problems/busy", "Too many requests of this kind are under way";
    NO_SPACE: INSUFFICIENT_STORAGE, "/problems/insufficient-storage", "There is no space for new files";
    UNAVAILABLE: SERVICE_UNAVAILABLE, "/problems/unavailable", "A server that this service needs does not answer";
}

/// A problem of one request.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    compared: Option<Box<(Value, Value)>>,
    cause: Option<Cause>,
}

/// What lies behind a problem, for the log. Never in an answer: it may name hosts.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

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

impl Problem {
    /// A problem; `detail` says what was expected and what was found.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), compared: None, cause: None }
    }

    /// With the members `expected` and `found`.
    pub(crate) fn comparing(mut self, expected: Value, found: Value) -> Self {
        self.compared = Some(Box::new((expected, found)));
        self
    }

    /// With what lies behind it, for the log.
    pub(crate) fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(Cause(cause.to_string()));
        self
    }
}

impl From<&Mismatch> for Problem {
    fn from(mismatch: &Mismatch) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let kind = Kind { uri: mismatch.problem_type(), title: mismatch.title(), status };
        let (expected, found) = mismatch.expected_and_found();
        Self::new(kind, mismatch.to_string()).comparing(expected, found)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        let problem = match &error {
            LedgerError::Unreadable { .. } | LedgerError::Password(_) => {
                Self::new(INTERNAL, "the request could not be served; the log of the service says why")
            }
            LedgerError::Contended { .. } => {
                Self::new(UNAVAILABLE, "the file changes too fast just now; send the request again")
            }
            // MongoDB is out of reach, silent, no primary, or refuses.
            _ => Self::new(UNAVAILABLE, "the database does not answer; send the request again, it may be repeated"),
        };
        problem.because(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { kind, detail, compared, cause } = self;
        let body = Body {
            r#type: kind.uri,
            title: kind.title,
            status: kind.status.as_u16(),
            detail: &detail,
            expected: compared.as_deref().map(|(expected, _)| expected),
            found: compared.as_deref().map(|(_, found)| found),
        };
        // A struct of strings, numbers and JSON values can always be written.
        let body = serde_json::to_vec(&body).expect("a problem is plain data");
        let mut response = (kind.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match kind.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
