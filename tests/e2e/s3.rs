//! A bucket on a server that others wrote: parts, and how a finaliser goes on after one that died.

use contract::Role;
use harness::{Options, System, until};
use mongodb::bson::doc;
use serde_json::json;
use servers::Seaweed;
use testing::flip;

use crate::kinds::{Bucket, Place, Trouble};
use crate::operator::waybill;
use crate::remotes::assert_error;

const MIB: u64 = 1024 * 1024;

/// A plain system with the bucket as the remote `bucket`.
fn options(bucket: &Bucket) -> Options {
    let section = bucket.section(bucket.server());
    Options { toml: format!("[remotes.bucket]\n{section}in_flight_bytes = {}\n", 16 * MIB), ..Options::default() }
}

/// How many parts of an upload are recorded; `None` where there is no upload.
async fn parts(system: &System, name: &str) -> Option<usize> {
    let files = system.stored().await.files();
    let record = files.find_one(doc! { "name": name }).await.unwrap()?;
    let upload = record.get_document("delivery").ok()?.get_document("upload").ok()?;
    Some(upload.get_array("parts").unwrap().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_large_files_arrive_in_a_bucket() {
    let bucket = Bucket::new().await;
    let system = System::start(options(&bucket)).await;
    for (name, size, proofs) in [
        ("empty", 0, ["put", "checksum"]),
        ("small", 70_000, ["put", "checksum"]),
        ("large", 20 * MIB + 3, ["parts", "checksum"]),
    ] {
        let (file, content) = system.send(name, size, "bucket").await;
        let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
        assert_eq!(bucket.object(name), Some((content.size, content.sha256)));
        assert_eq!((&receipt["bytes_sent"], &receipt["remote"]["kind"]), (&json!(size), &json!("s3")));
        assert!(proofs.contains(&receipt["remote"]["proof"].as_str().unwrap()), "{receipt}");
        assert!(receipt["remote"]["etag"].is_string());
        assert!(!receipt.to_string().contains(Seaweed::SECRET_KEY));
        assert_eq!(parts(&system, name).await, None);
    }
    // The name is taken.
    let (file, _) = system.send("small", 1000, "bucket").await;
    assert_error(&system.api.until_state(&file, "failed").await, "remote-clash", "/small");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_finaliser_sends_only_the_parts_that_are_missing() {
    const SIZE: u64 = 96 * MIB + 11;
    let bucket = Bucket::new().await;
    let mut system = System::start(Options { work: "lease_ms = 2000".into(), ..options(&bucket) }).await;
    let (file, content) = system.send("large", SIZE, "bucket").await;
    let mut least = 0;
    for number in 0..2 {
        let wanted = least + 3;
        until("some parts are there", async || (parts(&system, "large").await >= Some(wanted)).then_some(())).await;
        let finaliser = format!("finaliser-{number}");
        system.process(&finaliser).kill();
        least = parts(&system, "large").await.expect("it was killed too late");
        assert_eq!(bucket.object("large"), None, "nothing is visible before the end");
        system.start_service(Role::Finaliser, number + 1);
    }
    let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
    assert_eq!(bucket.object("large"), Some((content.size, content.sha256)));
    assert_eq!(receipt["attempts"], 3);
    assert_eq!(receipt["bytes_sent"], SIZE - least as u64 * 8 * MIB, "{least} parts were there");
    assert_eq!(receipt["guarantee"], "exactly-once");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_wrong_content_are_given_back() {
    let bucket = Bucket::new().await;
    let system = System::start(options(&bucket)).await;
    let (file, content) = system.store("damaged", 33 * MIB).await;
    system.stored().await.change_chunk(&file, 30, flip).await;
    let body = json!({ "remote": "bucket" });
    system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
    let failed = system.api.until_state(&file, "failed").await;
    assert_error(&failed, "content-wrong", "because of the chunks 30");
    assert_eq!(bucket.object("damaged"), None);
    assert_eq!(parts(&system, "damaged").await, None, "the upload is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_could_not_be_aborted_is_aborted_later() {
    let bucket = Bucket::new().await;
    let mut system = System::start(Options { work: "lease_ms = 2000".into(), ..options(&bucket) }).await;
    let (file, content) = system.send("large", 96 * MIB, "bucket").await;
    until("some parts are there", async || (parts(&system, "large").await >= Some(3)).then_some(())).await;
    bucket.trouble(Trouble::Expired, true).unwrap();
    let failed = system.api.until_state(&file, "failed").await;
    assert_error(&failed, "remote-refused", "403");
    assert!(parts(&system, "large").await >= Some(3), "nobody forgets what is still there");

    bucket.trouble(Trouble::Expired, false).unwrap();
    until("the upload is aborted", async || parts(&system, "large").await.is_none().then_some(())).await;
    until("it is told", async || {
        let log = system.process("finaliser-0").log();
        log.contains("aborted the upload of a file that has ended").then_some(())
    })
    .await;
    // All of it is sent again.
    waybill(&system, &["files", "requeue", &file]).await.expect(0);
    let receipt = &system.api.until_state(&file, "delivered").await["receipt"];
    assert_eq!(
        (bucket.object("large"), &receipt["bytes_sent"]),
        (Some((content.size, content.sha256)), &json!(96 * MIB))
    );
}
