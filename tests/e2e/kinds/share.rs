//! `http` and `webdav` on nginx, `sftp` on OpenSSH: a folder of this machine, at a server that asks for a secret.

use std::net::SocketAddr;

use contract::Digest;
use servers::{Nginx, NginxOptions, can_test};
use tempfile::TempDir;
use testing::{sftp_section, sshd};

use super::folder::Folder;
use super::place::{Place, Trouble};
use super::secret_file::SecretFile;

const USER: &str = "courier";
const PASSWORD: &str = "a password of today";
const EXPIRED: &str = "a password of yesterday";

/// A folder of its own, and the secret that opens it.
pub(crate) struct Share {
    server: SocketAddr,
    /// The settings of the remote for a server at an address.
    section: Box<dyn Fn(SocketAddr) -> String + Send + Sync>,
    secret: SecretFile,
    right: Vec<u8>,
    wrong: Vec<u8>,
    /// Texts that must never be in a message.
    secrets: Vec<String>,
    folder: Folder,
    _nginx: Option<(Nginx, TempDir)>,
}

impl Share {
    /// The folder at an nginx of its own, which wants a password.
    pub(crate) async fn nginx(kind: &'static str, folder: Folder) -> Option<Self> {
        if !can_test(Nginx::is_here()) {
            return None;
        }
        let own = tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap();
        let user = Some((USER.to_owned(), PASSWORD.to_owned()));
        // On the disk that can be full: where nginx must copy a body to its place, it leaves half a copy on a full disk.
        let directives = format!("client_body_temp_path {:?};", folder.path().join(".bodies"));
        let options = NginxOptions { user, directives, ..NginxOptions::new(own.path().join("nginx"), folder.path()) };
        let nginx = Nginx::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let secret = SecretFile::new(PASSWORD);
        let file = secret.path();
        Some(Self {
            server: SocketAddr::from(([127, 0, 0, 1], nginx.port())),
            section: Box::new(move |address| {
                format!("kind = {kind:?}\nurl = \"http://{address}/\"\nusername = {USER:?}\npassword_file = {file:?}\n")
            }),
            secret,
            right: PASSWORD.into(),
            wrong: EXPIRED.into(),
            secrets: [PASSWORD, EXPIRED].map(str::to_owned).into(),
            folder,
            _nginx: Some((nginx, own)),
        })
    }

    /// The folder at the sshd of all tests, which wants a key.
    pub(crate) async fn sshd(folder: Folder) -> Option<Self> {
        let sshd = sshd().await?;
        let right = std::fs::read_to_string(sshd.private_key()).unwrap();
        let secret = SecretFile::new(&right);
        let (file, path) = (secret.path(), folder.path().to_owned());
        Some(Self {
            server: SocketAddr::from(([127, 0, 0, 1], sshd.port())),
            section: Box::new(move |address| sftp_section(sshd, address, &file, &path)),
            secret,
            secrets: right.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect(),
            right: right.into(),
            // A key that the server does not know: its own.
            wrong: std::fs::read(sshd.private_key().with_file_name("host_key")).unwrap(),
            folder,
            _nginx: None,
        })
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl Place for Share {
    fn server(&self) -> Option<SocketAddr> {
        Some(self.server)
    }

    fn section(&self, address: Option<SocketAddr>) -> String {
        (self.section)(address.unwrap())
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        self.folder.object(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.folder.put(name, content);
    }

    fn asides(&self) -> usize {
        self.folder.asides()
    }

    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str> {
        match (trouble, on) {
            (Trouble::Full | Trouble::Closed, _) => self.folder.trouble(trouble, on)?,
            (Trouble::Expired, true) => self.secret.set(&self.wrong),
            (Trouble::Expired, false) => self.secret.set(&self.right),
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }
}
