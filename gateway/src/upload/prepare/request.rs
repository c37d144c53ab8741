use std::collections::BTreeMap;

use contract::{Digest, ObjectName, ProblemKind};
use serde::{Deserialize, Serialize};

use crate::body;
use crate::refusal::Refusal;

/// How many entries the metadata of a file may have.
const METADATA_MAX: usize = 64;

/// The longest key of an entry in characters.
const METADATA_KEY_MAX: usize = 64;

/// The longest value of an entry in bytes.
const METADATA_VALUE_MAX: usize = 1024;

/// The most bytes of all keys and values together: lists, events and MongoDB carry them along.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// The body of a prepare request, checked except for its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PrepareRequest {
    pub(super) file_path: String,
    pub(super) remote: Option<String>,
    pub(super) name: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    file_path: String,
    remote: Option<String>,
    name: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl PrepareRequest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let Wire { file_path, remote, name, metadata } = body::json(bytes)?;
        let metadata = metadata.unwrap_or_default();
        check_metadata(&metadata)?;
        if let Some(name) = &name {
            ObjectName::new(name.as_str())
                .map_err(|error| Refusal::new(ProblemKind::BadName, format!("name: {error}")))?;
        }
        Ok(Self { file_path, remote, name, metadata })
    }

    /// Equal for equal requests, however their JSON is written. Records hold it, so it must never change.
    pub(super) fn fingerprint(&self) -> Digest {
        #[derive(Serialize)]
        struct Canonical<'a> {
            file_path: &'a str,
            remote: Option<&'a str>,
            name: Option<&'a str>,
            metadata: &'a BTreeMap<String, String>,
        }
        let Self { file_path, remote, name, metadata } = self;
        let canonical = Canonical { file_path, remote: remote.as_deref(), name: name.as_deref(), metadata };
        // Strings and maps of strings can always be written.
        Digest::of(&serde_json::to_vec(&canonical).expect("a request is plain data"))
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(ProblemKind::MalformedRequest, format!("metadata: {why}")));
    if metadata.len() > METADATA_MAX {
        return refuse(format!("expected at most {METADATA_MAX} entries, found {}", metadata.len()));
    }
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return refuse(format!("expected at most {METADATA_BYTES_MAX} bytes of keys and values, found {bytes}"));
    }
    for (key, value) in metadata {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=METADATA_KEY_MAX).contains(&key.len()) || !key.chars().all(plain) {
            let key: String = key.chars().take(METADATA_KEY_MAX).collect();
            return refuse(format!(
                "expected keys of 1 to {METADATA_KEY_MAX} characters A-Z, a-z, 0-9, _ and -, found {key:?}"
            ));
        }
        if value.len() > METADATA_VALUE_MAX {
            return refuse(format!(
                "expected values of at most {METADATA_VALUE_MAX} bytes, found {} at {key}",
                value.len()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &serde_json::Value) -> Result<PrepareRequest, Refusal> {
        PrepareRequest::parse(value.to_string().as_bytes())
    }

    fn refusal(value: &serde_json::Value) -> String {
        format!("{:?}", parse(value).expect_err(&format!("{value} was accepted")))
    }

    #[test]
    fn an_optional_field_may_be_absent_or_null() {
        let bare = parse(&json!({ "file_path": "a" })).unwrap();
        let nulls = parse(&json!({ "file_path": "a", "remote": null, "name": null, "metadata": null })).unwrap();
        assert_eq!(bare, nulls);
    }

    #[test]
    fn a_refusal_names_the_field() {
        assert!(refusal(&json!({ "file_path": 7 })).contains("file_path"));
        assert!(refusal(&json!({ "file_path": "a", "metadata": { "k": 1 } })).contains("metadata.k"));
        assert!(refusal(&json!({ "file_path": "a", "callback": "x" })).contains("callback"));
        assert!(refusal(&json!({})).contains("file_path"));
        assert!(refusal(&json!(["a", null, null, null])).contains("object"));
    }

    #[test]
    fn bounds_are_kept() {
        let entry = |key: &str, value: usize| json!({ "file_path": "a", "metadata": { key: "v".repeat(value) } });
        assert!(parse(&entry("Key_1-a", METADATA_VALUE_MAX)).is_ok());
        refusal(&entry("k", METADATA_VALUE_MAX + 1));
        refusal(&entry(&"k".repeat(METADATA_KEY_MAX + 1), 1));
        for key in ["", "a.b", "$a", "a b", "ä"] {
            refusal(&entry(key, 1));
        }
        let full = |last: usize| {
            let long =
                (10..26).map(|n| (format!("k{n}"), "v".repeat(METADATA_VALUE_MAX - if n == 25 { last } else { 3 })));
            json!({ "file_path": "a", "metadata": long.collect::<BTreeMap<_, _>>() })
        };
        assert!(parse(&full(3)).is_ok());
        assert!(refusal(&full(2)).contains("16385"));
        let many: BTreeMap<String, String> = (0..=METADATA_MAX).map(|n| (format!("k{n}"), String::new())).collect();
        refusal(&json!({ "file_path": "a", "metadata": many }));
    }

    #[test]
    fn a_fingerprint_depends_only_on_the_meaning() {
        let one = PrepareRequest::parse(br#"{"file_path":"a","metadata":{"x":"1","y":"2"}}"#).unwrap();
        let same =
            PrepareRequest::parse(br#" { "metadata": {"y":"2","x":"1"}, "name": null, "file_path": "a" }"#).unwrap();
        assert_eq!(one.fingerprint(), same.fingerprint());
        let different = [
            json!({ "file_path": "a" }),
            json!({ "file_path": "b" }),
            json!({ "file_path": "a", "name": "x" }),
            json!({ "file_path": "a", "remote": "x" }),
            json!({ "file_path": "a", "metadata": { "x": "1" } }),
            json!({ "file_path": "a", "metadata": { "x": "2" } }),
        ];
        for (n, one) in different.iter().enumerate() {
            for other in &different[n + 1..] {
                assert_ne!(parse(one).unwrap().fingerprint(), parse(other).unwrap().fingerprint(), "{one} {other}");
            }
        }
        // Pinned: after a change, every key that was used before would belong to another request.
        let pinned = r#"{"file_path":"a","remote":null,"name":null,"metadata":{"x":"1","y":"2"}}"#;
        assert_eq!(one.fingerprint(), Digest::of(pinned.as_bytes()));
    }
}
