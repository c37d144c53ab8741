//! Who calls: passwords are exchanged for tokens, tokens are judged with every request.

mod active;
mod hs256;
mod login;
mod token;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use ledger::Ledger;
use settings::{AuthSettings, SettingsError};

use contract::ProblemKind;

use crate::problem::Problem;
use active::ActiveUsers;
use login::Login;
use token::Tokens;

pub(crate) use login::token;

/// The longest `Authorization` field in bytes that is looked at; our own tokens have about 200.
const FIELD_MAX: usize = 4096;

/// Who a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

/// All that judging callers needs.
#[derive(Debug)]
pub(crate) struct Auth {
    tokens: Tokens,
    active: ActiveUsers,
    login: Login,
}

impl Auth {
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, SettingsError> {
        let tokens = Tokens::new(settings.jwt_secret()?.expose().as_bytes(), settings.token_seconds);
        Ok(Self { tokens, active: ActiveUsers::default(), login: Login::default() })
    }

    /// The user whose token the request carries. A user who was deleted or disabled since has no access either.
    pub(crate) async fn caller(&self, ledger: &Ledger, headers: &HeaderMap) -> Result<Caller, Problem> {
        let token = bearer(headers)?;
        let user = self.tokens.user_of(token).ok_or_else(|| {
            Problem::new(
                ProblemKind::Unauthorized,
                "the token is not one of this service, or has expired; get one at POST /auth/token",
            )
        })?;
        if !self.active.is_active(ledger, &user).await? {
            return Err(Problem::new(
                ProblemKind::Unauthorized,
                "the user of the token is not there any more, or is disabled",
            ));
        }
        Ok(Caller(user))
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let refuse = |found: &str| {
        Problem::new(
            ProblemKind::Unauthorized,
            format!("expected the header Authorization to hold Bearer and a token, found {found}"),
        )
    };
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => field,
        (None, _) => return Err(refuse("no such header")),
        (Some(_), Some(_)) => return Err(refuse("several of them")),
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
