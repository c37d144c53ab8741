//! Bodies of requests: read within limits, taken for what their `Content-Type` says they are.

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use contract::ProblemKind;

use crate::Gateway;
use crate::problem::Problem;

/// How much of a body beyond the limit is read and thrown away. A connection that is closed while its client still
/// sends is reset, and the client may never see the answer that says why.
const DISCARDED_MAX: u64 = 1024 * 1024;

/// How many characters are said about JSON that cannot be read: it may hold what was sent.
const DETAIL_MAX: usize = 500;

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/json`, or a type that ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Not said.
    Unnamed,
    /// Anything else.
    Other(String),
}

impl Media {
    /// What the header `Content-Type` says.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut fields = headers.get_all(CONTENT_TYPE).iter();
        let field = match (fields.next(), fields.next()) {
            (None, _) => return Ok(Self::Unnamed),
            (Some(field), None) => field,
            (Some(_), Some(_)) => {
                return Err(Problem::new(ProblemKind::MalformedRequest, "expected one Content-Type, found several"));
            }
        };
        let text = String::from_utf8_lossy(field.as_bytes());
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            other => Self::Other(other.chars().take(80).collect()),
        })
    }

    /// The problem that this is not what is `expected`.
    pub(crate) fn unexpected(&self, expected: &str) -> Problem {
        let found = match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Unnamed => "none",
            Self::Other(other) => other,
        };
        Problem::new(ProblemKind::MalformedRequest, format!("expected the Content-Type {expected}, found {found}"))
    }
}

/// Reads a body, up to `gateway.body_limit` and `gateway.read_timeout_ms`.
pub(crate) async fn read(gateway: &Gateway, body: Body) -> Result<Bytes, Problem> {
    let limit = gateway.service.settings.gateway.body_limit;
    match tokio::time::timeout(gateway.read_timeout(), collect(body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(
            ProblemKind::RequestTimeout,
            format!("expected the whole body within {:?}, found it unfinished", gateway.read_timeout()),
        )),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let limit = limit as u64;
    let too_large =
        || Problem::new(ProblemKind::BodyTooLarge, format!("expected a body of at most {limit} bytes, found more"));
    if body.size_hint().lower() > limit + DISCARDED_MAX {
        return Err(too_large());
    }
    let (mut taken, mut seen) = (BytesMut::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Problem::new(ProblemKind::MalformedRequest, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        if seen <= limit {
            taken.extend_from_slice(&data);
        } else if seen > limit + DISCARDED_MAX {
            break;
        }
    }
    if seen > limit { Err(too_large()) } else { Ok(taken.freeze()) }
}

/// Reads a JSON object. What is wrong with it is told by the name of the field.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A struct would be read from an array too, field by field.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(ProblemKind::MalformedRequest, "expected a JSON object, found something else"));
    }
    match Json::<T>::from_bytes(bytes) {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(Problem::new(
            ProblemKind::MalformedRequest,
            rejection.body_text().chars().take(DETAIL_MAX).collect::<String>(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn media(text: &str) -> Media {
        Media::of(&[(CONTENT_TYPE, HeaderValue::from_str(text).unwrap())].into_iter().collect()).unwrap()
    }

    #[test]
    fn parameters_and_case_do_not_count() {
        assert_eq!(media("Application/JSON; charset=utf-8"), Media::Json);
        assert_eq!(media("application/vnd.waybill+json"), Media::Json);
        assert_eq!(media("application/x-www-form-urlencoded"), Media::Form);
        assert_eq!(media("text/plain"), Media::Other("text/plain".into()));
        assert_eq!(Media::of(&HeaderMap::new()).unwrap(), Media::Unnamed);
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_limit() {
        assert_eq!(collect(Body::from(vec![7; 10]), 10).await.unwrap(), vec![7; 10]);
        for length in [11, 5 << 20] {
            assert!(collect(Body::from(vec![7; length]), 10).await.is_err());
        }
    }
}
