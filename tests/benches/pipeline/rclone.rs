//! rclone as a peer: it moves a folder straight to the server, and stores nothing in between.

use std::path::Path;
use std::time::Instant;

use servers::{Seaweed, Sshd};

/// Files that rclone has under way at once.
const TRANSFERS: &str = "8";

/// rclone with a destination.
pub(crate) struct Rclone {
    /// A remote in rclone's connection-string form, up to the folder.
    to: String,
}

impl Rclone {
    /// To the bucket of a SeaweedFS by S3.
    pub(crate) fn s3(seaweed: &Seaweed) -> Self {
        let (key, secret, endpoint) = (Seaweed::ACCESS_KEY, Seaweed::SECRET_KEY, seaweed.s3_url());
        let options = format!(
            "provider=Other,access_key_id={key},secret_access_key=\"{secret}\",endpoint=\"{endpoint}\",force_path_style=true"
        );
        Self { to: format!(":s3,{options}:{}/rclone", Seaweed::BUCKET) }
    }

    /// To a folder behind an OpenSSH by SFTP.
    pub(crate) fn sftp(sshd: &Sshd, folder: &Path) -> Self {
        let (host, port, user, key) = (Sshd::HOST, sshd.port(), sshd.user(), sshd.private_key().display());
        Self {
            to: format!(
                ":sftp,host={host},port={port},user={user},key_file=\"{key}\",shell_type=unix:{}",
                folder.display()
            ),
        }
    }

    /// Seconds to copy a folder into a new one of that name.
    pub(crate) async fn copy(&self, folder: &Path, name: &str) -> f64 {
        let begun = Instant::now();
        let output = tokio::process::Command::new("rclone")
            .args(["copy", "--config", "", "--transfers", TRANSFERS])
            .arg(folder)
            .arg(format!("{}/{name}", self.to))
            .output()
            .await
            .expect("rclone runs");
        assert!(output.status.success(), "rclone: {}", String::from_utf8_lossy(&output.stderr));
        begun.elapsed().as_secs_f64()
    }
}
