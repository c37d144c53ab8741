use std::fmt;

use contract::{ObjectName, ProblemKind};
use serde::{Deserialize, Deserializer, de};

use crate::body::{self, Media};
use crate::refusal::Refusal;

/// The largest size or number of chunks that a record can hold; no file has as many.
const COUNT_MAX: u64 = i64::MAX.cast_unsigned();

/// The body of a finalise request, checked as far as possible without the record. Every part is optional.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FinaliseRequest {
    pub(super) size: Option<u64>,
    pub(super) chunks: Option<u64>,
    pub(super) name: Option<ObjectName>,
    pub(super) remote: Option<String>,
}

/// The field names of the original service, in both of its spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    file_size: Option<Count>,
    chunks: Option<Count>,
    chunks_count: Option<Count>,
    filename: Option<String>,
    #[serde(rename = "fileName")]
    file_name: Option<String>,
    remote: Option<String>,
}

impl FinaliseRequest {
    pub(super) fn parse(media: &Media, bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let wire = match media {
            Media::Json | Media::Unnamed => body::json(bytes)?,
            Media::Form => Wire::from_form(bytes)?,
            Media::Other(_) => return Err(media.unexpected("application/json or application/x-www-form-urlencoded")),
        };
        for (field, count) in
            [("fileSize", &wire.file_size), ("chunks", &wire.chunks), ("chunksCount", &wire.chunks_count)]
        {
            if let Some(Count(count)) = count.as_ref().filter(|Count(count)| *count > COUNT_MAX) {
                return Err(Refusal::new(
                    ProblemKind::FileTooLarge,
                    format!("{field}: expected at most {COUNT_MAX}, found {count}"),
                ));
            }
        }
        let chunks = one_of("chunks", wire.chunks, "chunksCount", wire.chunks_count)?;
        let name = one_of("filename", wire.filename, "fileName", wire.file_name)?.map(ObjectName::new).transpose();
        Ok(Self {
            size: wire.file_size.map(|Count(size)| size),
            chunks: chunks.map(|Count(chunks)| chunks),
            name: name.map_err(|error| Refusal::new(ProblemKind::BadName, format!("filename: {error}")))?,
            remote: wire.remote,
        })
    }
}

impl Wire {
    fn from_form(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut wire = Self::default();
        for (key, value) in form_urlencoded::parse(bytes) {
            let count = || {
                Count::parse(&value).ok_or_else(|| {
                    let value: String = value.chars().take(80).collect();
                    Refusal::new(
                        ProblemKind::MalformedRequest,
                        format!("{key}: expected a number of 0 or more, found {value:?}"),
                    )
                })
            };
            let repeated = match &*key {
                "fileSize" => wire.file_size.replace(count()?).is_some(),
                "chunks" => wire.chunks.replace(count()?).is_some(),
                "chunksCount" => wire.chunks_count.replace(count()?).is_some(),
                "filename" => wire.filename.replace(value.into_owned()).is_some(),
                "fileName" => wire.file_name.replace(value.into_owned()).is_some(),
                "remote" => wire.remote.replace(value.into_owned()).is_some(),
                _ => {
                    let known = "fileSize, chunks, chunksCount, filename, fileName, remote";
                    let key: String = key.chars().take(80).collect();
                    return Err(Refusal::new(
                        ProblemKind::MalformedRequest,
                        format!("expected the form fields {known}, found {key:?}"),
                    ));
                }
            };
            if repeated {
                return Err(Refusal::new(
                    ProblemKind::MalformedRequest,
                    format!("expected {key} once, found it twice"),
                ));
            }
        }
        Ok(wire)
    }
}

/// The value of two fields that mean the same.
fn one_of<T: PartialEq + fmt::Debug>(
    name: &str,
    value: Option<T>,
    other_name: &str,
    other: Option<T>,
) -> Result<Option<T>, Refusal> {
    match (value, other) {
        (Some(value), Some(other)) if value != other => Err(Refusal::new(
            ProblemKind::MalformedRequest,
            format!("expected {name} and {other_name} to be the same, found {value:?} and {other:?}"),
        )),
        (value, other) => Ok(value.or(other)),
    }
}

