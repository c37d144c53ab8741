use std::collections::BTreeMap;

use contract::{FileId, ObjectName, Receipt, ReceiptRemote, ReceiptSource, RemoteChecksum};
use ledger::{Claim, ClaimedFile, NewFile, Source};

/// A file as a gateway records it.
pub fn new_file(size: u64) -> NewFile {
    NewFile {
        id: FileId::generate(),
        source: Source { root: "/srv/in".into(), path: "a/b.bin".into(), size, mtime_ns: 1_700_000_000_123_456_789 },
        name: ObjectName::new("b.bin").unwrap(),
        media_type: "application/octet-stream".into(),
        metadata: BTreeMap::new(),
        user: "ada".into(),
        remote: None,
        idempotency: None,
    }
}

/// The claimed file; panics if another worker has it or there is nothing to do.
#[track_caller]
pub fn taken(claim: Claim) -> ClaimedFile {
    match claim {
        Claim::Taken(held) => *held,
        other => panic!("expected to get the file, found {other:?}"),
    }
}

/// The receipt of a delivery, with values that MongoDB could mistake for operators.
pub fn receipt(held: &ClaimedFile) -> Receipt {
    let (file, proven) = (&held.file, held.file.proven().unwrap());
    Receipt {
        file_id: file.id,
        prepared_by: Some(file.user.clone()),
        finalised_by: file.finalised_by.clone(),
        source: ReceiptSource {
            path: file.source.path.clone(),
            name: file.name.to_string(),
            generation: file.generation,
        },
        sha256: proven.sha256,
        size: proven.split.size(),
        chunks: proven.split.count(),
        chunk_size: proven.split.chunk_size(),
        remote: ReceiptRemote {
            name: "archive".into(),
            kind: "http".into(),
            address: "http://127.0.0.1:9000/$bucket/b.bin".into(),
            object: ObjectName::new("b.bin").unwrap().into(),
            status: Some(201),
            etag: Some("\"$version.1\"".into()),
            version: Some("$1".into()),
            checksum: Some(RemoteChecksum { field: "repr-digest".into(), value: "$2".into() }),
            proof: "digest".into(),
            proves: Some(contract::RemoteProof::Digest.sentence().to_owned()),
        },
        bytes_sent: proven.split.size(),
        attempts: file.attempts.delivering,
        failures: Vec::new(),
        guarantee: "exactly-once".into(),
        begun_at: file.delivery.as_ref().unwrap().begun_at,
        delivered_at: held.lease.now(),
        signature: None,
    }
}
