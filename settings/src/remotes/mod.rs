mod http;
mod s3;
mod sftp;
mod webdav;

use std::path::PathBuf;

use contract::NameTemplate;
use serde::Deserialize;

pub use http::{HttpCredentials, HttpRemote, HttpVersion};
pub use s3::{S3Credentials, S3Remote};
pub use sftp::{SftpCredentials, SftpRemote};
pub use webdav::WebdavRemote;

/// A remote as configured: `[remotes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RemoteSettings {
    /// A server that takes files by PUT.
    Http(HttpRemote),
    /// A folder on this machine or a mounted share.
    Directory(DirectoryRemote),
    /// A bucket of S3, or of a server that speaks like it.
    S3(S3Remote),
    /// A server that is reached by SSH.
    Sftp(SftpRemote),
    /// A collection of a server that speaks WebDAV.
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

/// `kind = "directory"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRemote {
    /// The folder. It must exist; `.waybill/` in it holds what is being written.
    pub path: PathBuf,
    /// What happens where the name is taken.
    #[serde(default)]
    pub on_clash: OnClash,
    /// How files are named there; folders are made as needed.
    #[serde(default)]
    pub name: NameTemplate,
}

/// The default of `idle_timeout_ms`.
const fn idle_timeout_ms() -> u64 {
    30_000
}

impl RemoteSettings {
    /// The word for the kind in settings and receipts.
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

    /// What is wrong with the values, if anything; checked at the start.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.check()?,
            Self::S3(s3) => s3.check()?,
            Self::Sftp(sftp) => sftp.check()?,
            Self::Webdav(webdav) => webdav.check()?,
            Self::Directory(directory) => {
                if !directory.path.is_absolute() {
                    return Err(format!("path: expected an absolute path, found {}", directory.path.display()));
                }
            }
        }
        Ok(())
    }
}

/// Looks whether `url` is the address of a folder at a server, without secrets in it.
pub(super) fn server_folder(url: &str) -> Result<(), String> {
    // First, and without a word of it: these are where a secret would be.
    if url.contains(['@', '?', '#']) {
        return Err("url: expected no user, password, query or fragment in it".into());
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

impl DirectoryRemote {
    /// A folder, with all else as it is by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), on_clash: OnClash::default(), name: NameTemplate::default() }
    }
}
