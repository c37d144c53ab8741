//! How ids, times and other values look in BSON.

use contract::{FileId, Timestamp};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};

use crate::LedgerError;

/// A file id: a UUID, as `mongosh` shows it.
pub(crate) fn id(id: FileId) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() })
}

/// The file id in an `_id`; `None` if it is not a UUID.
pub(crate) fn file_id_in(id: &Bson) -> Option<FileId> {
    match id {
        Bson::Binary(binary) => <[u8; 16]>::try_from(binary.bytes.as_slice()).ok().map(FileId::from_bytes),
        _ => None,
    }
}

pub(crate) fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

/// A span in milliseconds, as MongoDB adds it to a date.
pub(crate) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// `$$NOW` plus a span.
pub(crate) fn now_plus(span: std::time::Duration) -> Bson {
    Bson::Document(doc! { "$add": ["$$NOW", millis(span)] })
}

/// A counter of the record (`$field`) plus one; a missing counter is 0.
pub(crate) fn incremented(field: &str) -> Document {
    doc! { "$add": [{ "$ifNull": [field, 0] }, 1] }
}

/// A value as a record keeps it.
pub(crate) fn to_bson(value: &impl serde::Serialize) -> Result<Bson, LedgerError> {
    mongodb::bson::serialize_to_bson(value)
        .map_err(|e| LedgerError::Unreadable { collection: "files", detail: format!("a value cannot be kept: {e}") })
}

/// A value that MongoDB must take literally, even if it begins with `$`: for everything that a caller wrote.
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

/// serde: nanoseconds since 1970. BSON's largest integer ends in 2262; a time that it cannot hold is a text of digits.
pub(crate) mod nanoseconds {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(i64),
        Digits(String),
    }

    pub(crate) fn serialize<S: Serializer>(nanos: &i128, to: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(*nanos) {
            Ok(number) => to.serialize_i64(number),
            Err(_) => to.collect_str(nanos),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i128, D::Error> {
        match Form::deserialize(from)? {
            Form::Number(number) => Ok(number.into()),
            Form::Digits(digits) => digits.parse().map_err(D::Error::custom),
        }
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
