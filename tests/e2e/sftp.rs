//! A folder at an SFTP server that others wrote, and what a finaliser that dies leaves to the next.

use std::path::PathBuf;

use contract::{Digest, Hasher, Role};
use harness::{Options, System, until};
use rustix::process::Signal;
use serde_json::json;
use servers::Sshd;
use tempfile::TempDir;

use crate::remotes::assert_error;

const MIB: u64 = 1024 * 1024;

/// A folder of its own at the server.
struct Inbox {
    sshd: &'static Sshd,
    folder: TempDir,
}

impl Inbox {
    async fn new() -> Self {
        let sshd = servers::shared_sshd().await.unwrap_or_else(|error| panic!("{error}"));
        Self { sshd, folder: tempfile::tempdir().unwrap() }
    }

    /// A plain system with this as the remote `inbox`.
    fn options(&self) -> Options {
        let toml = format!(
            "[remotes.inbox]\nkind = \"sftp\"\nhost = {:?}\nport = {}\nhost_key = {:?}\nusername = {:?}\n\
             private_key_file = {:?}\npath = {:?}\n",
            Sshd::HOST,
            self.sshd.port(),
            self.sshd.host_key(),
            self.sshd.user(),
            self.sshd.private_key(),
            self.folder.path(),
        );
        Options { toml, ..Options::default() }
    }

    /// Size and hash of what is there.
    fn file(&self, name: &str) -> Option<(u64, Digest)> {
        let content = std::fs::read(self.folder.path().join(name)).ok()?;
        let mut hasher = Hasher::new();
        hasher.update(&content);
        Some((content.len() as u64, hasher.finish()))
    }

    /// What lies aside.
    fn asides(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join(".waybill")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_large_files_arrive_at_an_sftp_server() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    let inbox = Inbox::new().await;
    let system = System::start(inbox.options()).await;
    for (name, size) in [("empty", 0), ("small", 70_000), ("large", 20 * MIB + 3)] {
        let (file, content) = system.send(name, size, "inbox").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(inbox.file(name), Some((content.size, content.sha256)));
        assert_eq!((&receipt["bytes_sent"], &receipt["remote"]["kind"]), (&json!(size), &json!("sftp")));
        assert_eq!(receipt["remote"]["proof"], "fsync");
    }
    assert!(inbox.asides().is_empty());
    // The name is taken.
    let (file, _) = system.send("small", 1000, "inbox").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/small");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_finaliser_sends_again_and_removes_what_was_left() {
    if !servers::can_test(servers::Sshd::is_here()) {
        return;
    }
    const SIZE: u64 = 96 * MIB + 11;
    let inbox = Inbox::new().await;
    let mut system = System::start(Options { work: "lease_ms = 2000".into(), ..inbox.options() }).await;
    let (file, content) = system.send("large", SIZE, "inbox").await;
    until("some of it is there", async || {
        let written = inbox.asides().first().and_then(|path| path.metadata().ok())?.len();
        (written >= MIB).then_some(())
    })
    .await;
    system.process("finaliser-0").signal(Signal::KILL);
    system.process("finaliser-0").wait();
    assert_eq!(inbox.asides().len(), 1, "it was killed too late");
    assert_eq!(inbox.file("large"), None, "nothing is visible before the end");
    system.start_service(Role::Finaliser, 1);
    let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
    assert_eq!(inbox.file("large"), Some((content.size, content.sha256)));
    assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(SIZE)));
    assert_eq!(receipt["guarantee"], "exactly-once");
    assert!(inbox.asides().is_empty());
}
