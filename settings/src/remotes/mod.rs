mod directory;
mod http;
mod s3;
mod sftp;
mod webdav;

use contract::{NameTemplate, ObjectName};
use serde::Deserialize;

pub use directory::DirectoryRemote;
pub use http::{HttpCredentials, HttpRemote, HttpVersion};
pub use s3::{S3Credentials, S3Remote};
pub use sftp::{SftpCredentials, SftpRemote};
pub use webdav::WebdavRemote;

/// A remote as configured: `[remotes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RemoteSettings {
    /// A server that accepts files by PUT.
    Http(HttpRemote),
    /// A folder on this machine or a mounted share.
    Directory(DirectoryRemote),
    /// A bucket of S3 or of a compatible server.
    S3(S3Remote),
    /// A server reached by SSH.
    Sftp(SftpRemote),
    /// A collection of a WebDAV server.
    Webdav(WebdavRemote),
}

/// What happens to a file whose name is taken at the remote before anything was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnClash {
    /// The file is given up, whatever has the name.
    #[default]
    Refuse,
    /// The same bytes count as delivered; for anything else the file is given up.
    Skip,
    /// The same bytes count as delivered; anything else is replaced.
    Replace,
}

/// The default of `idle_timeout_ms`.
const fn idle_timeout_ms() -> u64 {
    30_000
}

/// The default of `staging_folder`.
fn staging_folder() -> ObjectName {
    ObjectName::new(".waybill").expect("one plain segment")
}

impl RemoteSettings {
    /// The name of the kind in settings and receipts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Directory(_) => "directory",
            Self::S3(_) => "s3",
            Self::Sftp(_) => "sftp",
            Self::Webdav(_) => "webdav",
        }
    }

    /// What happens to a file whose name is taken there.
    pub const fn on_clash(&self) -> OnClash {
        match self {
            Self::Http(http) => http.on_clash,
            Self::Directory(directory) => directory.on_clash,
            Self::S3(s3) => s3.on_clash,
            Self::Sftp(sftp) => sftp.on_clash,
            Self::Webdav(webdav) => webdav.server.on_clash,
        }
    }

    /// How files are named there.
    pub const fn name(&self) -> &NameTemplate {
        match self {
            Self::Http(http) => &http.name,
            Self::Directory(directory) => &directory.name,
            Self::S3(s3) => &s3.name,
            Self::Sftp(sftp) => &sftp.name,
            Self::Webdav(webdav) => &webdav.server.name,
        }
    }

    /// Says what is wrong with the values, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.check(),
            Self::Directory(directory) => directory.check(),
            Self::S3(s3) => s3.check(),
            Self::Sftp(sftp) => sftp.check(),
            Self::Webdav(webdav) => webdav.check(),
        }
    }
}

/// Checks that `url` is the address of a folder at a server and contains no secrets.
pub(super) fn server_folder(url: &str) -> Result<(), String> {
    // Checked first, and not repeated in the error: a secret would be in one of these parts.
    if url.contains(['@', '?', '#']) {
        let more = if url.contains('@') { " (an @ in a folder's name is written %40)" } else { "" };
        return Err(format!("url: expected no user, password, query or fragment in it{more}"));
    }
    if !(url.starts_with("http://") || url.starts_with("https://")) || !url.ends_with('/') {
        return Err(format!("url: expected http:// or https:// and a '/' at the end, found {url:?}"));
    }
    Ok(())
}

pub(super) fn idle_timeout(ms: u64) -> Result<(), String> {
    bounded("idle_timeout_ms", ms, 100..=600_000)
}

pub(super) fn bounded(key: &str, value: u64, bounds: std::ops::RangeInclusive<u64>) -> Result<(), String> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(format!("{key}: expected {} to {}, found {value}", bounds.start(), bounds.end()))
}
