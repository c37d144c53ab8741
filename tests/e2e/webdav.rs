//! WebDAV and redirects, on nginx.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use contract::{Digest, Role};
use harness::{Options, System, Variable, until};
use rustix::process::Signal;
use serde_json::json;
use servers::{Nginx, NginxOptions};
use tempfile::TempDir;

use crate::remotes::assert_error;

const MIB: u64 = 1024 * 1024;

/// An nginx, and the folder that it serves as `in/`.
struct Dav {
    nginx: Nginx,
    folder: TempDir,
}

impl Dav {
    async fn start(change: impl FnOnce(&mut NginxOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("in")).unwrap();
        let mut options = NginxOptions::new(folder.path().join("nginx"), root);
        change(&mut options);
        let nginx = Nginx::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Self { nginx, folder }
    }

    /// A plain system with this as the remote `share`.
    fn options(&self, kind: &str, more: &str) -> Options {
        let url = self.nginx.url();
        let toml = format!("[remotes.share]\nkind = {kind:?}\nurl = \"{url}in/\"\n{more}\n");
        Options { toml, ..Options::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    fn object(&self, name: &str) -> Option<(u64, Digest)> {
        let content = fs::read(self.path(name)).ok()?;
        Some((content.len() as u64, Digest::of(&content)))
    }
}

fn names(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_by_webdav() {
    if !servers::can_test(servers::Nginx::is_here()) {
        return;
    }
    let user = ("ada".to_owned(), "hush-pass".to_owned());
    let dav = Dav::start(|options| options.user = Some(user)).await;
    let more = "username = \"ada\"\npassword = \"hush-pass\"\nname = \"{yyyy}/{name}\"";
    let system = System::start(dav.options("webdav", more)).await;
    for (name, size) in [("empty", 0), ("small & größe", 70_000), ("large", 20 * MIB + 3)] {
        let (file, content) = system.send(name, size, "share").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        let object = receipt["remote"]["object"].as_str().unwrap();
        assert_eq!(dav.object(&format!("in/{object}")), Some((content.size, content.sha256)));
        let remote = (&receipt["remote"]["kind"], &receipt["remote"]["proof"]);
        assert_eq!((remote, &receipt["bytes_sent"]), ((&json!("webdav"), &json!("put")), &json!(size)));
        assert!(!receipt.to_string().contains("hush"));
    }
    let (file, _) = system.send("large", 1000, "share").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/large");
    assert_eq!(names(&dav.path("in/.waybill")), BTreeSet::new());
}

/// Whoever dies before or after the move: the file is there once, and in the end nothing lies aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_finaliser_that_dies_at_the_move_is_followed_by_another() {
    if !servers::can_test(servers::Nginx::is_here()) {
        return;
    }
    for (point, sent) in [("aside-before-rename", 20 * MIB), ("aside-after-rename", 0)] {
        let dav = Dav::start(|_| {}).await;
        let dying = Variable::new("finaliser-0", "FAILPOINTS", format!("{point}=return"));
        let options = dav.options("webdav", "");
        let options = Options { work: "lease_ms = 2000".into(), environment: vec![dying], ..options };
        let mut system = System::start(options).await;
        let (file, content) = system.send("large", 20 * MIB, "share").await;
        system.process("finaliser-0").wait();
        assert_eq!(dav.object("in/large").is_some(), sent == 0, "{point}");
        system.start_service(Role::Finaliser, 1);
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(dav.object("in/large"), Some((content.size, content.sha256)));
        assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(sent)), "{point}");
        assert_eq!(receipt["guarantee"], "exactly-once");
        until("nothing lies aside", async || names(&dav.path("in/.waybill")).is_empty().then_some(())).await;
        system.process("finaliser-1").signal(Signal::TERM);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_sent_on_arrives_whole() {
    if !servers::can_test(servers::Nginx::is_here()) {
        return;
    }
    let sends_on = "if ($uri ~ ^/in/) { return 307 /kept$uri; }";
    let dav = Dav::start(|options| options.directives = sends_on.into()).await;
    fs::create_dir_all(dav.path("kept/in")).unwrap();
    let system = System::start(dav.options("http", "redirects = 1")).await;
    for (name, size) in [("small", 70_000), ("large", 40 * MIB + 3)] {
        let (file, content) = system.send(name, size, "share").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(dav.object(&format!("kept/in/{name}")), Some((content.size, content.sha256)));
        assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(1), &json!(size)));
        assert_eq!(receipt["remote"]["address"], format!("{}in/{name}", dav.nginx.url()));
    }
    assert_eq!(names(&dav.path("in")), BTreeSet::new());
}
