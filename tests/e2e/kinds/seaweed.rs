//! `s3` on SeaweedFS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use contract::{Digest, Hasher};
use servers::Seaweed;
use tempfile::TempDir;

use super::place::{Place, Trouble};

/// A folder of its own in the bucket. What it has is looked at by WebDAV.
pub(crate) struct Bucket {
    seaweed: &'static Seaweed,
    folder: String,
    credentials: TempDir,
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        let seaweed = servers::shared_seaweed().await.unwrap_or_else(|error| panic!("{error}"));
        let bucket = Self {
            seaweed,
            folder: contract::FileId::generate().to_string(),
            credentials: tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap(),
        };
        bucket.log_in(Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY);
        bucket
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
        self.seaweed.webdav_url().replace("http://", "").replace('/', "")
    }
}

/// Asks a server for a file. Size and hash of what it answers; `None` if it has none.
pub(crate) fn get(server: &str, path: &str) -> Option<(u64, Digest)> {
    let mut stream = TcpStream::connect(server).unwrap();
    // Of this version no answer is cut into chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    match &head[9..12] {
        b"200" => {}
        b"404" => return None,
        _ => panic!("{}", String::from_utf8_lossy(&head)),
    }
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return Some((size, hasher.finish())),
            count => {
                size += count as u64;
                hasher.update(&buffer[..count]);
            }
        }
    }
}

/// Puts a file on a server.
pub(crate) fn put(server: &str, path: &str, content: &[u8]) {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = content.len();
    write!(stream, "PUT {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(content).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 201 "), "{answer}");
}

impl Place for Bucket {
    fn server(&self) -> Option<SocketAddr> {
        self.seaweed.s3_url().trim_start_matches("http://").trim_end_matches('/').parse().ok()
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
        get(&self.webdav(), &self.path(name))
    }

    fn put(&self, name: &str, content: &[u8]) {
        put(&self.webdav(), &self.path(name), content);
    }

    fn asides(&self) -> usize {
        0
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match (trouble, on) {
            (Trouble::Full, _) => return Err("its disk is shared with other tests"),
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
