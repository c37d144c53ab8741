use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

/// A file with a secret that changes while services read it.
pub(crate) struct SecretFile(TempDir);

impl SecretFile {
    pub(crate) fn new(secret: impl AsRef<[u8]>) -> Self {
        let file = Self(tempfile::Builder::new().prefix("waybill-place-").tempdir().unwrap());
        file.set(secret);
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("secret")
    }

    pub(crate) fn set(&self, secret: impl AsRef<[u8]>) {
        // Renamed, so that no login reads half of it.
        let new = self.0.path().join("new");
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new).unwrap();
        file.write_all(secret.as_ref()).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }
}
