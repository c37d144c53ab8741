//! Servers of remotes that others wrote, as tests use them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::Digest;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use servers::{Nginx, NginxOptions, Seaweed, Sshd, can_test};
use tempfile::TempDir;

use crate::{ask, hashed, http};

/// An nginx of its own, and the folder that it serves.
#[derive(Debug)]
pub struct Served {
    /// The server.
    pub nginx: Nginx,
    // Dropped after the server, which writes there.
    folder: TempDir,
}

impl Served {
    /// Starts it. `None`, with a message, where nginx is missing.
    pub async fn start(change: impl FnOnce(&mut NginxOptions)) -> Option<Self> {
        if !can_test(Nginx::is_here()) {
            return None;
        }
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("in")).unwrap();
        let mut options = NginxOptions::new(folder.path().join("nginx"), root);
        change(&mut options);
        let nginx = Nginx::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Some(Self { nginx, folder })
    }

    /// The address of the folder `in`, which exists.
    pub fn url(&self) -> String {
        format!("{}in/", self.nginx.url())
    }

    /// A file in the folder `in`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root/in").join(name)
    }

    /// The names of the staged files.
    pub fn asides(&self) -> BTreeSet<String> {
        names(&self.path(".waybill"))
    }
}

/// The sshd of all tests. `None`, with a message, where sshd is missing.
pub async fn sshd() -> Option<&'static Sshd> {
    if !can_test(Sshd::is_here()) {
        return None;
    }
    Some(servers::shared_sshd().await.unwrap_or_else(|error| panic!("{error}")))
}

/// The settings of a remote: the folder `path` at an sshd that this address leads to, with a login by the key in a file.
pub fn sftp_section(sshd: &Sshd, address: SocketAddr, key: &Path, path: &Path) -> String {
    format!(
        "kind = \"sftp\"\nhost = \"{}\"\nport = {}\nhost_key = {:?}\nusername = {:?}\nprivate_key_file = {key:?}\npath = {path:?}\n",
        address.ip(),
        address.port(),
        sshd.host_key(),
        sshd.user(),
    )
}

/// The SeaweedFS of all tests.
pub async fn seaweed() -> &'static Seaweed {
    servers::shared_seaweed().await.unwrap_or_else(|error| panic!("{error}"))
}

/// Asks SeaweedFS by WebDAV about a name in a folder of the bucket; returns status and content.
pub fn ask_bucket(seaweed: &Seaweed, folder: &str, method: &str, name: &str, content: &[u8]) -> (u16, Vec<u8>) {
    let (server, path) = in_bucket(seaweed, folder, name);
    ask(&server, method, &path, "Depth: 1\r\n", content)
}

/// Size and hash of an object in a folder of SeaweedFS' bucket; `None` where there is none.
pub fn object_in_bucket(seaweed: &Seaweed, folder: &str, name: &str) -> Option<(u64, Digest)> {
    let (server, path) = in_bucket(seaweed, folder, name);
    match http::open(&server, "GET", &path, "", b"") {
        (200, content) => Some(hashed(content)),
        (404, _) => None,
        (status, _) => panic!("{name}: {status}"),
    }
}

/// The server's address, and the path of the object.
fn in_bucket(seaweed: &Seaweed, folder: &str, name: &str) -> (String, String) {
    let encode = |segment| utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string();
    let name = name.split('/').map(encode).collect::<Vec<_>>().join("/");
    let server = seaweed.webdav_url().replace("http://", "").replace('/', "");
    (server, format!("/buckets/{}/{folder}/{name}", Seaweed::BUCKET))
}

/// The names in a folder, which must exist.
pub fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
