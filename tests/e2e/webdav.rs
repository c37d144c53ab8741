//! WebDAV and redirects, on nginx.

use std::collections::BTreeSet;
use std::fs;

use contract::{Digest, Role};
use harness::{Options, System, Variable, until};
use rustix::process::Signal;
use serde_json::json;
use testing::{Served, hashed, names};

use crate::remotes::assert_error;

const MIB: u64 = 1024 * 1024;

/// A plain system with the folder `in` of an nginx as the remote `share`.
fn options(dav: &Served, kind: &str, more: &str) -> Options {
    let toml = format!("[remotes.share]\nkind = {kind:?}\nurl = {:?}\n{more}\n", dav.url());
    Options { toml, ..Options::default() }
}

fn object(dav: &Served, name: &str) -> Option<(u64, Digest)> {
    fs::File::open(dav.path(name)).ok().map(hashed)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_by_webdav() {
    let user = ("ada".to_owned(), "hush-pass".to_owned());
    let Some(dav) = Served::start(|options| options.user = Some(user)).await else { return };
    let more = "username = \"ada\"\npassword = \"hush-pass\"\nname = \"{yyyy}/{name}\"";
    let system = System::start(options(&dav, "webdav", more)).await;
    for (name, size) in [("empty", 0), ("small & größe", 70_000), ("large", 20 * MIB + 3)] {
        let (file, content) = system.send(name, size, "share").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        let object = receipt["remote"]["object"].as_str().unwrap();
        assert_eq!(self::object(&dav, object), Some((content.size, content.sha256)));
        let remote = (&receipt["remote"]["kind"], &receipt["remote"]["proof"]);
        assert_eq!((remote, &receipt["bytes_sent"]), ((&json!("webdav"), &json!("put")), &json!(size)));
        assert!(!receipt.to_string().contains("hush"));
    }
    let (file, _) = system.send("large", 1000, "share").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/large");
    assert_eq!(dav.asides(), BTreeSet::new());
}

/// A finaliser dies before or after the move: the file is delivered once, and in the end no staged file is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_finaliser_that_dies_at_the_move_is_followed_by_another() {
    for (point, sent) in [("aside-before-rename", 20 * MIB), ("aside-after-rename", 0)] {
        let Some(dav) = Served::start(|_| {}).await else { return };
        let dying = Variable::new("finaliser-0", "FAILPOINTS", format!("{point}=return"));
        let options =
            Options { work: "lease_ms = 2000".into(), environment: vec![dying], ..options(&dav, "webdav", "") };
        let mut system = System::start(options).await;
        let (file, content) = system.send("large", 20 * MIB, "share").await;
        system.process("finaliser-0").wait();
        assert_eq!(object(&dav, "large").is_some(), sent == 0, "{point}");
        system.start_service(Role::Finaliser, 1);
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(object(&dav, "large"), Some((content.size, content.sha256)));
        assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(2), &json!(sent)), "{point}");
        assert_eq!(receipt["guarantee"], "exactly-once");
        until("no staged file is left", async || dav.asides().is_empty().then_some(())).await;
        system.process("finaliser-1").signal(Signal::TERM);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_file_arrives_whole() {
    let sends_on = "if ($uri ~ ^/in/) { return 307 /kept$uri; }";
    let Some(dav) = Served::start(|options| options.directives = sends_on.into()).await else { return };
    fs::create_dir_all(dav.path("../kept/in")).unwrap();
    let system = System::start(options(&dav, "http", "redirects = 1")).await;
    for (name, size) in [("small", 70_000), ("large", 40 * MIB + 3)] {
        let (file, content) = system.send(name, size, "share").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(object(&dav, &format!("../kept/in/{name}")), Some((content.size, content.sha256)));
        assert_eq!((&receipt["attempts"], &receipt["bytes_sent"]), (&json!(1), &json!(size)));
        assert_eq!(receipt["remote"]["address"], format!("{}{name}", dav.url()));
    }
    assert_eq!(names(&dav.path("")), BTreeSet::new());
}
