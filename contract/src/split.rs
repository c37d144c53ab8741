use crate::ChunkNumber;

/// The smallest `chunk_size`: below it the cost of a message outweighs its payload.
pub const CHUNK_SIZE_MIN: u32 = 64 * 1024;

/// The largest `chunk_size`: NATS advises payloads of at most 8 MiB, and every chunk in flight is held in memory.
pub const CHUNK_SIZE_MAX: u32 = 4 * 1024 * 1024;

/// What a chunk message needs beyond its payload: NATS counts the headers towards `max_payload`.
pub const PAYLOAD_HEADROOM: u32 = 8 * 1024;

/// The chunk size in which callers count (`chunks` of a finalise request), whatever the file's own chunk size is: the
/// original service knew only 1 MiB.
pub const WIRE_CHUNK_SIZE: u32 = 1024 * 1024;

/// How a file is split into chunks: each has `chunk_size` bytes, except the last, which has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    size: u64,
    chunk_size: u32,
}

impl Split {
    /// Splits `size` bytes into chunks of `chunk_size` bytes.
    ///
    /// `None` if `chunk_size` is 0 or there are more chunks than a `u32` counts (at 64 KiB: 256 TiB).
    pub fn new(size: u64, chunk_size: u32) -> Option<Self> {
        if chunk_size == 0 || size.div_ceil(u64::from(chunk_size)) > u64::from(u32::MAX) {
            return None;
        }
        Some(Self { size, chunk_size })
    }

    /// The bytes of the whole file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of every chunk but the last.
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// The number of chunks; 0 for an empty file.
    pub fn count(&self) -> u32 {
        // `new` refused larger counts.
        u32::try_from(self.size.div_ceil(u64::from(self.chunk_size))).unwrap_or(u32::MAX)
    }

    /// Where a chunk begins in the file, in bytes.
    pub fn offset(&self, number: ChunkNumber) -> u64 {
        u64::from(number.0) * u64::from(self.chunk_size)
    }

    /// The length of a chunk in bytes; `None` for a number past the last chunk.
    pub fn len(&self, number: ChunkNumber) -> Option<u32> {
        let rest = self.size.checked_sub(self.offset(number)).filter(|rest| *rest > 0)?;
        Some(u32::try_from(rest).map_or(self.chunk_size, |rest| rest.min(self.chunk_size)))
    }

    /// All chunk numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = ChunkNumber> + use<> {
        (0..self.count()).map(ChunkNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_file_has_no_chunk() {
        let split = Split::new(0, 1024).unwrap();
        assert_eq!(split.count(), 0);
        assert_eq!(split.len(ChunkNumber(0)), None);
    }

    proptest! {
        #[test]
        fn chunks_join_to_the_whole(size in 0_u64..1 << 40, chunk_size in CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX) {
            let split = Split::new(size, chunk_size).unwrap();
            let count = split.count();
            prop_assert_eq!(split.len(ChunkNumber(count)), None);
            prop_assert!(split.len(ChunkNumber(u32::MAX)).is_none());
            if count > 0 {
                let last = ChunkNumber(count - 1);
                let tail = split.len(last).unwrap();
                prop_assert!(tail > 0 && tail <= chunk_size);
                prop_assert_eq!(split.offset(last) + u64::from(tail), size);
                if count > 1 {
                    prop_assert_eq!(split.len(ChunkNumber(count - 2)), Some(chunk_size));
                }
            }
        }

        #[test]
        fn split_then_join_is_the_identity(bytes in proptest::collection::vec(any::<u8>(), 0..5000), chunk_size in 1_u32..700) {
            let split = Split::new(bytes.len() as u64, chunk_size).unwrap();
            let joined: Vec<u8> = split.numbers().flat_map(|n| {
                let from = usize::try_from(split.offset(n)).unwrap();
                bytes[from..from + split.len(n).unwrap() as usize].to_vec()
            }).collect();
            prop_assert_eq!(joined, bytes);
        }
    }
}
