use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use contract::{NameTemplate, ObjectName};
use serde::Deserialize;

use super::{OnClash, bounded, idle_timeout, idle_timeout_ms, server_folder};
use crate::secret::secret_of;
use crate::{Secret, SettingsError};

/// Header fields that describe the request itself, or that come from other settings: `headers` may not set them.
const OWN_FIELDS: [&str; 14] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "repr-digest",
    "te",
    "transfer-encoding",
];

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRemote {
    /// Where files go: `http` or `https`, ending in `/`; the file's name is appended, each segment percent-encoded.
    pub url: String,
    /// The user, for basic authentication.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password, read again for every request.
    pub password_file: Option<PathBuf>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// A file that holds the token, read again for every request.
    pub token_file: Option<PathBuf>,
    /// Further header fields of every request. Their values may be secrets, so they are never printed.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Certificates (PEM) to trust instead of the public authorities.
    pub ca_file: Option<PathBuf>,
    /// Which version of HTTP to speak.
    #[serde(default)]
    pub http_version: HttpVersion,
    /// How many redirects (307 or 308) a request may follow (0 to 5).
    #[serde(default)]
    pub redirects: u8,
    /// The servers, besides the remote's own, to which a request may be redirected: `https://host` each. They get no
    /// credentials.
    #[serde(default)]
    pub redirect_origins: Vec<String>,
    /// How long the server may be silent, in milliseconds (100 to 600,000): it takes nothing of what the kernel holds
    /// for it, and sends nothing. In twice this time it must move 256 bytes for each second. The whole transfer has no
    /// limit.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// Only for `kind = "webdav"`: the name of the folder that holds what is being written.
    pub staging_folder: Option<ObjectName>,
    /// What happens if the name is taken.
    #[serde(default)]
    pub on_clash: OnClash,
    /// How files are named at the remote.
    #[serde(default)]
    pub name: NameTemplate,
}

/// Which version of HTTP to speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum HttpVersion {
    /// Over TLS, whichever of the two the server chooses; else 1.1.
    #[serde(rename = "auto")]
    Auto,
    /// 1.1.
    #[default]
    #[serde(rename = "1.1")]
    One,
    /// 2, even in clear text.
    #[serde(rename = "2")]
    Two,
}

/// How a request is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpCredentials {
    /// A user and a password.
    Basic(String, Secret),
    /// A token.
    Bearer(Secret),
}

impl HttpRemote {
    /// A server, with all else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            headers: BTreeMap::new(),
            ca_file: None,
            http_version: HttpVersion::default(),
            redirects: 0,
            redirect_origins: Vec::new(),
            idle_timeout_ms: idle_timeout_ms(),
            staging_folder: None,
            on_clash: OnClash::default(),
            name: NameTemplate::default(),
        }
    }

    /// How long the server may be silent.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// The current credentials: those in files may have been renewed. `None`: the server needs none.
    pub fn credentials(&self) -> Result<Option<HttpCredentials>, SettingsError> {
        if let Some(token) = secret_of("token_file", self.token.as_ref(), self.token_file.as_ref())? {
            return Ok(Some(HttpCredentials::Bearer(token)));
        }
        let Some(username) = self.username.clone() else { return Ok(None) };
        let password = secret_of("password_file", self.password.as_ref(), self.password_file.as_ref())?;
        // A user without a password has an empty one.
        let password = password.unwrap_or_else(|| Secret::new(String::new()));
        Ok(Some(HttpCredentials::Basic(username, password)))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.staging_folder.is_some() {
            return Err("staging_folder: expected none for http, which writes no staging files".into());
        }
        self.check_server()
    }

    pub(super) fn check_server(&self) -> Result<(), String> {
        server_folder(&self.url)?;
        idle_timeout(self.idle_timeout_ms)?;
        bounded("redirects", self.redirects.into(), 0..=5)?;
        for origin in &self.redirect_origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
            if origin.contains(['@', '?', '#']) {
                return Err("redirect_origins: expected no user, password, query or fragment".into());
            }
            if host.is_empty() || host.contains('/') {
                return Err(format!("redirect_origins: expected http:// or https:// and a host, found {origin:?}"));
            }
            if self.url.starts_with("https:") && !origin.starts_with("https:") {
                return Err(format!("redirect_origins: expected https:// as in url, found {origin:?}"));
            }
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.username.is_none() && has_password {
            return Err("username: expected one, as there is a password".into());
        }
        if self.username.as_ref().is_some_and(|name| name.contains(':')) {
            return Err("username: expected one without ':'".into());
        }
        for (name, value) in &self.headers {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                // Only its beginning: somebody who writes `name: value` there writes a secret.
                let begin: String = name.chars().take_while(|c| token(*c)).collect();
                return Err(format!("headers: expected field names, found one that is none and begins with {begin:?}"));
            }
            if OWN_FIELDS.contains(&&*name.to_ascii_lowercase()) {
                return Err(format!("headers: expected no {name:?}, which every request sets itself"));
            }
            if value.expose().chars().any(char::is_control) {
                return Err(format!("headers: expected a value on one line for {name:?}"));
            }
        }
        Ok(())
    }
}
