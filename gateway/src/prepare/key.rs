use axum::http::HeaderMap;

use contract::ProblemKind;

use crate::problem::Problem;

/// The longest `Idempotency-Key` in characters.
const KEY_MAX: usize = 255;

/// The caller's `Idempotency-Key`, if it sent one.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut fields = headers.get_all("idempotency-key").iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(field), None) => field,
        (Some(_), Some(_)) => {
            return Err(Problem::new(ProblemKind::MalformedRequest, "expected one Idempotency-Key, found several"));
        }
    };
    let bytes = field.as_bytes();
    let right = (1..=KEY_MAX).contains(&bytes.len()) && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    if !right {
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            format!("expected an Idempotency-Key of 1 to {KEY_MAX} printable ASCII characters, found another"),
        ));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(bytes: &[u8]) -> Result<Option<String>, Problem> {
        let field = ("idempotency-key".parse().unwrap(), HeaderValue::from_bytes(bytes).unwrap());
        of(&[field].into_iter().collect())
    }

    #[test]
    fn printable_ascii_is_taken() {
        assert_eq!(of(&HeaderMap::new()).unwrap(), None);
        for right in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"a b\"", &"k".repeat(KEY_MAX)] {
            assert_eq!(key(right.as_bytes()).unwrap().as_deref(), Some(right));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [&b""[..], b"a\tb", "ä".as_bytes(), &[b'k'; KEY_MAX + 1]] {
            assert!(key(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
