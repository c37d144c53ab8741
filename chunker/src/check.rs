//! Before a file is recorded as stored, MongoDB is asked for its chunks. Anybody who may answer chunks on NATS can say
//! that a chunk is stored, or that another one is; only MongoDB knows.

use contract::{ChunkNumber, Digest, Hasher, Split};
use futures_util::{StreamExt, stream};
use ledger::{ChunkProof, FileRecord, Layout, Ledger};

use crate::pass::{PROOFS, PassError};

/// Look-ups of proofs at the same time.
const LOOK_UPS: usize = 4;

/// Adds the hash of one chunk to the digest by which a whole generation is compared: a file may have too many chunks to
/// remember each.
pub(crate) fn add(all: &mut Hasher, sha256: Digest) {
    all.update(sha256.as_bytes());
}

/// Checks that every chunk of the file is stored, with the hashes that a reading found. `read` is the digest of these
/// hashes, in order.
pub(crate) async fn all_are_stored(
    ledger: &Ledger,
    file: &FileRecord,
    layout: Layout,
    split: Split,
    read: Digest,
) -> Result<(), PassError> {
    let count = split.count();
    let look_up =
        |from: u32| ledger.read_proofs(file.id, file.generation, layout, ChunkNumber(from), PROOFS.min(count - from));
    let mut look_ups = stream::iter((0..count).step_by(PROOFS as usize)).map(look_up).buffered(LOOK_UPS);
    let (mut stored, mut numbers) = (Hasher::new(), split.numbers());
    while let Some(proofs) = look_ups.next().await {
        for ChunkProof { number, len, sha256 } in proofs? {
            match numbers.next() {
                Some(expected) if expected == number && split.len(number) == Some(len) => add(&mut stored, sha256),
                Some(expected) if expected == number => {
                    return Err(PassError::changed(format!("chunk {number} is stored with {len} bytes")));
                }
                Some(expected) => return Err(missing(file, expected)),
                None => return Err(PassError::changed(format!("chunk {number} is stored beyond the last"))),
            }
        }
    }
    match numbers.next() {
        None if stored.finish() == read => Ok(()),
        None => Err(PassError::changed("MongoDB has other chunks than this reading found".into())),
        Some(number) => Err(missing(file, number)),
    }
}

/// Asks MongoDB whether a chunk really conflicts with the stored one, as a store has answered. `sha256` is the hash of
/// the chunk that was sent.
pub(crate) async fn conflict(
    ledger: &Ledger,
    file: &FileRecord,
    layout: Layout,
    number: ChunkNumber,
    sha256: Digest,
) -> PassError {
    match ledger.read_proofs(file.id, file.generation, layout, number, 1).await {
        Ok(found) => match found.first() {
            Some(stored) if stored.sha256 != sha256 => {
                let stored = stored.sha256;
                PassError::changed(format!("chunk {number} is stored with SHA-256 {stored}, and now has {sha256}"))
            }
            _ => {
                let why = format!("a store answered that another chunk {number} is stored, but MongoDB has no other");
                tracing::error!(file = %file.id, "{why}; perhaps somebody who is not a store answers chunks");
                PassError::Outage(why)
            }
        },
        Err(error) => error.into(),
    }
}

/// The chunk was answered as stored, and is not. The next attempt sends what is missing.
fn missing(file: &FileRecord, number: ChunkNumber) -> PassError {
    let why = format!("a store answered that chunk {number} is stored, but MongoDB does not have it");
    tracing::error!(file = %file.id, "{why}; perhaps somebody who is not a store answers chunks");
    PassError::Outage(why)
}
