use axum::http::HeaderMap;
use contract::{Digest, ProblemKind};

use crate::refusal::Refusal;

/// The SHA-256 of the file, from `content-sha256` or `Repr-Digest` (RFC 9530). If both are given they must agree.
pub(super) fn digest(headers: &HeaderMap) -> Result<Digest, Refusal> {
    let refuse = |why: String| Refusal::new(ProblemKind::BadDigest, why);
    let plain = text(headers, "content-sha256")?
        .map(|text| text.trim().parse::<Digest>().map_err(|error| refuse(format!("content-sha256: {error}"))))
        .transpose()?;
    let repr = match text(headers, "repr-digest")? {
        Some(text) => Digest::from_repr_digest(&text).map_err(|error| refuse(error.to_string()))?,
        None => None,
    };
    match (plain, repr) {
        (Some(plain), Some(repr)) if plain != repr => Err(refuse(format!(
            "expected content-sha256 and Repr-Digest to be the same hash, found {plain} and {repr}"
        ))),
        (Some(digest), _) | (None, Some(digest)) => Ok(digest),
        (None, None) => Err(refuse(
            "expected the header content-sha256 with the SHA-256 of the file in 64 hexadecimal digits, found none"
                .into(),
        )),
    }
}

/// The value of a field. Several fields of one name are one list (RFC 9110, section 5.2), which is not a single hash.
fn text(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Refusal> {
    let values: Result<Vec<_>, _> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
    let values = values.map_err(|_| {
        Refusal::new(ProblemKind::BadDigest, format!("{name}: expected ASCII characters, found others"))
    })?;
    Ok(Some(values.join(", ")).filter(|_| !values.is_empty()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> Result<Digest, Refusal> {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        digest(&headers)
    }

    #[test]
    fn either_header_will_do() {
        let digest = Digest::of(b"abc");
        let (hex, repr) = (digest.to_string(), digest.to_repr_digest());
        assert_eq!(of(&[("content-sha256", &hex)]).unwrap(), digest);
        assert_eq!(of(&[("content-sha256", &hex.to_uppercase())]).unwrap(), digest);
        assert_eq!(of(&[("repr-digest", &repr)]).unwrap(), digest);
        assert_eq!(of(&[("repr-digest", "sha-512=:AAAA:"), ("repr-digest", &repr)]).unwrap(), digest);
        assert_eq!(of(&[("content-sha256", &hex), ("repr-digest", &repr)]).unwrap(), digest);
    }

    #[test]
    fn missing_malformed_and_contradicting_hashes_are_refused() {
        let (hex, other) = (Digest::of(b"abc").to_string(), Digest::of(b"abd"));
        assert!(of(&[]).is_err());
        assert!(of(&[("content-sha256", "")]).is_err());
        assert!(of(&[("content-sha256", &hex[1..])]).is_err());
        assert!(of(&[("content-sha256", &hex), ("content-sha256", &hex)]).is_err());
        assert!(of(&[("repr-digest", "sha-512=:AAAA:")]).is_err());
        assert!(of(&[("repr-digest", "sha-256=:AAAA:")]).is_err());
        assert!(of(&[("content-sha256", &hex), ("repr-digest", &other.to_repr_digest())]).is_err());
    }
}
