//! `s3` on SeaweedFS.

use std::net::SocketAddr;
use std::path::PathBuf;

use contract::Digest;
use harness::plain_http;
use servers::{Seaweed, SeaweedOptions};
use tempfile::TempDir;

use super::folder::Folder;
use super::place::{Place, Trouble};

/// Small, so that a small disk has room for the seven that a bucket begins with.
const VOLUME_MIB: u32 = 32;

/// A folder of its own in the bucket. What it has is looked at by WebDAV.
pub(crate) struct Bucket {
    server: Server,
    folder: String,
    credentials: TempDir,
}

/// The server of all tests, or one of its own on a disk that can be full.
enum Server {
    Shared(&'static Seaweed),
    Own(Seaweed, Folder),
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        Self::at(Server::Shared(servers::shared_seaweed().await.unwrap_or_else(|error| panic!("{error}"))))
    }

    /// On a disk of so many MiB.
    pub(crate) async fn mount(mib: u32) -> Option<Self> {
        let disk = Folder::mount(mib)?;
        let options = SeaweedOptions { volume_mib: VOLUME_MIB, ..SeaweedOptions::new(disk.path().join("seaweed")) };
        let seaweed = Seaweed::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Some(Self::at(Server::Own(seaweed, disk)))
    }

    fn at(server: Server) -> Self {
        let bucket = Self {
            server,
            folder: contract::FileId::generate().to_string(),
            credentials: tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap(),
        };
        bucket.log_in(Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY);
        bucket
    }

    fn seaweed(&self) -> &Seaweed {
        match &self.server {
            Server::Shared(seaweed) => seaweed,
            Server::Own(seaweed, _) => seaweed,
        }
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.credentials.path().join(name)
    }

    fn log_in(&self, access_key: &str, secret_key: &str) {
        for (name, value) in [("access", access_key), ("secret", secret_key)] {
            // Renamed, so that no request finds half of it.
            std::fs::write(self.key_file("new"), value).unwrap();
            std::fs::rename(self.key_file("new"), self.key_file(name)).unwrap();
        }
    }

    fn path(&self, name: &str) -> String {
        let encode = |segment| percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC);
        format!("/buckets/{}/{}/{}", Seaweed::BUCKET, self.folder, encode(name))
    }

    fn webdav(&self) -> String {
        self.seaweed().webdav_url().replace("http://", "").replace('/', "")
    }
}

impl Place for Bucket {
    fn server(&self) -> Option<SocketAddr> {
        self.seaweed().s3_url().trim_start_matches("http://").trim_end_matches('/').parse().ok()
    }

    fn section(&self, address: Option<SocketAddr>) -> String {
        format!(
            "kind = \"s3\"\nurl = \"http://{}/{}/{}/\"\naccess_key_file = {:?}\nsecret_key_file = {:?}\n",
            address.unwrap(),
            Seaweed::BUCKET,
            self.folder,
            self.key_file("access"),
            self.key_file("secret"),
        )
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        plain_http::get(&self.webdav(), &self.path(name))
    }

    fn put(&self, name: &str, content: &[u8]) {
        plain_http::put(&self.webdav(), &self.path(name), content);
    }

    fn asides(&self) -> usize {
        0
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match (trouble, on) {
            (Trouble::Full, _) => match &self.server {
                Server::Own(_, disk) => disk.fill(on),
                Server::Shared(_) => return Err("its disk is that of all tests"),
            },
            (Trouble::Closed, true) => self.log_in(Seaweed::READER_ACCESS_KEY, Seaweed::READER_SECRET_KEY),
            (Trouble::Expired, true) => self.log_in(Seaweed::ACCESS_KEY, "a secret of yesterday"),
            (_, false) => self.log_in(Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        [Seaweed::SECRET_KEY, Seaweed::READER_SECRET_KEY, "a secret of yesterday"].map(str::to_owned).into()
    }
}
