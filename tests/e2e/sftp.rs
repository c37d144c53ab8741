//! A folder at an SFTP server that others wrote, and how a finaliser goes on after one that died.

use contract::Role;
use harness::{Options, System, until};
use serde_json::json;

use crate::kinds::{Folder, Place, Share};
use crate::remotes::assert_error;

const MIB: u64 = 1024 * 1024;

/// A plain system with the share as the remote `inbox`.
fn options(share: &Share) -> Options {
    Options { toml: format!("[remotes.inbox]\n{}", share.section(share.server())), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_large_files_arrive_at_an_sftp_server() {
    let Some(inbox) = Share::sshd(Folder::without_disk()).await else { return };
    let system = System::start(options(&inbox)).await;
    for (name, size) in [("empty", 0), ("small", 70_000), ("large", 20 * MIB + 3)] {
        let (file, content) = system.send(name, size, "inbox").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(inbox.object(name), Some((content.size, content.sha256)));
        assert_eq!((&receipt["bytes_sent"], &receipt["remote"]["kind"]), (&json!(size), &json!("sftp")));
        assert_eq!(receipt["remote"]["proof"], "fsync");
    }
    assert_eq!(inbox.asides(), 0);
    // The name is taken.
    let (file, _) = system.send("small", 1000, "inbox").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/small");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_finaliser_sends_again_and_removes_what_was_left() {
    const SIZE: u64 = 96 * MIB + 11;
    let Some(inbox) = Share::sshd(Folder::without_disk()).await else { return };
    let mut system = System::start(Options { work: "lease_ms = 2000".into(), ..options(&inbox) }).await;
    let (file, content) = system.send("large", SIZE, "inbox").await;
    until("some of it is there", async || {
        let written = inbox.folder().aside().first().and_then(|path| path.metadata().ok())?.len();
        (written >= MIB).then_some(())
    })
    .await;
    system.process("finaliser-0").kill();
    assert_eq!(inbox.asides(), 1, "it was killed too late");
    assert_eq!(inbox.object("large"), None, "nothing is visible before the end");
    system.start_service(Role::Finaliser, 1);
    let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
    assert_eq!(inbox.object("large"), Some((content.size, content.sha256)));
    assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(SIZE)));
    assert_eq!(receipt["guarantee"], "exactly-once");
    assert_eq!(inbox.asides(), 0);
}
