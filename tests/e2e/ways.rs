//! Files of all sizes and names arrive complete.

use harness::{Options, System};
use serde_json::json;

const MIB: u64 = 1024 * 1024;

/// Sends a file and compares what arrives. Returns the file as the gateway shows it.
async fn send(system: &System, name: &str, size: u64) -> serde_json::Value {
    let content = system.write(name, size);
    let file = system.api.prepare(name).await.expect(201).file_id();
    let chunks = size.div_ceil(MIB);
    let body = json!({ "fileSize": size, "chunks": chunks });
    system.api.finalise(&file, &content.sha256.to_string(), &body).await.expect(202);
    let file = system.api.until_state(&file, "delivered").await;
    system.assert_arrived(name, name);
    let receipt = &file["receipt"];
    assert_eq!(receipt["sha256"], json!(content.sha256));
    assert_eq!(receipt["size"], json!(size));
    assert_eq!(file["chunks"]["stored"], file["chunks"]["total"]);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_around_every_edge_arrive_whole() {
    let system = System::start(Options::default()).await;
    let embed_limit = 2 * MIB;
    for size in [0, 1, MIB - 1, MIB, MIB + 1, embed_limit, embed_limit + 1, 16 * MIB + 1] {
        let file = send(&system, &format!("size-{size}"), size).await;
        assert_eq!(file["chunks"]["total"], json!(size.div_ceil(MIB)));
    }
    let stored = system.stored().await;
    // 2 MiB and 1, and 16 MiB and 1, have children: 3 and 17. The others but the empty one have a document each.
    assert_eq!(stored.count("chunks").await, 3 + 17);
    assert_eq!(stored.count("contents").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_mebibytes_arrive_whole() {
    let system = System::start(Options::default()).await;
    send(&system, "large", 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_mebibytes_fit_into_one_document() {
    let options = Options { files: format!("embed_limit = {}", 15 * MIB), ..Options::default() };
    let system = System::start(options).await;
    send(&system, "embedded", 15 * MIB).await;
    send(&system, "one more", 15 * MIB + 1).await;
    assert_eq!(system.stored().await.count("chunks").await, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_chunk_sizes_work_too() {
    for chunk_size in [64 * 1024, 4 * MIB] {
        let options = Options { files: format!("chunk_size = {chunk_size}"), ..Options::default() };
        // The shared nats-server accepts messages of 4 MiB; see the crate servers.
        let system = System::start(options).await;
        let file = send(&system, "odd", 9 * MIB + 5).await;
        assert_eq!(file["chunks"]["total"], json!((9 * MIB + 5).div_ceil(chunk_size)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_arrive_unchanged() {
    let system = System::start(Options::default()).await;
    for name in
        ["with space", "\"quoted\" and 'single'", "new\nline", "größe-名前.bin", "..hidden", "a%2fb", "$where", "-rf"]
    {
        send(&system, name, 1000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_each_share_fifty_files_and_deliver_each_once() {
    let sink = harness::Sink::start().await;
    let system = System::start(Options::with_sink(&sink.url()).workers(2, 2, 2)).await;
    let mut files = Vec::new();
    for number in 0..50_usize {
        let size = [0, 1, 10_000, MIB, MIB + 1, 3 * MIB, 9 * MIB + 7][number % 7] + number as u64 % 3;
        let name = format!("file-{number}");
        let content = system.write(&name, size);
        let file = system.api.prepare(&name).await.expect(201).file_id();
        system.api.finalise(&file, &content.sha256.to_string(), &json!({ "remote": "sink" })).await.expect(202);
        files.push((file, name, content));
    }
    for (file, name, content) in &files {
        system.api.until_state(file, "delivered").await;
        assert_eq!(sink.object(&format!("/in/{name}")), Some((content.size, content.sha256)));
    }
    let puts = sink.puts();
    assert_eq!(puts.len(), files.len(), "one PUT for each file, no more");
    for put in &puts {
        assert_eq!(put.headers.get("if-none-match").map(String::as_str), Some("*"));
        assert_eq!(put.headers.get("repr-digest"), Some(&put.sha256.to_repr_digest()));
        assert_eq!(put.headers.get("content-length"), Some(&put.bytes.to_string()));
    }
}
