//! More chunks than can be taken in, chunks nobody waits for, a database that is down, and a store that stops.

use std::time::Duration;

use contract::{ChunkAnswer, ChunkHeader, Digest};
use futures_util::StreamExt;
use servers::{Mongo, MongoOptions};
use settings::Secret;
use testing::{DEADLINE, MIB, bytes, own_mongo, until};

use crate::stage::{KIB_64, Kept, Stage, assert_refused, chunks_of, headers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_beyond_the_limit_are_taken_when_sent_again() {
    // Room for one chunk at a time.
    let stage = Stage::set_with(|settings| settings.store.in_flight_bytes = 4 * MIB).await;
    for kept in [Kept::Children, Kept::Embedded] {
        let size = 3 * 4 * MIB as usize;
        let file = stage.prepared(size).await;
        let held = stage.claim(file, kept, 4 * MIB).await;
        let content = bytes(size, 1);
        let mut left = chunks_of(&held.file, &content);
        let mut busy = 0;
        while !left.is_empty() {
            let answers = stage.put_at_once(&left).await;
            let mut again = Vec::new();
            for (chunk, answer) in left.into_iter().zip(answers) {
                match answer {
                    ChunkAnswer::Ok => {}
                    ChunkAnswer::Busy => again.push(chunk),
                    other => panic!("chunk {}: {other:?}", chunk.0.number),
                }
            }
            busy += again.len();
            left = again;
        }
        assert!(busy > 0, "{kept:?}: three chunks found room where there is room for one");
        let stored = stage.stored(&held.file).await;
        assert!(stored.concat() == content, "{kept:?}: what was stored is not what was sent");
    }
}

#[tokio::test]
async fn a_chunk_nobody_waits_for_is_neither_written_nor_answered() {
    let stage = Stage::set().await;
    let inbox = stage.client.new_inbox();
    let mut answers = stage.client.subscribe(inbox.clone()).await.unwrap();
    for kept in [Kept::Children, Kept::Embedded] {
        let held = stage.chunking(5, kept).await;
        let (chunk, data) = chunks_of(&held.file, b"abcde").remove(0);
        let late = headers(&ChunkHeader { budget_ms: 0, ..chunk });
        let subject = stage.service.names.chunk_put();
        stage.client.publish_with_reply_and_headers(subject, inbox.clone(), late, data.into()).await.unwrap();
    }
    // A store that has stopped is done with every chunk that came before.
    assert_refused(&stage.put_raw(async_nats::HeaderMap::new(), b"").await, ChunkAnswer::Corrupt, "header");
    stage.service.life.stop();
    stage.service.life.ended().await.unwrap();
    // Its answers are on their way through the server by now; nothing tells when they have arrived.
    let answered = tokio::time::timeout(Duration::from_millis(300), answers.next()).await;
    assert!(answered.is_err(), "an answer came: {answered:?}");
    assert!(stage.kept().await.is_empty());
}

/// As many chunks as a chunker has in flight for a file.
const WINDOW: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_share_the_chunks() {
    let stage = Stage::set().await;
    let other = stage.another_store().await;
    stage.until_stores_answer(2).await;
    let size = 40 * KIB_64 as usize;
    let held = stage.chunking(size, Kept::Children).await;
    let content = bytes(size, 1);
    let all = chunks_of(&held.file, &content);
    for window in all.chunks(WINDOW) {
        let answers = stage.put_at_once(window).await;
        assert_eq!(answers, vec![ChunkAnswer::Ok; window.len()], "each is taken by one of them");
    }
    assert_eq!(stage.stored(&held.file).await.concat(), content);
    // A store counts a chunk a moment after it has answered.
    let answered = until("all are counted", async || {
        Some(stage.answered(2).await).filter(|counts| counts.values().sum::<u64>() == 40)
    })
    .await;
    assert!(answered.values().all(|count| *count > 0), "{answered:?}");

    // The other goes on alone.
    other.life.stop();
    other.life.ended().await.unwrap();
    stage.until_all_is_answered().await;
    for window in all.chunks(WINDOW) {
        assert_eq!(stage.put_at_once(window).await, vec![ChunkAnswer::Duplicate; window.len()]);
    }
}

#[tokio::test]
async fn the_services_api_counts_what_was_answered() {
    let stage = Stage::set().await;
    let held = stage.chunking(5, Kept::Embedded).await;
    let (chunk, data) = chunks_of(&held.file, b"abcde").remove(0);
    for (sent, header) in [(1, chunk), (2, chunk), (3, ChunkHeader { sha256: Digest::of_nothing(), ..chunk })] {
        stage.put(&header, &data).await;
        let counted = async || Some(stage.answered(1).await).filter(|counts| counts.values().eq([&sent]));
        until("it is counted", counted).await;
    }
    let endpoint = stage.stats(1).await.into_values().next().unwrap();
    assert_eq!(endpoint["subject"], stage.service.names.chunk_put());
    assert_eq!(endpoint["queue_group"], "store");
}

/// Whether a chunk was taken. A status means that NATS found no store any more.
fn is_ok(message: &async_nats::Message) -> bool {
    message.status.is_none() && contract::ChunkReply::from_json(&message.payload).unwrap().answer == ChunkAnswer::Ok
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_answers_what_it_took_in() {
    let stage = Stage::set().await;
    // One document takes them one after the other.
    let size = 64 * KIB_64 as usize;
    let held = stage.chunking(size, Kept::Embedded).await;
    let all = chunks_of(&held.file, &bytes(size, 1));
    let inbox = stage.client.new_inbox();
    let mut answers = stage.client.subscribe(format!("{inbox}.*")).await.unwrap();
    for (chunk, data) in &all {
        let (reply, subject) = (format!("{inbox}.{}", chunk.number), stage.service.names.chunk_put());
        let headers = headers(chunk);
        stage.client.publish_with_reply_and_headers(subject, reply, headers, data.clone().into()).await.unwrap();
    }
    stage.client.flush().await.unwrap();
    let first = answers.next().await.unwrap();
    stage.service.life.stop();
    stage.service.life.ended().await.unwrap();

    // Nothing more is written, and exactly the chunks that were written are answered `ok`.
    let kept = stage.kept().await.len();
    let mut accepted = usize::from(is_ok(&first));
    while accepted < kept {
        let answer = tokio::time::timeout(DEADLINE, answers.next()).await;
        let answer = answer.unwrap_or_else(|_| panic!("{kept} chunks were written, {accepted} of them answered"));
        accepted += usize::from(is_ok(&answer.unwrap()));
    }
    assert_eq!((accepted, stage.kept().await.len()), (kept, kept));

    let request = async_nats::Request::new().headers(headers(&all[0].0)).payload(all[0].1.clone().into());
    let nobody = stage.client.send_request(stage.service.names.chunk_put(), request).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn without_mongodb_chunks_are_answered_busy() {
    let mongo = own_mongo().await;
    let stage = Stage::set_with(|settings| {
        settings.mongodb.uri = Secret::new(mongo.uri());
        settings.mongodb.server_selection_timeout_ms = 200;
        settings.mongodb.operation_timeout_ms = 1_000;
    })
    .await;
    let size = 2 * KIB_64 as usize;
    let held = stage.chunking(size, Kept::Children).await;
    let content = bytes(size, 1);
    let all = chunks_of(&held.file, &content);
    assert_eq!(stage.put(&all[0].0, &all[0].1).await.answer, ChunkAnswer::Ok);

    let options = MongoOptions { port: Some(mongo.port()), ..mongo.options().clone() };
    mongo.kill().await.unwrap();
    for (chunk, data) in &all {
        assert_refused(&stage.put(chunk, data).await, ChunkAnswer::Busy, "MongoDB");
    }
    let _mongo = Mongo::start(options).await.unwrap();
    until("it is taken", async || {
        let answers = [stage.put(&all[0].0, &all[0].1).await.answer, stage.put(&all[1].0, &all[1].1).await.answer];
        let taken = [ChunkAnswer::Ok, ChunkAnswer::Duplicate];
        (answers[0] == ChunkAnswer::Duplicate && taken.contains(&answers[1])).then_some(())
    })
    .await;
    assert_eq!(stage.stored(&held.file).await.concat(), content);
}

#[tokio::test]
async fn below_the_floor_of_free_space_chunks_wait_and_nothing_is_written() {
    let stage = Stage::set_with(|settings| settings.store.free_space_floor = 1 << 50).await;
    for kept in [Kept::Children, Kept::Embedded] {
        let held = stage.chunking(5, kept).await;
        let before = stage.kept().await;
        let (chunk, data) = chunks_of(&held.file, b"abcde").remove(0);
        assert_refused(&stage.put(&chunk, &data).await, ChunkAnswer::Busy, "store.free_space_floor");
        assert_eq!(stage.kept().await, before);
    }
}
