//! One suite for every kind of remote, on servers that others wrote: what holds for one kind holds for all.

mod folder;
mod place;
mod seaweed;
mod secret_file;
mod share;

use std::sync::atomic::{AtomicBool, Ordering};

use contract::{Digest, Role};
use harness::{NetFault, Options, Proxy, System, until};
use rand::RngExt;
use serde_json::{Value, json};
use testing::flip;

use crate::operator::waybill;
use crate::remotes::assert_error;
pub(crate) use folder::Folder;
pub(crate) use place::{Place, Trouble};
pub(crate) use seaweed::Bucket;
pub(crate) use share::Share;

const MIB: u64 = 1024 * 1024;

/// A system with the place as the remote `there`. The line between them can be slow and can break.
struct Scene<'a> {
    place: &'a dyn Place,
    system: System,
    line: Option<Proxy>,
}

impl<'a> Scene<'a> {
    async fn set(place: &'a dyn Place) -> Self {
        let line = place.server().map(Proxy::start);
        let section = place.section(line.as_ref().map(Proxy::address));
        // Silence of 3 s ends a delivery; a whole file may take any time.
        let idle = if line.is_some() { "idle_timeout_ms = 3000\n" } else { "" };
        let toml = format!("[remotes.there]\n{section}{idle}");
        let options = Options { toml, attempts: 10_000, work: "lease_ms = 2000".into(), ..Options::default() };
        Self { place, system: System::start(options).await, line }
    }

    /// Waits until the file is delivered, and panics unless the remote has all of it and no staged file.
    async fn until_there(&self, file: &str, name: &str) -> Value {
        let file = self.system.api.until_state(file, "delivered").await;
        let found = self.place.object(name).map(|(size, sha256)| (json!(size), json!(sha256.to_string())));
        assert_eq!(found, Some((file["size"].clone(), file["sha256"].clone())), "{name}");
        until("no staged file is left", async || (self.place.asides() == 0).then_some(())).await;
        file
    }

    /// Panics if an incomplete file is visible under the name.
    fn assert_whole_or_absent(&self, name: &str, whole: (u64, Digest)) {
        let found = self.place.object(name);
        assert!(found.is_none() || found == Some(whole), "{name} is visible as {found:?}, and is {whole:?}");
    }

    /// Waits until the delivery has met an error: the file has failed, or is tried again later.
    async fn until_refused(&self, file: &str) -> Value {
        until("the remote does not take it", async || {
            let found = self.system.api.file(file).await;
            assert_ne!(found["state"], "delivered");
            (found["state"] == "failed" || found["phase"] == "waiting" && !found["error"].is_null()).then_some(found)
        })
        .await
    }
}

async fn suite(place: &dyn Place) {
    let mut scene = Scene::set(place).await;
    sizes(&scene).await;
    clash(&scene).await;
    wrong_content(&scene).await;
    slow(&scene).await;
    cut(&scene).await;
    for trouble in Trouble::ALL {
        troubled(&scene, trouble).await;
    }
    killed(&mut scene).await;
}

async fn sizes(scene: &Scene<'_>) {
    for size in [0, 1, MIB, 33 * MIB + 5] {
        let name = format!("größe {size}");
        let (file, _) = scene.system.send(&name, size, "there").await;
        let file = scene.until_there(&file, &name).await;
        assert_eq!((&file["receipt"]["bytes_sent"], &file["attempts"]), (&json!(size), &json!(1)));
    }
}

async fn clash(scene: &Scene<'_>) {
    scene.place.put("taken", b"somebody else's");
    for size in [15, 9 * MIB] {
        let (file, _) = scene.system.send("taken", size, "there").await;
        assert_error(&scene.system.api.until_state(&file, "failed").await, "remote-clash", "taken");
        assert_eq!(scene.place.object("taken"), Some((15, Digest::of(b"somebody else's"))));
    }
}

