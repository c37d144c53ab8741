//! `s3` on SeaweedFS.

use std::net::SocketAddr;

use contract::Digest;
use servers::{Seaweed, SeaweedOptions};
use testing::{ask_bucket, object_in_bucket, seaweed};

use super::folder::Folder;
use super::place::{Place, Trouble};
use super::secret_file::SecretFile;

/// Small, so that a small disk has room for the seven volumes that a bucket begins with.
const VOLUME_MIB: u32 = 32;

/// Bytes that stay free on a full disk: less than a part, and enough for the database of SeaweedFS, which never recovers from a
/// write that failed.
const DATABASE_ROOM: u64 = 2 * 1024 * 1024;

/// A folder of its own in the bucket. The test looks at its content by WebDAV.
pub(crate) struct Bucket {
    server: Server,
    folder: String,
    access_key: SecretFile,
    secret_key: SecretFile,
}

/// The server of all tests, or a server of its own on a disk that can be full.
enum Server {
    Shared(&'static Seaweed),
    Own(Seaweed, Folder),
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        Self::at(Server::Shared(seaweed().await))
    }

    /// On a disk of so many MiB.
    pub(crate) async fn mount(mib: u32) -> Option<Self> {
        let disk = Folder::mount(mib)?;
        let options = SeaweedOptions { volume_mib: VOLUME_MIB, ..SeaweedOptions::new(disk.path().join("seaweed")) };
        let seaweed = Seaweed::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Some(Self::at(Server::Own(seaweed, disk)))
    }

    fn at(server: Server) -> Self {
        Self {
            server,
            folder: contract::FileId::generate().to_string(),
            access_key: SecretFile::new(Seaweed::ACCESS_KEY),
            secret_key: SecretFile::new(Seaweed::SECRET_KEY),
        }
    }

    fn seaweed(&self) -> &Seaweed {
        match &self.server {
            Server::Shared(seaweed) => seaweed,
            Server::Own(seaweed, _) => seaweed,
        }
    }

    fn log_in(&self, access_key: &str, secret_key: &str) {
        self.access_key.set(access_key);
        self.secret_key.set(secret_key);
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
            self.access_key.path(),
            self.secret_key.path(),
        )
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        object_in_bucket(self.seaweed(), &self.folder, name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        assert_eq!(ask_bucket(self.seaweed(), &self.folder, "PUT", name, content).0, 201);
    }

    fn asides(&self) -> usize {
        0
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match (trouble, on) {
            (Trouble::Full, _) => match &self.server {
                Server::Own(_, disk) if on => disk.fill_but(DATABASE_ROOM)?,
                Server::Own(_, disk) => disk.trouble(trouble, on)?,
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
