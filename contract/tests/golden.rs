//! Messages of version 1, pinned. The files in `golden/` are what services of other releases send and expect: they are
//! never written again to make this test pass. A message that must change gets a new version and a new file.

use contract::{
    Cause, ChunkAnswer, ChunkHeader, ChunkNumber, ChunkReply, DeadLetter, Digest, Epoch, Event, EventKind,
    FailedAttempt, FileId, Generation, Hint, ObjectName, Receipt, ReceiptRemote, ReceiptSource, ReceiptVerdict,
    RemoteChecksum, RemoteProof, Role, SigningKey, State, Timestamp, canonical_json, check_receipt, read_json,
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
        ObjectName::new("größe.bin").unwrap(),
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

fn plain() -> Receipt {
    Receipt {
        file_id: file(),
        prepared_by: None,
        finalised_by: None,
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
            version: None,
            checksum: None,
            proof: "put".into(),
            proves: None,
        },
        bytes_sent: 3,
        attempts: 1,
        failures: Vec::new(),
        guarantee: "exactly-once".into(),
        begun_at: Timestamp::from_millis(1_700_000_000_000),
        delivered_at: Timestamp::from_millis(1_700_000_000_123),
        signature: None,
    }
}

#[test]
fn receipt_as_it_was_before_signatures() {
    let golden = include_str!("golden/receipt.v1.json");
    same(&serde_json::to_vec(&plain()).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Receipt>(golden).unwrap(), plain());
}

/// With every optional member, and names that are hard to write in JSON.
fn full() -> Receipt {
    let name = "größe \u{1f600}\u{fb33} \"\\\u{1}\n\u{7f}.bin";
    let receipt = plain();
    Receipt {
        source: ReceiptSource { path: format!("in/{name}"), name: name.into(), generation: Generation(2) },
        remote: ReceiptRemote {
            kind: "s3".into(),
            version: Some("3/L4kqtJlcpXroDTDmJ".into()),
            checksum: Some(RemoteChecksum {
                field: "x-amz-checksum-sha256".into(),
                value: "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".into(),
            }),
            proof: "checksum".into(),
            proves: Some(RemoteProof::Checksum.sentence().to_owned()),
            ..receipt.remote
        },
        attempts: 3,
        failures: vec![FailedAttempt {
            attempt: 1,
            at: Timestamp::from_millis(1_700_000_000_100),
            kind: "/problems/remote-unavailable".into(),
            detail: "PUT https://archive.example/in/a: answered 503 Service Unavailable".into(),
        }],
        ..receipt
    }
}

/// OpenSSL made the signature over the canonical form that Python's `json` wrote: nothing in them comes from this
/// crate.
#[test]
fn signed_receipt() {
    let golden = include_str!("golden/receipt_signed.v1.json");
    let key: SigningKey = include_str!("golden/receipt_key.pem").parse().unwrap();
    let mut receipt = full();
    let canonical = canonical_json(&serde_json::to_value(&receipt).unwrap()).unwrap();
    assert_eq!(canonical, include_str!("golden/receipt_signed.v1.canonical.json"));
    receipt.sign(&key).unwrap();
    same(&serde_json::to_vec(&receipt).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Receipt>(golden).unwrap(), receipt);
    let checks = check_receipt(&read_json(golden.as_bytes()).unwrap(), &[key.public()]);
    assert!(checks.iter().all(|check| check.verdict == ReceiptVerdict::Holds), "{checks:#?}");
    // Signed again, it is the same.
    let before = receipt.clone();
    receipt.sign(&key).unwrap();
    assert_eq!(receipt, before);
}

#[test]
fn other_versions_are_refused() {
    let golden = include_str!("golden/hint.v1.json").replace("\"v\": 1", "\"v\": 2");
    assert!(Hint::from_json(golden.as_bytes()).unwrap_err().to_string().contains("version 2"));
    assert!(Hint::from_json(b"{").is_err());
    assert!(Hint::from_json(b"{\"v\":1}").is_err());
}