async fn wrong_content(scene: &Scene<'_>) {
    for (name, size, number) in [("damaged small", 3 * MIB, 1), ("damaged large", 33 * MIB, 30)] {
        let (file, content) = scene.system.store(name, size).await;
        scene.system.stored().await.change_chunk(&file, number, flip).await;
        let body = json!({ "remote": "there" });
        scene.system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
        let failed = scene.system.api.until_state(&file, "failed").await;
        assert_error(&failed, "content-wrong", &format!("because of the chunks {number}"));
        assert_eq!(scene.place.object(name), None);
    }
    until("no staged file is left", async || (scene.place.asides() == 0).then_some(())).await;
}

/// A line so slow that the whole file takes much longer than the idle timeout.
async fn slow(scene: &Scene<'_>) {
    let Some(line) = &scene.line else { return };
    line.pace(Some(2 * MIB));
    let (file, _) = scene.system.send("slow", 10 * MIB, "there").await;
    scene.until_there(&file, "slow").await;
    line.pace(None);
}

/// A line that breaks in the middle of each body, until it is repaired.
async fn cut(scene: &Scene<'_>) {
    let Some(line) = &scene.line else { return };
    line.begin(NetFault::Truncate(5 * MIB));
    let (file, content) = scene.system.send("cut", 12 * MIB, "there").await;
    let waiting = scene.until_refused(&file).await;
    assert_error(&waiting, "remote-unavailable", "");
    assert_eq!(waiting["state"], "delivering");
    scene.assert_whole_or_absent("cut", (content.size, content.sha256));
    line.heal();
    scene.until_there(&file, "cut").await;
}

/// While the remote has a trouble, nothing of the file is visible; when the trouble is over, the file arrives.
async fn troubled(scene: &Scene<'_>, trouble: Trouble) {
    let (place, system) = (scene.place, &scene.system);
    if let Err(why) = place.trouble(trouble, true) {
        return eprintln!("{trouble:?}: {why}");
    }
    let name = format!("{trouble:?}");
    let (file, _) = system.send(&name, 9 * MIB, "there").await;
    let refused = scene.until_refused(&file).await;
    let said = refused["error"].to_string();
    assert!(!place.secrets().iter().any(|secret| said.contains(secret.as_str())), "{said}");
    assert_eq!(place.object(&name), None, "{said}");
    place.trouble(trouble, false).unwrap();
    if refused["state"] == "failed" {
        assert_error(&refused, "remote-refused", "");
        waybill(system, &["files", "requeue", &file]).await.expect(0);
    }
    scene.until_there(&file, &name).await;
}

/// Finalisers die at random moments, and the next ones go on.
async fn killed(scene: &mut Scene<'_>) {
    const SIZE: u64 = 24 * MIB + 11;
    if let Some(line) = &scene.line {
        line.pace(Some(12 * MIB));
    }
    let (file, content) = scene.system.send("killed", SIZE, "there").await;
    for number in 0..3 {
        let most = rand::rng().random_range(0..SIZE);
        let far_enough = AtomicBool::new(false);
        until("it is so far, or all of it is there", async || {
            let found = scene.system.api.file(&file).await;
            let done = found["state"] == "delivered";
            far_enough.store(!done, Ordering::Relaxed);
            (done || found["bytes"]["delivered"].as_u64() >= Some(most)).then_some(())
        })
        .await;
        let finaliser = format!("finaliser-{number}");
        scene.system.process(&finaliser).kill();
        scene.assert_whole_or_absent("killed", (content.size, content.sha256));
        scene.system.start_service(Role::Finaliser, number + 1);
    }
    if let Some(line) = &scene.line {
        line.pace(None);
    }
    scene.until_there(&file, "killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    let Some(folder) = Folder::mount(256) else { return };
    suite(&folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let Some(bucket) = Bucket::mount(512).await else { return };
    suite(&bucket).await;
}

async fn share_suite(share: impl AsyncFnOnce(Folder) -> Option<Share>) {
    let Some(folder) = Folder::mount(256) else { return };
    let Some(share) = share(folder).await else { return };
    suite(&share).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    share_suite(async |folder| Share::nginx("http", folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webdav() {
    share_suite(async |folder| Share::nginx("webdav", folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp() {
    share_suite(Share::sshd).await;
}
