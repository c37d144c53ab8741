//! The remote of the demonstration, and the server behind it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt, Empty};
use hyper::StatusCode;
use hyper_util::rt::TokioExecutor;
use servers::{Seaweed, SeaweedOptions, Sshd, SshdOptions};
use settings::{HttpRemote, RemoteSettings, S3Remote, Secret, Settings, SftpRemote, WebdavRemote};

/// The name of the remote.
const NAME: &str = "there";

/// The kinds of remotes that can be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A folder
    #[default]
    Directory,
    /// A server that takes files by PUT: SeaweedFS
    Http,
    /// A bucket: SeaweedFS
    S3,
    /// A WebDAV share: SeaweedFS
    Webdav,
    /// A folder behind SSH: the sshd of this machine's packages, run by the user who runs this
    Sftp,
}

/// A place that files are delivered to.
pub(super) enum There {
    /// The folder that `up` makes.
    Folder,
    /// SeaweedFS, and the address of the remote.
    Seaweed(Kind, Box<Seaweed>, String),
    /// sshd, and the folder behind it.
    Sshd(Box<Sshd>, PathBuf),
}

impl There {
    /// Starts the server, with all of its files in `directory`.
    pub(super) async fn start(kind: Kind, directory: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Directory => Self::Folder,
            Kind::Http | Kind::S3 | Kind::Webdav => {
                let seaweed = Seaweed::start(SeaweedOptions::new(directory.join("seaweedfs"))).await?;
                let url = match kind {
                    Kind::S3 => format!("{}{}/", seaweed.s3_url(), Seaweed::BUCKET),
                    _ => bucket_by_webdav(&seaweed),
                };
                Self::Seaweed(kind, Box::new(seaweed), url)
            }
            Kind::Sftp => {
                let folder = directory.join("inbox");
                std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
                let options = SshdOptions { die_with_parent: true, ..SshdOptions::new(directory.join("sshd")) };
                Self::Sshd(Box::new(Sshd::start(options).await?), folder)
            }
        })
    }

    /// Has files delivered there.
    pub(super) fn configure(&self, settings: &mut Settings) {
        let remote = match self {
            Self::Folder => return,
            Self::Seaweed(Kind::S3, _, url) => RemoteSettings::S3(S3Remote {
                access_key: Some(Seaweed::ACCESS_KEY.into()),
                secret_key: Some(Secret::new(Seaweed::SECRET_KEY.into())),
                ..S3Remote::new(url)
            }),
            Self::Seaweed(Kind::Webdav, _, url) => RemoteSettings::Webdav(WebdavRemote::new(url)),
            Self::Seaweed(_, _, url) => RemoteSettings::Http(HttpRemote::new(url)),
            Self::Sshd(sshd, folder) => RemoteSettings::Sftp(SftpRemote {
                port: sshd.port(),
                private_key_file: Some(sshd.private_key().to_owned()),
                path: folder.display().to_string(),
                ..SftpRemote::new(Sshd::HOST, sshd.host_key(), sshd.user())
            }),
        };
        settings.remotes.insert(NAME.into(), remote);
        settings.default_remote = Some(NAME.into());
    }

    /// The file that arrived, as a file of this machine. `object` is its name there, `address` its address, both as the receipt
    /// has them; `folder` is that of a remote of the kind `directory`.
    pub(super) async fn arrived(&self, object: &str, address: &str, folder: Option<&Path>) -> Result<Option<PathBuf>> {
        match self {
            Self::Folder => Ok(folder.map(|folder| folder.join(object))),
            Self::Sshd(_, folder) => Ok(Some(folder.join(object))),
            Self::Seaweed(_, seaweed, url) => {
                let name = address.strip_prefix(url.as_str()).context("the address is not at the remote")?;
                let path = seaweed.options().data_dir.join("arrived");
                fetch(&format!("{}{name}", bucket_by_webdav(seaweed)), &path).await?;
                Ok(Some(path))
            }
        }
    }

    /// Stops the server.
    pub(super) async fn stop(self) -> Result<()> {
        match self {
            Self::Folder => {}
            // In good order it takes 10 s and more, for data that nobody wants.
            Self::Seaweed(_, seaweed, _) => drop(seaweed.kill().await?),
            Self::Sshd(sshd, _) => drop(sshd.stop().await?),
        }
        Ok(())
    }
}

/// The bucket, as anybody can read it.
fn bucket_by_webdav(seaweed: &Seaweed) -> String {
    format!("{}buckets/{}/", seaweed.webdav_url(), Seaweed::BUCKET)
}

/// Fetches a file that a server has.
async fn fetch(url: &str, path: &Path) -> Result<()> {
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = http.get(url.parse()?).await.with_context(|| format!("GET {url} failed"))?;
    ensure!(answer.status() == StatusCode::OK, "GET {url}: expected 200, found {}", answer.status());
    let mut file = File::create(path).with_context(|| format!("{} cannot be made", path.display()))?;
    let mut content = answer.into_body();
    while let Some(frame) = content.frame().await {
        if let Ok(bytes) = frame.with_context(|| format!("GET {url}: the answer broke off"))?.into_data() {
            file.write_all(&bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(())
}
