//! Files to send.

use std::io::Write;
use std::path::Path;

use contract::{Digest, Hasher};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The content of a file: bytes that look random, and are equal for the same seed and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// How many bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// Writes a file of `size` bytes.
pub fn write_source(path: &Path, size: u64, seed: u64) -> Content {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut file = std::fs::File::create(path).unwrap();
    let mut whole = Hasher::new();
    let mut piece = vec![0_u8; 1024 * 1024];
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        random.fill_bytes(&mut piece[..now]);
        file.write_all(&piece[..now]).unwrap();
        whole.update(&piece[..now]);
        left -= now as u64;
    }
    Content { size, sha256: whole.finish() }
}
