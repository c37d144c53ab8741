//! Messages of version 1, pinned. The files in `golden/` are what services of other releases send and expect: they are never
//! written again to make this test pass. A message that must change gets a new version and a new file.

use contract::{
    Cause, ChunkAnswer, ChunkHeader, ChunkNumber, ChunkReply, DeadLetter, Digest, Epoch, Event, EventKind, FileId,
    Generation, Hint, ObjectName, Receipt, ReceiptRemote, ReceiptSource, Role, State, Timestamp,
};
use serde_json::{Value, json};

const FILE: &str = "0190f3c2-7b1e-7a10-9f2e-5d1c0c9f6b11";

fn file() -> FileId {
    FILE.parse().unwrap()
}

fn same(written: &[u8], golden: &str) {
    let written: Value = serde_json::from_slice(written).unwrap();
    let golden: Value = serde_json::from_str(golden).unwrap();
    assert_eq!(written, golden);
}

#[test]
fn hint() {
    let golden = include_str!("golden/hint.v1.json");
    let hint = Hint::new(file(), Cause::Request);
    same(&hint.to_json(), golden);
    assert_eq!(Hint::from_json(golden.as_bytes()).unwrap(), hint);
}

#[test]
fn event() {
    let golden = include_str!("golden/event.v1.json");
    let event = Event::new(
        file(),
        3,
        EventKind::Stored,
        State::Stored,
        Timestamp::from_millis(1_700_000_000_123),
        "größe.bin".into(),
        json!({"size": 3, "sha256": Digest::of(b"abc")}),
    );
    same(&event.to_json(), golden);
    assert_eq!(Event::from_json(golden.as_bytes()).unwrap(), event);
}

#[test]
fn dead_letter() {
    let golden = include_str!("golden/dead_letter.v1.json");
    let letter = DeadLetter::new(Role::Chunker, "waybill.prepare.x", "no JSON", b"\"?");
    same(&letter.to_json(), golden);
    assert_eq!(DeadLetter::from_json(golden.as_bytes()).unwrap(), letter);
}

#[test]
fn chunk_reply() {
    let golden = include_str!("golden/chunk_reply.v1.json");
    let reply = ChunkReply::because(ChunkAnswer::UnknownFile, "no such file");
    same(&reply.to_json(), golden);
    assert_eq!(ChunkReply::from_json(golden.as_bytes()).unwrap(), reply);
}

#[test]
fn chunk_header() {
    let golden: std::collections::BTreeMap<String, String> =
        serde_json::from_str(include_str!("golden/chunk_header.v1.json")).unwrap();
    let header = ChunkHeader {
        file_id: file(),
        generation: Generation(1),
        epoch: Epoch(2),
        number: ChunkNumber(3),
        sha256: Digest::of(b"abc"),
        budget_ms: 4000,
    };
    let written = header.to_pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(golden, written);
    assert_eq!(ChunkHeader::from_lookup(|name| golden.get(name).map(String::as_str)).unwrap(), header);
    for missing in golden.keys() {
        let read = ChunkHeader::from_lookup(|name| (name != missing).then(|| golden[name].as_str()));
        assert!(read.unwrap_err().to_string().contains(missing));
        let read = ChunkHeader::from_lookup(|name| Some(if name == missing { "?" } else { golden[name].as_str() }));
        assert!(read.unwrap_err().to_string().contains(missing));
    }
}

#[test]
fn receipt() {
    let golden = include_str!("golden/receipt.v1.json");
    let receipt = Receipt {
        file_id: file(),
        source: ReceiptSource { path: "in/größe.bin".into(), name: "größe.bin".into(), generation: Generation(1) },
        sha256: Digest::of(b"abc"),
        size: 3,
        chunks: 1,
        chunk_size: 1 << 20,
        remote: ReceiptRemote {
            name: "archive".into(),
            kind: "http".into(),
            address: "https://archive.example/in/a".into(),
            object: ObjectName::new("a").unwrap().into(),
            status: Some(201),
            etag: Some("\"1\"".into()),
            proof: "put".into(),
        },
        bytes_sent: 3,
        attempts: 1,
        guarantee: "exactly-once".into(),
        begun_at: Timestamp::from_millis(1_700_000_000_000),
        delivered_at: Timestamp::from_millis(1_700_000_000_123),
    };
    same(&serde_json::to_vec(&receipt).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Receipt>(golden).unwrap(), receipt);
}

#[test]
fn other_versions_are_refused() {
    let golden = include_str!("golden/hint.v1.json").replace("\"v\": 1", "\"v\": 2");
    assert!(Hint::from_json(golden.as_bytes()).unwrap_err().to_string().contains("version 2"));
    assert!(Hint::from_json(b"{").is_err());
    assert!(Hint::from_json(b"{\"v\":1}").is_err());
}
