//! What the store answers to one chunk, and what it stores of it.

use contract::{ChunkAnswer, ChunkReply, Digest, FileId};
use testing::bytes;

use crate::stage::{BOTH, KIB_64, Kept, Stage, assert_refused, chunks_of, header, headers};

const SIZE: usize = 3 * KIB_64 as usize - 7;

fn ok() -> ChunkReply {
    ChunkReply::new(ChunkAnswer::Ok)
}

#[tokio::test]
async fn a_chunk_is_stored_when_ok_arrives() {
    let stage = Stage::set().await;
    for (kept, size) in [(Kept::Children, SIZE), (Kept::Embedded, SIZE), (Kept::Embedded, 5), (Kept::Children, 5)] {
        let held = stage.chunking(size, kept).await;
        let content = bytes(size, 1);
        let before = stage.kept().await.len();
        for (number, (header, data)) in chunks_of(&held.file, &content).into_iter().enumerate() {
            assert_eq!(stage.put(&header, &data).await, ok());
            assert_eq!(stage.kept().await.len(), before + number + 1, "{kept:?}, {size} bytes, chunk {number}");
        }
        assert_eq!(stage.stored(&held.file).await.concat(), content);
    }
}

#[tokio::test]
async fn a_chunk_sent_again_is_a_duplicate() {
    let stage = Stage::set().await;
    for (kept, size) in [(Kept::Children, SIZE), (Kept::Embedded, SIZE), (Kept::Embedded, 5)] {
        let held = stage.chunking(size, kept).await;
        let all = chunks_of(&held.file, &bytes(size, 1));
        assert_eq!(stage.put_at_once(&all).await, vec![ChunkAnswer::Ok; all.len()]);
        let before = stage.kept().await;
        for (header, data) in &all {
            assert_eq!(
                stage.put(header, data).await,
                ChunkReply::new(ChunkAnswer::Duplicate),
                "{kept:?}, {size} bytes"
            );
        }
        assert_eq!(stage.kept().await, before);
    }
}

