//! Authentication: a caller exchanges a password for a token (`POST /auth/token`) and sends it with every further
//! request.

mod active;
mod guard;
mod hs256;
mod login;
mod token;

use contract::ProblemKind;
use ledger::{Ledger, User};
use settings::{AuthSettings, SettingsError};

use crate::refusal::Refusal;
use active::ActiveUsers;
use login::Logins;
use token::Tokens;

pub(crate) use login::token;

/// Who a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The name of the user.
    pub(crate) user: String,
    /// What the user table allows the user to do. No handler checks the scopes yet.
    pub(crate) scopes: Vec<String>,
}

impl From<User> for Caller {
    fn from(User { username, scopes }: User) -> Self {
        Self { user: username, scopes }
    }
}

/// What logging in and checking tokens need.
#[derive(Debug)]
pub(crate) struct Auth {
    tokens: Tokens,
    users: ActiveUsers,
    logins: Logins,
}

impl Auth {
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, SettingsError> {
        let tokens = Tokens::new(settings.jwt_secret()?.expose().as_bytes(), settings.token_seconds);
        Ok(Self { tokens, users: ActiveUsers::default(), logins: Logins::default() })
    }

    /// The user of a token. A user who has been deleted or disabled since then has no access.
    pub(crate) async fn caller(&self, ledger: &Ledger, token: &str) -> Result<Caller, Refusal> {
        let refuse = |why: &str| Refusal::new(ProblemKind::Unauthorized, why);
        let user = self.tokens.user_of(token).ok_or_else(|| {
            refuse("the token is not one of this service, or has expired; get one at POST /auth/token")
        })?;
        let user = self.users.find(ledger, &user).await?;
        user.map(Caller::from).ok_or_else(|| refuse("the user of the token no longer exists, or is disabled"))
    }
}
