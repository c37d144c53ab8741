//! `http` and `webdav` on nginx, which wants a password.

use std::net::SocketAddr;
use std::path::PathBuf;

use contract::Digest;
use servers::{Nginx, NginxOptions};
use tempfile::TempDir;

use super::folder::{Folder, asides, hashed};
use super::place::{Place, Trouble};

const USER: &str = "courier";
const PASSWORD: &str = "a password of today";
const EXPIRED: &str = "a password of yesterday";

/// A folder of its own, served by a server of its own.
pub(crate) struct Web {
    kind: &'static str,
    server: Nginx,
    folder: Folder,
    own: TempDir,
}

impl Web {
    pub(crate) async fn mount(kind: &'static str, mib: u32) -> Option<Self> {
        if !servers::can_test(Nginx::is_here()) {
            return None;
        }
        let folder = Folder::mount(mib)?;
        let own = tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap();
        let user = Some((USER.to_owned(), PASSWORD.to_owned()));
        // On the disk that can be full: where nginx must copy a body to its place, it leaves half a copy on a full disk.
        let directives = format!("client_body_temp_path {:?};", folder.path().join(".bodies"));
        let options = NginxOptions { user, directives, ..NginxOptions::new(own.path().join("nginx"), folder.path()) };
        let server = Nginx::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let web = Self { kind, server, folder, own };
        web.log_in(PASSWORD);
        Some(web)
    }

    fn password_file(&self) -> PathBuf {
        self.own.path().join("password")
    }

    fn log_in(&self, password: &str) {
        // Renamed, so that no request finds half of it.
        let new = self.own.path().join("new");
        std::fs::write(&new, password).unwrap();
        std::fs::rename(new, self.password_file()).unwrap();
    }
}

impl Place for Web {
    fn server(&self) -> Option<SocketAddr> {
        self.server.url().trim_start_matches("http://").trim_end_matches('/').parse().ok()
    }

    fn section(&self, address: Option<SocketAddr>) -> String {
        let (kind, address, password) = (self.kind, address.unwrap(), self.password_file());
        format!("kind = {kind:?}\nurl = \"http://{address}/\"\nusername = {USER:?}\npassword_file = {password:?}\n")
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
            Trouble::Expired => self.log_in(if on { EXPIRED } else { PASSWORD }),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        [PASSWORD, EXPIRED].map(str::to_owned).into()
    }
}
