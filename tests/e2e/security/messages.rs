//! Messages on NATS are not believed: what a file becomes is what MongoDB has.

use std::time::Duration;

use contract::{ChunkAnswer, ChunkHeader, ChunkNumber, ChunkReply, Digest, Epoch, Generation, Role};
use futures_util::StreamExt;
use harness::{Options, System, until};
use serde_json::{Value, json};
use testing::{DEADLINE, MIB};
use tokio::task::JoinHandle;

const SIZE: u64 = 20 * MIB as u64;

/// With short leases: a file that was handed back is taken up again after a quarter of one.
fn options() -> Options {
    Options { work: "lease_ms = 2000".into(), ..Options::default() }
}

/// Answers chunks among the stores, `times` times. Whatever it gets, it keeps nothing.
async fn false_store(system: &System, answer: ChunkAnswer, times: usize) -> JoinHandle<()> {
    let nats = system.nats().await;
    let mut chunks = nats.queue_subscribe(system.names.chunk_put(), "store".into()).await.unwrap();
    nats.flush().await.unwrap();
    tokio::spawn(async move {
        for _ in 0..times {
            let Some(chunk) = chunks.next().await else { return };
            let reply = ChunkReply::because(answer, "says a stranger").to_json();
            nats.publish(chunk.reply.unwrap(), reply.into()).await.unwrap();
        }
        chunks.unsubscribe().await.unwrap();
    })
}

async fn finalised(system: &System, file: &str, name: &str, sha256: Digest) -> Value {
    system.api.finalise(file, &sha256.to_string(), &json!({})).await.expect(202);
    let delivered = system.api.until_state(file, "delivered").await;
    system.assert_arrived(name, name);
    delivered
}

#[tokio::test]
async fn a_false_store_that_takes_every_chunk_makes_no_file_stored() {
    let system = System::start(options()).await;
    let stranger = false_store(&system, ChunkAnswer::Ok, usize::MAX).await;
    let (file, content) = system.store("believed.bin", SIZE).await;
    assert_eq!(system.stored().await.count("chunks").await, SIZE / MIB as u64);
    let (small, whole) = system.store("small.bin", 3 * MIB as u64 / 2).await;
    stranger.abort();
    finalised(&system, &file, "believed.bin", content.sha256).await;
    finalised(&system, &small, "small.bin", whole.sha256).await;
}

#[tokio::test]
async fn a_false_store_that_refuses_every_chunk_costs_a_file_neither_its_reading_nor_an_attempt() {
    for answer in [ChunkAnswer::Conflict, ChunkAnswer::Stale, ChunkAnswer::UnknownFile] {
        let system = System::start(options()).await;
        let stranger = false_store(&system, answer, 6).await;
        let (file, content) = system.store("refused.bin", SIZE).await;
        tokio::time::timeout(DEADLINE, stranger).await.unwrap().unwrap();
        let record = system.stored().await.document(&file).await;
        assert_eq!(record.get_i64("generation").unwrap(), i64::from(Generation::FIRST.0), "{answer:?}");
        let attempts = record.get_document("attempts").unwrap();
        assert_eq!(
            attempts.get_i32("chunking").map(i64::from).or(attempts.get_i64("chunking")).unwrap(),
            1,
            "{answer:?}"
        );
        finalised(&system, &file, "refused.bin", content.sha256).await;
    }
}

/// Sends a chunk as a chunker would, with bytes that are not of the source.
async fn forge(nats: &async_nats::Client, system: &System, file: &str, generation: u32, epoch: i64) -> ChunkAnswer {
    let bytes = vec![0; MIB as usize];
    let header = ChunkHeader {
        file_id: file.parse().unwrap(),
        generation: Generation(generation),
        epoch: Epoch(epoch),
        number: ChunkNumber(19),
        sha256: Digest::of(&bytes),
        budget_ms: 10_000,
    };
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in header.to_pairs() {
        headers.insert(name, value.as_str());
    }
    let request = async_nats::Request::new().headers(headers).payload(bytes.into());
    let request = request.timeout(Some(Duration::from_secs(10)));
    let answer = nats.send_request(system.names.chunk_put(), request).await.unwrap();
    ChunkReply::from_json(&answer.payload).unwrap().answer
}

#[tokio::test]
async fn forged_chunks_with_the_true_epoch_fail_no_file() {
    // 2 MiB/s: the last chunk is forged before the true one is sent.
    let (system, line) = System::start_with_line(options(), "chunker", Some(2 * MIB as u64)).await;
    let nats = system.nats().await;
    let content = system.write("forged.bin", SIZE);
    let file = system.api.prepare("forged.bin").await.expect(201).file_id();
    for round in 0..3 {
        until("the file is read", async || {
            let record = system.stored().await.document(&file).await;
            let generation = u32::try_from(record.get_i64("generation").unwrap()).unwrap();
            let is_read =
                record.get_str("state").is_ok_and(|state| state == "chunking") && record.contains_key("lease");
            (is_read && generation == Generation::FIRST.0 + round).then_some(())
        })
        .await;
        let record = system.stored().await.document(&file).await;
        let epoch = record.get_i64("epoch").unwrap();
        assert_eq!(forge(&nats, &system, &file, Generation::FIRST.0 + round, epoch).await, ChunkAnswer::Ok);
    }
    line.pace(None);
    system.api.until_state(&file, "stored").await;
    finalised(&system, &file, "forged.bin", content.sha256).await;
}

#[tokio::test]
async fn events_are_published_even_if_a_stranger_has_used_their_ids() {
    let mut system = System::start(options().workers(0, 1, 1)).await;
    system.write("guessed.bin", 3);
    let file = system.api.prepare("guessed.bin").await.expect(201).file_id();
    let nats = system.nats().await;
    for version in 1..9 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{file}:{version}"));
        let subject = system.names.event(file.parse().unwrap(), contract::EventKind::Failed);
        let guess = async_nats::Request::new().headers(headers).payload("{}".into());
        nats.send_request(subject, guess).await.unwrap();
    }
    system.start_service(Role::Chunker, 0);
    system.api.until_state(&file, "stored").await;
    until("all events are in the stream", async || {
        let all = testing::messages(&nats, &system.names.events_stream()).await.unwrap();
        let mut events: Vec<String> = all
            .iter()
            .filter_map(|message| contract::Event::from_json(&message.payload).ok())
            .filter(|event| event.file_id.to_string() == file)
            .map(|event| event.event.to_string())
            .collect();
        events.dedup();
        (events == ["prepared", "chunking", "stored"]).then_some(())
    })
    .await;
}
