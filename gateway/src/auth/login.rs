use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contract::ProblemKind;
use ledger::{Authentication, Ledger};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::guard::{Attempt, Guard, Key, shown};
use crate::Gateway;
use crate::body::Media;
use crate::refusal::Refusal;
use crate::seats::Seats;
use crate::serve::Peer;

/// How many passwords are checked at once. Each takes tens of milliseconds of a core and 19 MiB; an imported one may
/// take ten times as much.
const AT_ONCE: usize = 2;

/// How many logins there may be, with those that wait for their turn: about ten seconds' worth.
const LOGINS_MAX: usize = 256;

/// How many of them may come from one peer, or for a user who has logged in from it before.
const LOGINS_OF_ONE: usize = 64;

/// How long after its hashing began a failed login is answered, whatever the hash costs: the time must not tell which
/// names exist.
const FAILED_AFTER: Duration = Duration::from_secs(1);

/// The longest user name in bytes.
const USERNAME_MAX: usize = 256;

/// The longest password in bytes.
const PASSWORD_MAX: usize = 1024;

/// Bounds how many passwords are checked, and for whom.
#[derive(Debug)]
pub(super) struct Logins {
    seats: Seats<Key>,
    at_once: Arc<Semaphore>,
    guard: Arc<Guard>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            seats: Seats::new(LOGINS_MAX, LOGINS_OF_ONE),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            guard: Arc::default(),
        }
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
pub(crate) async fn token(
    State(gateway): State<Arc<Gateway>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refusal> {
    let auth = &gateway.auth;
    let (username, password) = credentials(&gateway, request).await?;
    let name = shown(&username);
    match auth.logins.verify(&gateway.service.ledger, peer, username, password).await? {
        Authentication::Rejected => {
            gateway.service.counters.login_failed();
            tracing::warn!(%peer, "a login as {name} failed: the name or the password is wrong");
            Err(Refusal::new(ProblemKind::WrongCredentials, "the user name or the password is wrong"))
        }
        Authentication::Disabled => {
            gateway.service.counters.login_failed();
            tracing::warn!(%peer, "a login as {name} failed: the user is disabled");
            Err(Refusal::new(ProblemKind::WrongCredentials, "the user is disabled"))
        }
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
    async fn verify(
        &self,
        ledger: &Ledger,
        peer: Peer,
        username: String,
        password: String,
    ) -> Result<Authentication, Refusal> {
        let attempt = self.guard.attempt(peer, &username);
        check(&self.guard, &attempt)?;
        let seat = self.seats.take(attempt.source());
        let seat = seat.ok_or_else(|| Refusal::new(ProblemKind::Busy, "too many logins at once; try again later"))?;
        let (at_once, ledger, guard) = (self.at_once.clone(), ledger.clone(), self.guard.clone());
        // A task of its own: if the caller goes away, the hashing goes on and must still count against the limit.
        let verifying = tokio::spawn(async move {
            let _seat = seat;
            // Nobody closes the semaphore, so there is always a permit.
            let permit = at_once.acquire_owned().await.ok();
            // Logins before it in the queue may have failed meanwhile, and made too many.
            check(&guard, &attempt)?;
            let begun = Instant::now();
            let verdict = ledger.authenticate(&username, &password).await?;
            match verdict {
                Authentication::Accepted(_) => guard.succeeded(attempt),
                Authentication::Rejected | Authentication::Disabled => guard.failed(&attempt),
            }
            drop(permit);
            if !matches!(verdict, Authentication::Accepted(_)) {
                tokio::time::sleep_until(begun + FAILED_AFTER).await;
            }
            Ok(verdict)
        });
        match verifying.await {
            Ok(verdict) => verdict,
            Err(ended) => Err(Refusal::new(ProblemKind::Unavailable, "the service is stopping").because(ended)),
        }
    }
}

/// Refuses a login after too many failed ones.
fn check(guard: &Guard, attempt: &Attempt) -> Result<(), Refusal> {
    match guard.refused_for(attempt) {
        None => Ok(()),
        Some(rest) => Err(Refusal::new(
            ProblemKind::TooManyFailedLogins,
            format!(
                "too many logins failed for this name or from this address: until {} s from now, every password is \
                 refused",
                rest.as_secs_f64().ceil()
            ),
        )
        .retry_after(rest)),
    }
}
