//! Canonical JSON: the same values have the same bytes, whoever writes them (RFC 8785, JCS). Only for values without
//! fractions: receipts have none, and every program reads whole numbers below 2^53 alike.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The largest whole number that every program holds exactly (RFC 7493, section 2.2).
const MAX_EXACT: i64 = (1 << 53) - 1;

/// JSON that has no canonical form here.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, or a name twice in one object: programs differ in what they read then.
    #[error("expected JSON in which no name appears twice: {0}")]
    Json(#[from] serde_json::Error),
    /// A fraction, or a number that some programs round.
    #[error("expected whole numbers below 2^53, found {0}")]
    Number(Number),
}

/// Reads JSON, and refuses an object in which a name appears twice.
pub fn read_json(bytes: &[u8]) -> Result<Value, CanonicalError> {
    Ok(serde_json::from_slice::<Unambiguous>(bytes)?.0)
}

/// The canonical form of a value.
pub fn canonical_json(value: &Value) -> Result<String, CanonicalError> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<(), CanonicalError> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            text.push_str(&whole(number).ok_or_else(|| CanonicalError::Number(number.clone()))?.to_string());
        }
        Value::String(value) => quote(value, text),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(value, text)?;
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // RFC 8785, section 3.2.3: by UTF-16 code units, whose order differs from that of UTF-8.
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                quote(name, text);
                text.push(':');
                write(value, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// RFC 8785, section 3.2.2.2: only what must be escaped is, and in the shortest way.
fn quote(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..'\u{20}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => text.push(character),
        }
    }
    text.push('"');
}

/// The number, if it is whole and exact. `1.0` and `1e3` are whole: other programs may write a number that way.
fn whole(number: &Number) -> Option<i64> {
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.1e15)?;
        #[allow(clippy::cast_possible_truncation, reason = "it is whole and far below i64::MAX")]
        Some(float as i64)
    })?;
    (-MAX_EXACT..=MAX_EXACT).contains(&whole).then_some(whole)
}

/// A value in which no name appears twice in an object.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unambiguous(value))) = from.next_entry::<String, _>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} appears twice")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(json: &str) -> String {
        canonical_json(&read_json(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 8785, section 3.2.4, without its fractions.
        let given = r#"{
            "numbers": [333333333, 1E3, -0, -0.0, 4.50e1],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected =
            r#"{"literals":[null,true,false],"numbers":[333333333,1000,0,0,45],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        assert_eq!(form(given), expected);
    }

    #[test]
    fn names_are_in_the_order_of_the_rfc() {
        // RFC 8785, section 3.2.3: U+1F600 is before U+FB33, as its first UTF-16 code unit is D83D.
        let given = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        assert_eq!(form(given), "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}");
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        let all: String =
            (0..=0x20).chain([0x22, 0x2f, 0x5c, 0x7f, 0x2028, 0x1_f600]).filter_map(char::from_u32).collect();
        // As Python's json.dumps(all, ensure_ascii=False) writes it.
        let expected = concat!(
            r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f\u0010\u0011\u0012\u0013\u0014"#,
            r#"\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f \"/\\"#,
            "\u{7f}\u{2028}\u{1f600}\""
        );
        assert_eq!(canonical_json(&Value::String(all)).unwrap(), expected);
    }

    #[test]
    fn json_that_programs_read_differently_is_refused() {
        for json in ["1.5", "9007199254740992", "-9007199254740992", "18446744073709551616", "1e300", "[{\"a\":0.1}]"] {
            let refused = canonical_json(&read_json(json.as_bytes()).unwrap()).unwrap_err().to_string();
            assert!(refused.contains("2^53"), "{json}: {refused}");
        }
        assert_eq!(form("[9007199254740991,-9007199254740991]"), "[9007199254740991,-9007199254740991]");
        for json in [r#"{"a":1,"b":2,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            let refused = read_json(json.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("\"a\" appears twice"), "{json}: {refused}");
        }
        for json in ["", "{", "{} {}", "\"\\ud800\"", "{\"a\":1,}", &"[".repeat(10_000)] {
            assert!(read_json(json.as_bytes()).is_err(), "{json:.20} was read");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-MAX_EXACT..=MAX_EXACT).prop_map(Value::from),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_reads_back_and_is_written_the_same_again(value in values()) {
            let text = canonical_json(&value).unwrap();
            prop_assert_eq!(&read_json(text.as_bytes()).unwrap(), &value);
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(canonical_json(&read_json(&pretty).unwrap()).unwrap(), text);
        }
    }
}
