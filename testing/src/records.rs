use std::collections::BTreeMap;

use contract::{FileId, ObjectName};
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

/// What was claimed; panics where another has it or nothing is to be done.
#[track_caller]
pub fn taken(claim: Claim) -> ClaimedFile {
    match claim {
        Claim::Taken(held) => *held,
        other => panic!("expected to get the file, found {other:?}"),
    }
}
