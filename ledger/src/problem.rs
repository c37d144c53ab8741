use contract::{ProblemKind, one_line};
use serde::{Deserialize, Serialize};

/// What went wrong, for people and programs (RFC 9457).
///
/// Its constructors bound it, so that a record and an event always have room for it: a detail may quote what a remote
/// said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The stable type: `/problems/...`. It is text, because a later release may have written the record.
    #[serde(rename = "type")]
    pub uri: String,
    /// The same for every problem of the type.
    pub title: String,
    /// What was expected, what was found, what to do. At most [`Problem::DETAIL_CHARS`] characters, none of them
    /// hidden.
    pub detail: String,
    /// The expected value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<serde_json::Value>,
    /// The found value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub found: Option<serde_json::Value>,
}

impl Problem {
    /// The most characters of a detail.
    pub const DETAIL_CHARS: usize = 2000;

    /// A problem of this kind; `detail` says what was expected, what was found and what to do. It is made one line, and
    /// cut if it is too long.
    pub fn new(kind: ProblemKind, detail: impl AsRef<str>) -> Self {
        Self {
            uri: kind.uri().to_owned(),
            title: kind.title().to_owned(),
            detail: one_line(detail.as_ref(), Self::DETAIL_CHARS),
            expected: None,
            found: None,
        }
    }

    /// Its kind; `None` for a kind that only a later release knows.
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_uri(&self.uri)
    }
}

impl From<&contract::Mismatch> for Problem {
    fn from(mismatch: &contract::Mismatch) -> Self {
        let (expected, found) = mismatch.expected_and_found();
        Self {
            expected: Some(expected),
            found: Some(found),
            ..Self::new(mismatch.problem_kind(), mismatch.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_remote_says_a_problem_stays_small_and_on_one_line() {
        for said in
            ["x".repeat(4_000_000), "\u{1}\n\u{202e}".repeat(100_000), "\"\\".repeat(100_000), "😀".repeat(9_000)]
        {
            let problem = Problem::new(ProblemKind::RemoteRefused, said);
            assert!(!problem.detail.chars().any(contract::is_hidden) && problem.detail.ends_with('…'));
            let json = serde_json::to_string(&problem).unwrap();
            assert!(json.len() < 4 * Problem::DETAIL_CHARS + 200, "{}", json.len());
        }
        assert_eq!(Problem::new(ProblemKind::Internal, "short").detail, "short");
    }
}
