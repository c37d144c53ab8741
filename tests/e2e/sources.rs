//! Sources that change: what is read is what stood still.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{Digest, Role};
use harness::{Options, System, Variable, until};
use mongodb::bson::doc;
use serde_json::{Value, json};

const MIB: u64 = 1024 * 1024;

/// Does something to a file again and again until it is stopped.
struct Restless(tokio::task::JoinHandle<()>);

impl Restless {
    fn start(path: PathBuf, mut act: impl FnMut(&Path) + Send + 'static) -> Self {
        let acting = async move {
            loop {
                act(&path);
                // The pace at which it acts; nothing waits for it.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        Self(tokio::spawn(acting))
    }

    /// After the present act.
    async fn stop(self) {
        self.0.abort();
        let ended = self.0.await;
        assert!(ended.is_err_and(|why| why.is_cancelled()), "it could not act any more");
    }
}

fn append(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

/// Pauses that are far longer than a file of these tests ever stands still by accident.
fn with_long_pauses(options: Options) -> Options {
    let pause = |name| Variable::new("chunker", name, "2000");
    let environment = vec![pause("WAYBILL__RETRY__FIRST_MS"), pause("WAYBILL__RETRY__MAX_MS")];
    Options { attempts: 50, environment, ..options }
}

async fn until_generation(system: &System, file: &str, generation: u64) -> Value {
    until("it was found changed often", async || {
        let found = system.api.file(file).await;
        assert_ne!(found["state"], "failed", "{found:#}");
        (found["generation"].as_u64() >= Some(generation)).then_some(found)
    })
    .await
}

/// Panics unless what was stored is what the source is now.
async fn assert_stored(system: &System, file: &str, name: &str) -> Value {
    let stored = system.api.until_state(file, "stored").await;
    let now = std::fs::read(system.source().join(name)).unwrap();
    assert_eq!((&stored["size"], &stored["sha256"]), (&json!(now.len()), &json!(Digest::of(&now))));
    system.api.finalise(file, &Digest::of(&now).to_string(), &json!({})).await.expect(202);
    system.api.until_state(file, "delivered").await;
    system.assert_arrived(name, name);
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_is_read_again_until_it_stands_still() {
    let system = System::start(with_long_pauses(Options::default())).await;
    system.write("growing", MIB);
    let growing = Restless::start(system.source().join("growing"), append);
    let file = system.api.prepare("growing").await.expect(201).file_id();
    let found = until_generation(&system, &file, 5).await;
    assert_eq!(found["error"]["type"], "/problems/source-changed", "{found:#}");
    assert!(found["not_before"].is_string() || found["holder"].is_string(), "{found:#}");
    growing.stop().await;
    let stored = assert_stored(&system, &file, "growing").await;
    assert_eq!(stored["error"], Value::Null);
    assert!(stored["failures"].as_array().unwrap().len() >= 4, "{stored:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_stands_still_fails_with_its_attempts() {
    let system = System::start(Options { attempts: 3, ..with_long_pauses(Options::default()) }).await;
    system.write("restless", 100);
    let growing = Restless::start(system.source().join("restless"), append);
    let file = system.api.prepare("restless").await.expect(201).file_id();
    let failed = system.api.until_state(&file, "failed").await;
    growing.stop().await;
    assert_eq!(failed["error"]["type"], "/problems/source-changed", "{failed:#}");
    assert_eq!((&failed["attempts"], failed["failures"].as_array().unwrap().len()), (&json!(3), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_grows_too_large_is_not_read() {
    let options = Options { files: "max_size = 1000".into(), ..Options::default() }.workers(0, 1, 1);
    let mut system = System::start(options).await;
    system.write("small", 1000);
    let file = system.api.prepare("small").await.expect(201).file_id();
    append(&system.source().join("small"));
    system.start_service(Role::Chunker, 0);
    let failed = system.api.until_state(&file, "failed").await;
    assert_eq!(failed["error"]["type"], "/problems/file-too-large", "{failed:#}");
    assert_eq!((&failed["attempts"], &failed["generation"]), (&json!(1), &json!(1)));
}

/// A system whose chunker needs seconds for a few MiB, because its connection to NATS is slow.
async fn slow_system() -> (System, harness::Proxy) {
    let options = Options { files: "chunk_size = 65536".into(), ..Options::default() };
    System::start_with_line(options, "chunker-0", Some(MIB)).await
}

async fn until_some_is_stored(system: &System, more_than: u64) {
    let chunks = system.stored().await.collection("chunks");
    let count = async || chunks.count_documents(doc! {}).await.unwrap();
    until("some of it is stored", async || (count().await > more_than).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_permissions_are_no_content() {
    let (system, _slow) = slow_system().await;
    system.write("touched", 4 * MIB);
    let file = system.api.prepare("touched").await.expect(201).file_id();
    until_some_is_stored(&system, 3).await;
    let touching = Restless::start(system.source().join("touched"), |path| {
        let link = path.with_extension("link");
        std::fs::hard_link(path, &link).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::remove_file(&link).unwrap();
    });
    let stored = system.api.until_state(&file, "stored").await;
    touching.stop().await;
    assert_eq!((&stored["generation"], &stored["failures"]), (&json!(1), &json!([])), "{stored:#}");
    assert_stored(&system, &file, "touched").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_are_noticed_even_if_the_time_is_set_back() {
    let (system, _slow) = slow_system().await;
    system.write("changed", 4 * MIB);
    let file = system.api.prepare("changed").await.expect(201).file_id();
    until_some_is_stored(&system, 3).await;
    let source = File::options().write(true).open(system.source().join("changed")).unwrap();
    let modified = source.metadata().unwrap().modified().unwrap();
    // The first chunk has been read.
    source.write_all_at(b"other", 0).unwrap();
    source.set_modified(modified).unwrap();
    let stored = assert_stored(&system, &file, "changed").await;
    assert_eq!(stored["generation"], 2, "{stored:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_not_read_before_it_has_stood_still() {
    let options = Options { files: "settle_seconds = 2".into(), ..Options::default() };
    let system = System::start(Options { attempts: 1, ..options }).await;
    system.write("settling", 1000);
    let growing = Restless::start(system.source().join("settling"), append);
    let file = system.api.prepare("settling").await.expect(201).file_id();
    let found = system.api.file(&file).await;
    assert!(found["state"] == "prepared" && found["not_before"].is_string(), "{found:#}");
    // More often than it may be attempted: to wait is no attempt.
    until_generation(&system, &file, 3).await;
    assert_eq!(system.stored().await.count("contents").await, 0, "nothing was read");
    growing.stop().await;
    let stored = assert_stored(&system, &file, "settling").await;
    assert_eq!(stored["failures"], json!([]));
}
