//! The media type of a request's body, and the parsing of JSON.

use axum::Json;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use contract::ProblemKind;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// The longest detail about malformed JSON in characters: the parser's error may quote the body.
const DETAIL_MAX: usize = 500;

/// The media type of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/json`, or a type that ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// No `Content-Type`.
    Unnamed,
    /// Anything else.
    Other(String),
}

impl Media {
    /// The type that the header `Content-Type` names.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut fields = headers.get_all(CONTENT_TYPE).iter();
        let field = match (fields.next(), fields.next()) {
            (None, _) => return Ok(Self::Unnamed),
            (Some(field), None) => field,
            (Some(_), Some(_)) => {
                return Err(Refusal::new(ProblemKind::MalformedRequest, "expected one Content-Type, found several"));
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

    /// Refuses this type because another one is `expected`.
    pub(crate) fn unexpected(&self, expected: &str) -> Refusal {
        let found = match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Unnamed => "none",
            Self::Other(other) => other,
        };
        Refusal::new(ProblemKind::MalformedRequest, format!("expected the Content-Type {expected}, found {found}"))
    }
}

/// Parses a JSON object, after a byte order mark if there is one. The refusal names the field that is wrong.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(Refusal::new(
            ProblemKind::MalformedRequest,
            format!(
                "expected JSON in UTF-8, found something else at byte {}; a file whose name is not UTF-8 cannot be named: \
                 rename it, or put a link with another name beside it",
                error.valid_up_to()
            ),
        ));
    }
    // serde would also take an array for a struct, field by field.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::new(ProblemKind::MalformedRequest, "expected a JSON object, found something else"));
    }
    match Json::<T>::from_bytes(bytes) {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(Refusal::new(
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

    #[test]
    fn a_byte_order_mark_does_not_count() {
        let value: serde_json::Value = json("\u{feff}{\"a\":1}".as_bytes()).unwrap();
        assert_eq!(value["a"], 1);
        assert!(json::<serde_json::Value>("\u{feff}\u{feff}{}".as_bytes()).is_err());
        let refusal = json::<serde_json::Value>(b"{\"a\":\"\xe9\"}").unwrap_err();
        assert!(format!("{refusal:?}").contains("UTF-8"), "{refusal:?}");
    }
}
