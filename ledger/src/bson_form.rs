//! How ids and times look in BSON.

use contract::{ChunkNumber, FileId, Generation, Timestamp};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};

/// A file id: a UUID, as `mongosh` shows it.
pub(crate) fn id(id: FileId) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() })
}

pub(crate) fn by_id(file: FileId) -> Document {
    doc! { "_id": id(file) }
}

pub(crate) fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

/// The key of a content document: file id and generation, big endian.
pub(crate) fn content_key(file: FileId, generation: Generation) -> Vec<u8> {
    let mut key = Vec::with_capacity(20);
    key.extend_from_slice(file.as_bytes());
    key.extend_from_slice(&generation.0.to_be_bytes());
    key
}

/// The key of a chunk document: file id, generation, number and part (always 0 here), big endian, so that one index
/// serves look-ups and ordered ranges. Binary values of one length compare byte by byte.
pub(crate) fn chunk_key(file: FileId, generation: Generation, number: ChunkNumber) -> Vec<u8> {
    let mut key = content_key(file, generation);
    key.extend_from_slice(&number.0.to_be_bytes());
    key.extend_from_slice(&0_u16.to_be_bytes());
    key
}

/// The file and the generation in the key of a content document or a chunk.
pub(crate) fn owner_of(key: &[u8]) -> Option<(FileId, Generation)> {
    let (file, rest) = key.split_first_chunk::<16>()?;
    let (generation, _) = rest.split_first_chunk::<4>()?;
    Some((FileId::from_bytes(*file), Generation(u32::from_be_bytes(*generation))))
}

/// The number in a chunk's key.
pub(crate) fn number_of(key: &[u8]) -> Option<ChunkNumber> {
    let bytes = key.get(20..24).filter(|_| key.len() == 26)?;
    Some(ChunkNumber(u32::from_be_bytes(bytes.try_into().ok()?)))
}

/// A span in milliseconds, as MongoDB adds it to a date.
pub(crate) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// `$$NOW` and a span.
pub(crate) fn now_plus(span: std::time::Duration) -> Bson {
    Bson::Document(doc! { "$add": ["$$NOW", millis(span)] })
}

/// A value that MongoDB must take as it is, though it may begin with `$`: everything that a caller wrote.
pub(crate) fn literal(value: impl Into<Bson>) -> Bson {
    Bson::Document(doc! { "$literal": value.into() })
}

/// serde: a file id as a UUID.
pub(crate) mod id_field {
    use super::*;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FileId, D::Error> {
        let uuid = mongodb::bson::Uuid::deserialize(from).map_err(D::Error::custom)?;
        Ok(FileId::from_bytes(uuid.bytes()))
    }
}

/// serde: a moment as a BSON date.
pub(crate) mod moment {
    use super::*;
    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Ok(Timestamp::from_millis(DateTime::deserialize(from)?.timestamp_millis()))
    }
}

/// serde: a moment that may be missing, as a BSON date.
pub(crate) mod moment_option {
    use super::*;
    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let date = Option::<DateTime>::deserialize(from)?;
        Ok(date.map(|date| Timestamp::from_millis(date.timestamp_millis())))
    }
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
                assert_eq!(number_of(&key), Some(ChunkNumber(number)));
                keys.push(key);
            }
        }
        assert!(keys.is_sorted());
    }
}
