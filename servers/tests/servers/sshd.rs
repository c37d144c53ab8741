//! sshd starts, lets a user in and ends.

use std::process::Command;

use servers::{Sshd, SshdOptions};

#[tokio::test]
async fn it_starts_accepts_our_key_and_ends() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = SshdOptions::new(folder.path().join("sshd"));
    let sshd = Sshd::start(options.clone()).await.unwrap();
    assert!(sshd.try_wait().is_none() && !sshd.adopted());
    assert!(sshd.host_key().starts_with("ssh-ed25519 "), "{}", sshd.host_key());
    let (host_key, known) = (sshd.host_key().to_owned(), folder.path().join("known_hosts"));
    std::fs::write(&known, format!("[{}]:{} {host_key}\n", Sshd::HOST, sshd.port())).unwrap();
    let batch = folder.path().join("batch");
    std::fs::write(&batch, format!("ls {}\n", sshd.private_key().display())).unwrap();
    let listed = Command::new("sftp")
        .arg("-b")
        .arg(&batch)
        .args([
            "-F",
            "none",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-P",
            &sshd.port().to_string(),
        ])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(sshd.private_key())
        .arg(format!("{}@{}", sshd.user(), Sshd::HOST))
        .output()
        .expect("sftp of the package openssh-client is needed");
    let (stdout, stderr) = (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    assert!(listed.status.success() && stdout.contains("user_key"), "{stdout}{stderr}");
    sshd.kill().await.unwrap();
    drop(sshd);
    // Again on the same directory, with the same keys.
    let sshd = Sshd::start(options).await.unwrap();
    assert_eq!(sshd.host_key(), host_key);
    sshd.stop().await.unwrap();
}
