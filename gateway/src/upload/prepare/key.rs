use axum::http::HeaderMap;
use contract::ProblemKind;

use crate::refusal::Refusal;

/// The longest `Idempotency-Key` in characters.
const KEY_MAX: usize = 255;

/// The `Idempotency-Key`, if the caller sent one.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut fields = headers.get_all("idempotency-key").iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(field), None) => field,
        (Some(_), Some(_)) => {
            return Err(Refusal::new(ProblemKind::MalformedRequest, "expected one Idempotency-Key, found several"));
        }
    };
    let bytes = field.as_bytes();
    let right = (1..=KEY_MAX).contains(&bytes.len()) && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    if !right {
        return Err(Refusal::new(
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

    fn key(bytes: &[u8]) -> Result<Option<String>, Refusal> {
        let field = ("idempotency-key".parse().unwrap(), HeaderValue::from_bytes(bytes).unwrap());
        of(&[field].into_iter().collect())
    }

    #[test]
    fn printable_ascii_is_accepted() {
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