#[tokio::test]
async fn other_bytes_for_a_known_number_are_a_conflict() {
    let stage = Stage::set().await;
    for (kept, size) in [(Kept::Children, SIZE), (Kept::Embedded, SIZE), (Kept::Embedded, 5)] {
        let held = stage.chunking(size, kept).await;
        let content = bytes(size, 1);
        let first = &chunks_of(&held.file, &content)[0];
        assert_eq!(stage.put(&first.0, &first.1).await, ok());
        let (other, data) = &chunks_of(&held.file, &bytes(size, 2))[0];
        let refused = stage.put(other, data).await;
        assert_refused(&refused, ChunkAnswer::Conflict, &format!("{} bytes", first.1.len()));
        assert_refused(&refused, ChunkAnswer::Conflict, &first.0.sha256.to_string());
        assert_eq!(stage.stored(&held.file).await, std::slice::from_ref(&first.1));
    }
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_its_headers_or_its_file_is_corrupt() {
    let stage = Stage::set().await;
    for kept in BOTH {
        let held = stage.chunking(SIZE, kept).await;
        let content = bytes(SIZE, 1);
        let all = chunks_of(&held.file, &content);
        let (first, last) = (&all[0], &all[2]);
        let before = stage.kept().await;

        let mut flipped = first.1.clone();
        flipped[100] ^= 1;
        let refused = stage.put(&first.0, &flipped).await;
        assert_refused(&refused, ChunkAnswer::Corrupt, &first.0.sha256.to_string());
        assert_refused(&refused, ChunkAnswer::Corrupt, &Digest::of(&flipped).to_string());

        let full = first.1.len();
        let lengths = [(0, full - 1), (0, full + 1), (0, 0), (2, last.1.len() - 1), (2, last.1.len() + 1), (2, full)];
        for (number, len) in lengths {
            let data = bytes(len, 3);
            let refused = stage.put(&header(&held.file, number, &data), &data).await;
            assert_refused(
                &refused,
                ChunkAnswer::Corrupt,
                &format!("{} bytes, found {len}", all[number as usize].1.len()),
            );
        }
        for number in [3, 4, u32::MAX] {
            let refused = stage.put(&header(&held.file, number, &first.1), &first.1).await;
            assert_refused(&refused, ChunkAnswer::Corrupt, &format!("below 3, found {number}"));
        }
        assert_eq!(stage.kept().await, before);
        // The right chunks are taken as if nothing had happened.
        assert_eq!(stage.put_at_once(&all).await, [ChunkAnswer::Ok; 3]);
        assert_eq!(stage.stored(&held.file).await.concat(), content);
    }
}

#[tokio::test]
async fn an_empty_file_has_no_chunks() {
    let stage = Stage::set().await;
    for kept in BOTH {
        let held = stage.chunking(0, kept).await;
        let refused = stage.put(&header(&held.file, 0, b""), b"").await;
        assert_refused(&refused, ChunkAnswer::Corrupt, "below 0, found 0");
        assert!(stage.kept().await.is_empty());
    }
}

#[tokio::test]
async fn a_header_that_is_missing_or_garbled_makes_a_chunk_corrupt() {
    let stage = Stage::set().await;
    let held = stage.chunking(5, Kept::Embedded).await;
    let (right, data) = chunks_of(&held.file, b"abcde").remove(0);
    for (name, _) in right.to_pairs() {
        let mut without = async_nats::HeaderMap::new();
        for (other, value) in right.to_pairs().iter().filter(|(other, _)| *other != name) {
            without.insert(*other, value.as_str());
        }
        assert_refused(&stage.put_raw(without, &data).await, ChunkAnswer::Corrupt, &format!("header {name}"));

        for garbled in ["", "-1", "x", "1.5", "18446744073709551616", "0190F3C2-7B1E-7A10-9F2E-5D1C0C9F6B11"] {
            // A negative epoch can be read, but is that of no claim.
            if (name, garbled) == ("Waybill-Epoch", "-1") {
                continue;
            }
            let mut headers = headers(&right);
            headers.insert(name, garbled);
            assert_refused(&stage.put_raw(headers, &data).await, ChunkAnswer::Corrupt, name);
        }
    }
    let none = async_nats::HeaderMap::new();
    assert_refused(&stage.put_raw(none, &data).await, ChunkAnswer::Corrupt, "header Waybill-Version");
    for version in ["0", "2", "255"] {
        let mut headers = headers(&right);
        headers.insert("Waybill-Version", version);
        assert_refused(&stage.put_raw(headers, &data).await, ChunkAnswer::Corrupt, "Waybill-Version");
    }
    assert!(stage.kept().await.is_empty());
    assert_eq!(stage.put(&right, &data).await, ok());
}

#[tokio::test]
async fn a_chunk_of_an_unknown_file_is_refused() {
    let stage = Stage::set().await;
    let held = stage.chunking(5, Kept::Embedded).await;
    let (right, data) = chunks_of(&held.file, b"abcde").remove(0);
    let unknown = FileId::generate();
    let refused = stage.put(&contract::ChunkHeader { file_id: unknown, ..right }, &data).await;
    assert_refused(&refused, ChunkAnswer::UnknownFile, &unknown.to_string());
    assert!(stage.kept().await.is_empty());
}

#[tokio::test]
async fn a_chunk_without_its_content_document_is_stale() {
    let stage = Stage::set().await;
    let file = stage.prepared(SIZE).await;
    // As `claim`, without opening the content.
    let request = ledger::ClaimRequest { file, worker: "w", lease: std::time::Duration::from_secs(60) };
    let opening = ledger::GenerationOptions { chunk_size: KIB_64, embed_limit: 1 << 20 };
    stage.service.ledger.claim_chunking(&request, opening).await.unwrap();
    let record = stage.service.ledger.file(file).await.unwrap().unwrap();
    let all = chunks_of(&record, &bytes(SIZE, 1));
    assert_refused(&stage.put(&all[0].0, &all[0].1).await, ChunkAnswer::Stale, "found none");
    assert!(stage.kept().await.is_empty());
    stage.open_content(&record).await;
    assert_eq!(stage.put(&all[0].0, &all[0].1).await, ok());
}
