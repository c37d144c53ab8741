//! `sftp` on OpenSSH.

use std::net::SocketAddr;
use std::path::PathBuf;

use contract::Digest;
use servers::Sshd;
use tempfile::TempDir;

use super::folder::{Folder, asides, hashed};
use super::place::{Place, Trouble};

/// A folder of its own at the server, and the key that opens it.
pub(crate) struct Inbox {
    server: &'static Sshd,
    folder: Folder,
    keys: TempDir,
}

impl Inbox {
    pub(crate) async fn mount(mib: u32) -> Option<Self> {
        if !servers::can_test(Sshd::is_here()) {
            return None;
        }
        let server = servers::shared_sshd().await.unwrap_or_else(|error| panic!("{error}"));
        let keys = tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap();
        let inbox = Self { server, folder: Folder::mount(mib)?, keys };
        inbox.log_in(true);
        Some(inbox)
    }

    fn key_file(&self) -> PathBuf {
        self.keys.path().join("key")
    }

    /// With the right key, or with one that the server does not know: its own.
    fn log_in(&self, rightly: bool) {
        let right = self.server.private_key();
        let key = if rightly { right.to_owned() } else { right.with_file_name("host_key") };
        // Renamed, so that no login finds half of it.
        let new = self.keys.path().join("new");
        std::fs::copy(key, &new).unwrap();
        std::fs::rename(new, self.key_file()).unwrap();
    }
}

impl Place for Inbox {
    fn server(&self) -> Option<SocketAddr> {
        format!("{}:{}", Sshd::HOST, self.server.port()).parse().ok()
    }

    fn section(&self, address: Option<SocketAddr>) -> String {
        let address = address.unwrap();
        format!(
            "kind = \"sftp\"\nhost = \"{}\"\nport = {}\nhost_key = {:?}\nusername = {:?}\nprivate_key_file = {:?}\npath = {:?}\n",
            address.ip(),
            address.port(),
            self.server.host_key(),
            self.server.user(),
            self.key_file(),
            self.folder.path(),
        )
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        hashed(&self.folder.path().join(name))
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.folder.put(name, content);
    }

    fn asides(&self) -> usize {
        asides(&self.folder.path())
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match trouble {
            Trouble::Full | Trouble::Closed => self.folder.trouble(trouble, on)?,
            Trouble::Expired => self.log_in(!on),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        let key = std::fs::read_to_string(self.server.private_key()).unwrap();
        key.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect()
    }
}
