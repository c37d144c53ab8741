use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use ledger::{Ledger, Verdict};
use serde::Serialize;
use tokio::sync::Semaphore;

use contract::ProblemKind;

use crate::Gateway;
use crate::body::{self, Media};
use crate::problem::Problem;

/// Passwords that are compared at once. Each takes tens of milliseconds of a core and 19 MiB.
const AT_ONCE: usize = 2;

/// Passwords that may wait for that: about three seconds' worth.
const WAITING: usize = 64;

/// The longest user name in bytes.
const USERNAME_MAX: usize = 256;

/// The longest password in bytes.
const PASSWORD_MAX: usize = 1024;

/// Bounds how many passwords are compared.
#[derive(Debug)]
pub(super) struct Login {
    line: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Login {
    fn default() -> Self {
        Self { line: Arc::new(Semaphore::new(AT_ONCE + WAITING)), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[derive(Debug, Default)]
struct Credentials {
    grant_type: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Debug, Serialize)]
struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

/// `POST /auth/token`: OAuth2's password grant (RFC 6749, section 4.3).
pub(crate) async fn token(State(gateway): State<Arc<Gateway>>, request: Request) -> Result<Response, Problem> {
    let auth = &gateway.auth;
    let (username, password) = credentials(&gateway, request).await?;
    match auth.login.verify(&gateway.service.ledger, username, password).await? {
        Verdict::Wrong => Err(Problem::new(ProblemKind::WrongCredentials, "the user name or the password is wrong")),
        Verdict::Disabled => Err(Problem::new(ProblemKind::WrongCredentials, "the user is disabled")),
        Verdict::Welcome(user) => {
            let access_token = auth.tokens.issue(&user.username).map_err(|error| {
                Problem::new(ProblemKind::Internal, "no token could be made; the log of the service says why")
                    .because(error)
            })?;
            let answer = TokenAnswer { access_token, token_type: "bearer", expires_in: auth.tokens.seconds() };
            Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
        }
    }
}

async fn credentials(gateway: &Gateway, request: Request) -> Result<(String, String), Problem> {
    let (head, body) = request.into_parts();
    match Media::of(&head.headers)? {
        Media::Form | Media::Unnamed => {}
        other => return Err(other.unexpected("application/x-www-form-urlencoded")),
    }
    let body = body::read(gateway, body).await?;
    let mut found = Credentials::default();
    for (key, value) in form_urlencoded::parse(&body) {
        let field = match &*key {
            "grant_type" => &mut found.grant_type,
            "username" => &mut found.username,
            "password" => &mut found.password,
            // OAuth2 clients send `scope`, `client_id` and more; they mean nothing here.
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            return Err(Problem::new(ProblemKind::MalformedRequest, format!("expected {key} once, found it twice")));
        }
    }
    // Some clients send an empty one.
    if let Some(other) = found.grant_type.filter(|grant| !grant.is_empty() && grant != "password") {
        let other: String = other.chars().take(80).collect();
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            format!("expected the grant_type password, found {other:?}"),
        ));
    }
    Ok((required("username", found.username, USERNAME_MAX)?, required("password", found.password, PASSWORD_MAX)?))
}

fn required(field: &str, value: Option<String>, max: usize) -> Result<String, Problem> {
    let found = value.as_ref().map_or(0, String::len);
    value.filter(|value| (1..=max).contains(&value.len())).ok_or_else(|| {
        Problem::new(
            ProblemKind::MalformedRequest,
            format!("expected the form field {field} of 1 to {max} bytes, found {found} bytes"),
        )
    })
}

impl Login {
    async fn verify(&self, ledger: &Ledger, username: String, password: String) -> Result<Verdict, Problem> {
        let place = self.line.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Problem::new(ProblemKind::Busy, "too many are logging in just now; try again later"))?;
        let (at_once, ledger) = (self.at_once.clone(), ledger.clone());
        // A task of its own: a caller who goes away ends neither the hashing nor, with it, the limit.
        let verifying = tokio::spawn(async move {
            let _place = place;
            // Nobody closes the semaphore, so there is always a permit.
            let _permit = at_once.acquire_owned().await.ok();
            ledger.verify_user(&username, &password).await
        });
        match verifying.await {
            Ok(verdict) => Ok(verdict?),
            Err(ended) => Err(Problem::new(ProblemKind::Unavailable, "the service is stopping").because(ended)),
        }
    }
}