/// A number of 0 or more; in JSON also as a string of decimal digits.
#[derive(PartialEq, Eq)]
struct Count(u64);

impl Count {
    fn parse(text: &str) -> Option<Self> {
        // `parse` would take a sign too.
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok().map(Self))?
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of 0 or more")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                Count::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<FinaliseRequest, Refusal> {
        FinaliseRequest::parse(&Media::Json, text.as_bytes())
    }

    fn form(text: &str) -> Result<FinaliseRequest, Refusal> {
        FinaliseRequest::parse(&Media::Form, text.as_bytes())
    }

    fn full() -> FinaliseRequest {
        FinaliseRequest {
            size: Some(3),
            chunks: Some(1),
            name: Some(ObjectName::new("a b").unwrap()),
            remote: Some("archive".into()),
        }
    }

    #[test]
    fn json_and_form_mean_the_same() {
        for text in [
            r#"{"fileSize":3,"chunks":1,"filename":"a b","remote":"archive"}"#,
            r#"{"fileSize":"3","chunksCount":"1","fileName":"a b","remote":"archive"}"#,
            r#"{"fileSize":3,"chunks":1,"chunksCount":1,"filename":"a b","fileName":"a b","remote":"archive"}"#,
        ] {
            assert_eq!(json(text).unwrap(), full(), "{text}");
        }
        for text in [
            "fileSize=3&chunks=1&filename=a+b&remote=archive",
            "fileSize=3&chunksCount=1&fileName=a%20b&remote=archive",
        ] {
            assert_eq!(form(text).unwrap(), full(), "{text}");
        }
    }

    #[test]
    fn every_field_is_optional() {
        for media in [Media::Json, Media::Form, Media::Unnamed, Media::Other("multipart/form-data".into())] {
            assert_eq!(FinaliseRequest::parse(&media, b"").unwrap(), FinaliseRequest::default());
        }
        assert_eq!(json("{}").unwrap(), FinaliseRequest::default());
        assert_eq!(json(r#"{"fileSize":null,"filename":null}"#).unwrap(), FinaliseRequest::default());
    }

    #[test]
    fn names_are_never_decoded() {
        assert_eq!(json(r#"{"filename":"a%2fb"}"#).unwrap().name, Some(ObjectName::new("a%2fb").unwrap()));
        assert_eq!(form("filename=a%252fb").unwrap().name, Some(ObjectName::new("a%2fb").unwrap()));
    }

    #[test]
    fn malformed_requests_are_refused() {
        for text in [
            r#"{"fileSize":-1}"#,
            r#"{"fileSize":1.5}"#,
            r#"{"fileSize":1e3}"#,
            r#"{"fileSize":"+1"}"#,
            r#"{"fileSize":""}"#,
            r#"{"fileSize":true}"#,
            r#"{"fileSize":18446744073709551616}"#,
            r#"{"fileSize":1,"fileSize":1}"#,
            r#"{"filesize":1}"#,
            r#"{"chunks":1,"chunksCount":2}"#,
            r#"{"filename":"a","fileName":"b"}"#,
            r#"{"filename":7}"#,
            r#"{"filename":"a"}{}"#,
            "[]",
            "null",
            "{",
        ] {
            assert!(json(text).is_err(), "{text} was accepted");
        }
        for text in ["fileSize=-1", "fileSize=", "fileSize=1.0", "a=1", "chunks=1&chunks=1", "chunks=1&chunksCount=2"] {
            assert!(form(text).is_err(), "{text} was accepted");
        }
        assert!(FinaliseRequest::parse(&Media::Other("multipart/form-data".into()), b"--x").is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\u0000b"] {
            let text = format!(r#"{{"filename":"{name}"}}"#);
            assert!(json(&text).is_err(), "{text} was accepted");
        }
        assert!(form("filename=a%00b").is_err() && form("filename=").is_err());
    }
}
