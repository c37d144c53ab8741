use bytes::Bytes;
use contract::{Digest, Hasher};

use crate::remote::RemoteError;
use crate::remote::body::Body;

/// S3 allows no more parts in an upload.
pub(super) const PARTS: u64 = 10_000;

const MIB: u64 = 1024 * 1024;

/// The size of each part but the last, for an object of `size` bytes: `wanted`, or as many MiB as are needed to stay
/// within [`PARTS`].
pub(super) const fn part_size(size: u64, wanted: u64) -> u64 {
    let least = size.div_ceil(PARTS).next_multiple_of(MIB);
    if least > wanted { least } else { wanted }
}

/// Cuts a body into parts, without copying its bytes.
pub(super) struct Parts {
    body: Body,
    part_size: u64,
    number: u32,
    gathered: Vec<Bytes>,
    missing: u64,
    rest: Bytes,
}

/// A part of an upload.
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) len: u64,
    pub(super) pieces: Vec<Bytes>,
}

impl Parts {
    pub(super) const fn new(body: Body, part_size: u64) -> Self {
        Self { body, part_size, number: 0, gathered: Vec::new(), missing: part_size, rest: Bytes::new() }
    }

    /// The next part; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Part, RemoteError>> {
        loop {
            if self.rest.is_empty() {
                match self.body.next().await {
                    Some(Ok(piece)) => self.rest = piece,
                    Some(Err(_)) => return Some(Err(RemoteError::Stopped)),
                    None if self.gathered.is_empty() => return None,
                    None => return Some(Ok(self.cut())),
                }
            }
            let taken = usize::try_from(self.missing).map_or(self.rest.len(), |missing| missing.min(self.rest.len()));
            self.gathered.push(self.rest.split_to(taken));
            self.missing -= taken as u64;
            if self.missing == 0 {
                return Some(Ok(self.cut()));
            }
        }
    }

    fn cut(&mut self) -> Part {
        self.number += 1;
        let len = self.part_size - self.missing;
        self.missing = self.part_size;
        Part { number: self.number, len, pieces: std::mem::take(&mut self.gathered) }
    }
}

impl Part {
    /// Its SHA-256, computed off the threads that serve connections.
    pub(super) async fn sha256(&self) -> Result<Digest, RemoteError> {
        let pieces = self.pieces.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = Hasher::new();
            pieces.iter().for_each(|piece| hasher.update(piece));
            hasher.finish()
        });
        // Hashing does not panic, so an error means that the runtime is shutting down.
        hashing.await.map_err(|_| RemoteError::Stopped)
    }

    /// The part as the body of a request.
    pub(super) fn body(&self) -> Body {
        Body::in_memory(self.pieces.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn an_upload_has_at_most_ten_thousand_parts() {
        assert_eq!(part_size(MIB, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB + 1, 8 * MIB), 9 * MIB);
        let five_tib = 5 << 40;
        assert!(five_tib / part_size(five_tib, 8 * MIB) < PARTS);
    }

    #[tokio::test]
    async fn the_parts_make_up_the_file() {
        for (sizes, part_size) in [(&[10, 10, 3][..], 7), (&[1; 20], 7), (&[21], 7), (&[3, 4], 7), (&[100], 1000)] {
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| at.to_le_bytes()[0]).collect();
            let (to, pieces) = mpsc::channel(32);
            let mut left = Bytes::from(whole.clone());
            sizes.iter().for_each(|size| to.try_send(left.split_to(*size)).unwrap());
            drop(to);
            let mut parts = Parts::new(Body::new(whole.len() as u64, pieces), part_size);
            let (mut seen, mut numbers) = (Vec::new(), Vec::new());
            while let Some(part) = parts.next().await {
                let part = part.unwrap();
                assert_eq!(part.sha256().await.unwrap(), Digest::of(&part.pieces.concat()));
                assert_eq!(part.len, part.pieces.concat().len() as u64);
                assert!(part.len == part_size || seen.len() as u64 + part.len == whole.len() as u64);
                numbers.push(part.number);
                seen.extend(part.pieces.concat());
            }
            assert!(seen == whole);
            assert!(numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).unwrap()));
        }
    }
}
