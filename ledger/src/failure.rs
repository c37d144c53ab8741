use contract::{State, Timestamp};
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::bson_form::{literal, moment};

/// How many of the last failed attempts a record keeps. All of them go into the receipt, and the receipt into an event.
const KEPT: i32 = 20;

/// How many bytes of each detail a record keeps, counted as JSON. The record's `error` has the last detail in full.
const DETAIL_BYTES: usize = 512;

/// A failed attempt at a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `chunking` or `delivering`.
    pub phase: State,
    /// Its number in the phase. After a requeue the numbers begin again.
    pub attempt: u32,
    /// When it failed.
    #[serde(deserialize_with = "moment::deserialize")]
    pub at: Timestamp,
    /// `/problems/...`.
    #[serde(rename = "type")]
    pub uri: String,
    /// What happened, for people; shortened if it was long.
    pub detail: String,
}

/// The failures of a record followed by this one, as an expression on the record before the change.
pub(crate) fn appended(problem: &Problem) -> Document {
    let of_phase = doc! { "$cond": [{ "$eq": ["$state", State::Delivering.as_str()] }, "$attempts.delivering", "$attempts.chunking"] };
    let failure = doc! {
        "phase": "$state",
        "attempt": { "$ifNull": [of_phase, 0] },
        "at": "$$NOW",
        "type": literal(&problem.uri),
        "detail": literal(shortened(&problem.detail)),
    };
    let all = doc! { "$concatArrays": [{ "$ifNull": ["$failures", []] }, [failure]] };
    doc! { "$slice": [all, -KEPT] }
}

/// The text, or its beginning and `…`, so that it takes at most [`DETAIL_BYTES`] in JSON.
fn shortened(text: &str) -> String {
    let as_json = |c: char| match c {
        '"' | '\\' => 2,
        // An upper bound: a line end takes two.
        '\0'..'\u{20}' => 6,
        _ => c.len_utf8(),
    };
    let (mut bytes, mut end) = (0, 0);
    for (at, character) in text.char_indices() {
        bytes += as_json(character);
        if bytes > DETAIL_BYTES {
            return format!("{}…", &text[..end]);
        }
        if bytes + '…'.len_utf8() <= DETAIL_BYTES {
            end = at + character.len_utf8();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_details_are_cut_between_two_characters() {
        let whole = "x".repeat(DETAIL_BYTES);
        assert_eq!(shortened(&whole), whole);
        assert_eq!(shortened(&format!("{whole}x")), format!("{}…", "x".repeat(DETAIL_BYTES - 3)));
        for text in ["ä".repeat(1000), "\u{1}".repeat(1000), "\"".repeat(1000), "😀\n".repeat(1000)] {
            let short = shortened(&text);
            let json = serde_json::to_string(&short).unwrap().len() - 2;
            assert!(short.ends_with('…') && json <= DETAIL_BYTES, "{json}: {short}");
        }
        assert_eq!(shortened(""), "");
    }
}
