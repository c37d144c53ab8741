//! The `_id` of content: file and generation first, big endian, so that one index serves look-ups and ordered ranges.
//! MongoDB compares binary values by their length first, and values of one length byte by byte.

use contract::{ChunkNumber, FileId, Generation};
use mongodb::bson::RawDocument;
use mongodb::error::{Error, Result};

/// The key of a content document: file id and generation.
pub(crate) fn content_key(file: FileId, generation: Generation) -> Vec<u8> {
    let mut key = Vec::with_capacity(26);
    key.extend_from_slice(file.as_bytes());
    key.extend_from_slice(&generation.0.to_be_bytes());
    key
}

/// The key of a chunk document: file id, generation, number and part (always 0 here).
pub(crate) fn chunk_key(file: FileId, generation: Generation, number: ChunkNumber) -> Vec<u8> {
    let mut key = content_key(file, generation);
    key.extend_from_slice(&number.0.to_be_bytes());
    key.extend_from_slice(&0_u16.to_be_bytes());
    key
}

/// The file and the generation in the key of a content document or a chunk.
pub(crate) fn generation_in(key: &[u8]) -> Option<(FileId, Generation)> {
    let (file, rest) = key.split_first_chunk::<16>()?;
    let (generation, _) = rest.split_first_chunk::<4>()?;
    Some((FileId::from_bytes(*file), Generation(u32::from_be_bytes(*generation))))
}

/// The number in a chunk's key.
pub(crate) fn number_in(key: &[u8]) -> Option<ChunkNumber> {
    let bytes = key.get(20..24).filter(|_| key.len() == 26)?;
    Some(ChunkNumber(u32::from_be_bytes(bytes.try_into().ok()?)))
}

/// The key of a document of content.
pub(crate) fn key_of(document: &RawDocument) -> Result<&[u8]> {
    Ok(document.get_binary("_id").map_err(Error::custom)?.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_their_parts() {
        let file = FileId::from_bytes([7; 16]);
        let mut keys = Vec::new();
        for generation in [1, 2, 256] {
            for number in [0, 1, 255, 256, u32::MAX] {
                let key = chunk_key(file, Generation(generation), ChunkNumber(number));
                assert_eq!(number_in(&key), Some(ChunkNumber(number)));
                keys.push(key);
            }
        }
        assert!(keys.is_sorted());
    }
}
