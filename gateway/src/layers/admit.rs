//! Admission: every request to a protected address must carry a token, which is checked before anything else. So a
//! caller without a token learns nothing, not even which addresses and files exist.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use contract::ProblemKind;

use crate::Gateway;
use crate::refusal::Refusal;

/// The longest `Authorization` field that is read, in bytes; our own tokens have about 200.
const FIELD_MAX: usize = 4096;

/// Lets a request pass, with its [`Caller`](crate::auth::Caller) as an extension, or refuses it.
pub(crate) async fn admit(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let caller = gateway.auth.caller(&gateway.service.ledger, bearer(request.headers())?).await?;
    tracing::debug!(user = caller.user, scopes = ?caller.scopes, "admitted");
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |found: &str| {
        Refusal::new(
            ProblemKind::Unauthorized,
            format!("expected the header Authorization to hold Bearer and a token, found {found}"),
        )
    };
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => field,
        (None, _) => return Err(refuse("no such header")),
        (Some(_), Some(_)) => return Err(refuse("several such headers")),
    };
    let text = field.to_str().ok().filter(|text| text.len() <= FIELD_MAX);
    match text.and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(refuse("something else")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|field| (AUTHORIZATION, HeaderValue::from_str(field).unwrap())).collect()
    }

    #[test]
    fn a_token_comes_after_bearer_in_any_case() {
        for field in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(bearer(&headers(&[field])).unwrap(), "abc");
        }
    }

    #[test]
    fn anything_else_carries_no_token() {
        let long = format!("Bearer {}", "a".repeat(FIELD_MAX));
        for fields in [&[][..], &["Basic YTpi"], &["Bearer"], &["abc"], &["Bearer a", "Bearer b"], &[long.as_str()]] {
            assert!(bearer(&headers(fields)).is_err(), "{fields:?} was accepted");
        }
    }
}
