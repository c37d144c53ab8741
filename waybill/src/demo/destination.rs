//! The destination of the demonstration: a remote, and the server behind it.

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

/// The kinds of remotes that the demonstration can deliver to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DestinationKind {
    /// A folder
    #[default]
    Directory,
    /// A server that accepts files by PUT: SeaweedFS
    Http,
    /// A bucket: SeaweedFS
    S3,
    /// A WebDAV share: SeaweedFS
    Webdav,
    /// A folder behind SSH: the sshd of this machine's packages, started by the user who runs the demonstration
    Sftp,
}

/// Where the file is delivered to.
pub(super) enum Destination {
    /// The folder that `up` makes.
    Folder,
    /// SeaweedFS, and the address of the remote.
    Seaweed(DestinationKind, Box<Seaweed>, String),
    /// sshd, and the folder behind it.
    Sshd(Box<Sshd>, PathBuf),
}

impl Destination {
    /// Starts the server; all of its files are in `directory`.
    pub(super) async fn start(kind: DestinationKind, directory: &Path) -> Result<Self> {
        Ok(match kind {
            DestinationKind::Directory => Self::Folder,
            DestinationKind::Http | DestinationKind::S3 | DestinationKind::Webdav => {
                let seaweed = Seaweed::start(SeaweedOptions::new(directory.join("seaweedfs"))).await?;
                let url = match kind {
                    DestinationKind::S3 => format!("{}{}/", seaweed.s3_url(), Seaweed::BUCKET),
                    _ => bucket_by_webdav(&seaweed),
                };
                Self::Seaweed(kind, Box::new(seaweed), url)
            }
            DestinationKind::Sftp => {
                let folder = directory.join("inbox");
                std::fs::create_dir(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
                let options = SshdOptions::new(directory.join("sshd"));
                Self::Sshd(Box::new(Sshd::start(options).await?), folder)
            }
        })
    }

    /// Makes it the default remote of the settings.
    pub(super) fn configure(&self, settings: &mut Settings) {
        let remote = match self {
            Self::Folder => return,
            Self::Seaweed(DestinationKind::S3, _, url) => RemoteSettings::S3(S3Remote {
                access_key: Some(Seaweed::ACCESS_KEY.into()),
                secret_key: Some(Secret::new(Seaweed::SECRET_KEY.into())),
                ..S3Remote::new(url)
            }),
            Self::Seaweed(DestinationKind::Webdav, _, url) => RemoteSettings::Webdav(WebdavRemote::new(url)),
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

    /// The delivered file, as a file on this machine. `object` is its name at the remote and `address` its address, both as in
    /// the receipt; `folder` is the folder of a remote of the kind `directory`.
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
            // An orderly stop takes 10 s and more, for data that nobody wants.
            Self::Seaweed(_, seaweed, _) => drop(seaweed.kill().await?),
            Self::Sshd(sshd, _) => drop(sshd.stop().await?),
        }
        Ok(())
    }
}

/// The address at which anybody can read the bucket.
fn bucket_by_webdav(seaweed: &Seaweed) -> String {
    format!("{}buckets/{}/", seaweed.webdav_url(), Seaweed::BUCKET)
}

/// Fetches a file from a server.
async fn fetch(url: &str, path: &Path) -> Result<()> {
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = http.get(url.parse()?).await.with_context(|| format!("GET {url} failed"))?;
    ensure!(answer.status() == StatusCode::OK, "GET {url}: expected 200, found {}", answer.status());
    let mut file = File::create(path).with_context(|| format!("{} cannot be created", path.display()))?;
    let mut content = answer.into_body();
    while let Some(frame) = content.frame().await {
        if let Ok(bytes) = frame.with_context(|| format!("GET {url}: the answer broke off"))?.into_data() {
            file.write_all(&bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(())
}
