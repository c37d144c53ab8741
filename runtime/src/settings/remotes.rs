use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// A remote as configured: `[remotes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RemoteSettings {
    /// A server that takes files by PUT.
    Http(HttpRemote),
    /// A folder on this machine or a mounted share.
    Directory(DirectoryRemote),
}

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRemote {
    /// Where files go: `http` or `https`, ending in `/`; the file's name is appended, percent-encoded as one segment.
    pub url: String,
    /// Certificates (PEM) to trust instead of the public authorities.
    pub ca_file: Option<PathBuf>,
    /// How long one read or write of the connection may take, in milliseconds (100 to 600,000). Never a limit for the whole.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
}

/// `kind = "directory"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRemote {
    /// The folder. It must exist; `.waybill/` in it holds what is being written.
    pub path: PathBuf,
}

const fn idle_timeout_ms() -> u64 {
    30_000
}

impl RemoteSettings {
    /// The word for the kind in settings and receipts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Directory(_) => "directory",
        }
    }

    /// What is wrong with the values, if anything; checked at the start.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => {
                if !(http.url.starts_with("http://") || http.url.starts_with("https://")) || !http.url.ends_with('/') {
                    return Err(format!(
                        "url: expected http:// or https:// and a '/' at the end, found {:?}",
                        http.url
                    ));
                }
                if http.url.contains('@') || http.url.contains(['?', '#']) {
                    return Err("url: expected no user, password, query or fragment in it".into());
                }
                if !(100..=600_000).contains(&http.idle_timeout_ms) {
                    return Err(format!("idle_timeout_ms: expected 100 to 600000, found {}", http.idle_timeout_ms));
                }
            }
            Self::Directory(directory) => {
                if !directory.path.is_absolute() {
                    return Err(format!("path: expected an absolute path, found {}", directory.path.display()));
                }
            }
        }
        Ok(())
    }
}

impl HttpRemote {
    /// How long one read or write of the connection may take.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }
}
