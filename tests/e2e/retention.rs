//! What is kept, for how long, and what becomes of what nobody wants.

use harness::{Options, System, until};
use serde_json::json;
use testing::JSON;

const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_finalises_fails_and_its_content_is_removed() {
    let system = System::start(Options::default()).await;
    let (file, content) = system.store("forgotten", 3 * MIB).await;
    let (other, _) = system.store("fresh", 3 * MIB).await;
    let stored = system.stored().await;
    // A week and a second.
    stored.set_ago(&file, "updated_at", 604_801_000).await;
    stored.set_ago(&file, "due_at", 1_000).await;
    let failed = system.api.until_state(&file, "failed").await;
    assert_eq!(failed["error"]["type"], "/problems/not-finalised", "{failed:#}");
    until("its content is removed", async || (stored.count("chunks").await == 3).then_some(())).await;

    let refused = system.api.finalise(&file, &content.sha256.to_string(), &json!({})).await;
    let problem = refused.assert_problem(409, "file-ended");
    assert!(problem["detail"].as_str().unwrap().contains("a finalise request within 604800 s"), "{problem}");
    assert_eq!(system.api.file(&other).await["state"], "stored");
    // It is read again if an operator wants it.
    crate::operator::waybill(&system, &["files", "requeue", &file]).await.expect(0);
    system.api.until_state(&file, "stored").await;
    system.api.finalise(&file, &content.sha256.to_string(), &json!({})).await.expect(202);
    system.api.until_state(&file, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_once_they_are_old() {
    let retention = "[retention]\ndelivered_seconds = 0\nrecord_seconds = 3600\n";
    let system = System::start(Options::default().toml(retention)).await;
    let content = system.write("old", MIB);
    let prepare = async || {
        let body = json!({ "file_path": "old" }).to_string();
        system.api.call("POST", "/upload/prepare", &[JSON, ("idempotency-key", "once")], body).await.expect(201)
    };
    let file = prepare().await.file_id();
    system.api.finalise(&file, &content.sha256.to_string(), &json!({})).await.expect(202);
    system.api.until_state(&file, "delivered").await;
    let stored = system.stored().await;
    until("it is done with", async || {
        let record = stored.document(&file).await;
        (record.contains_key("content_removed") && !record.contains_key("due_at") && !record.contains_key("outbox_at"))
            .then_some(())
    })
    .await;
    assert_eq!(prepare().await.file_id(), file, "its key is known as long as its record");

    stored.set_ago(&file, "updated_at", 3_601_000).await;
    let path = format!("/files/{file}");
    until("its record is deleted", async || (system.api.get(&path).await.status == 404).then_some(())).await;
    assert_eq!(stored.count("files").await + stored.count("contents").await, 0);
    assert_ne!(prepare().await.file_id(), file);
}
