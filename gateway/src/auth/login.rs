use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use contract::ProblemKind;
use ledger::{Authentication, Ledger};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::Gateway;
use crate::body::Media;
use crate::refusal::Refusal;

/// How many passwords are checked at once. Each takes tens of milliseconds of a core and 19 MiB.
const AT_ONCE: usize = 2;

/// How many more logins may wait for their turn: about three seconds' worth.
const WAITING: usize = 64;

/// The longest user name in bytes.
const USERNAME_MAX: usize = 256;

/// The longest password in bytes.
const PASSWORD_MAX: usize = 1024;

/// Bounds how many passwords are checked.
#[derive(Debug)]
pub(super) struct Logins {
    queue: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Logins {
    fn default() -> Self {
        Self { queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
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
pub(crate) async fn token(State(gateway): State<Arc<Gateway>>, request: Request) -> Result<Response, Refusal> {
    let auth = &gateway.auth;
    let (username, password) = credentials(&gateway, request).await?;
    match auth.logins.verify(&gateway.service.ledger, username, password).await? {
        Authentication::Rejected => {
            Err(Refusal::new(ProblemKind::WrongCredentials, "the user name or the password is wrong"))
        }
        Authentication::Disabled => Err(Refusal::new(ProblemKind::WrongCredentials, "the user is disabled")),
        Authentication::Accepted(user) => {
            let access_token = auth.tokens.issue(&user.username).map_err(|error| {
                Refusal::new(ProblemKind::Internal, "no token could be made; the log of the service says why")
                    .because(error)
            })?;
            let answer = TokenAnswer { access_token, token_type: "bearer", expires_in: auth.tokens.seconds() };
            Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
        }
    }
}

async fn credentials(gateway: &Gateway, request: Request) -> Result<(String, String), Refusal> {
    let (head, body) = request.into_parts();
    match Media::of(&head.headers)? {
        Media::Form | Media::Unnamed => {}
        other => return Err(other.unexpected("application/x-www-form-urlencoded")),
    }
    let body = gateway.limits.read(body).await?;
    let mut found = Credentials::default();
    for (key, value) in form_urlencoded::parse(&body) {
        let field = match &*key {
            "grant_type" => &mut found.grant_type,
            "username" => &mut found.username,
            "password" => &mut found.password,
            // OAuth2 clients send `scope`, `client_id` and more, which mean nothing here.
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            return Err(Refusal::new(ProblemKind::MalformedRequest, format!("expected {key} once, found it twice")));
        }
    }
    // Some clients send an empty grant_type.
    if let Some(other) = found.grant_type.filter(|grant| !grant.is_empty() && grant != "password") {
        let other: String = other.chars().take(80).collect();
        return Err(Refusal::new(
            ProblemKind::MalformedRequest,
            format!("expected the grant_type password, found {other:?}"),
        ));
    }
    Ok((required("username", found.username, USERNAME_MAX)?, required("password", found.password, PASSWORD_MAX)?))
}

fn required(field: &str, value: Option<String>, max: usize) -> Result<String, Refusal> {
    let found = value.as_ref().map_or(0, String::len);
    value.filter(|value| (1..=max).contains(&value.len())).ok_or_else(|| {
        Refusal::new(
            ProblemKind::MalformedRequest,
            format!("expected the form field {field} of 1 to {max} bytes, found {found} bytes"),
        )
    })
}

impl Logins {
    async fn verify(&self, ledger: &Ledger, username: String, password: String) -> Result<Authentication, Refusal> {
        let queued = self.queue.clone().try_acquire_owned();
        let queued = queued.map_err(|_| Refusal::new(ProblemKind::Busy, "too many logins at once; try again later"))?;
        let (at_once, ledger) = (self.at_once.clone(), ledger.clone());
        // A task of its own: if the caller goes away, the hashing goes on and must still count against the limit.
        let verifying = tokio::spawn(async move {
            let _queued = queued;
            // Nobody closes the semaphore, so there is always a permit.
            let _permit = at_once.acquire_owned().await.ok();
            ledger.authenticate(&username, &password).await
        });
        match verifying.await {
            Ok(verdict) => Ok(verdict?),
            Err(ended) => Err(Refusal::new(ProblemKind::Unavailable, "the service is stopping").because(ended)),
        }
    }
}
