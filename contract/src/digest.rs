use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a SHA-256.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DigestError {
    /// Not 64 hexadecimal digits.
    #[error("expected a SHA-256 of 64 hexadecimal digits, found {found:?}")]
    Hex {
        /// The first characters of what was found.
        found: String,
    },
    /// A `Repr-Digest` field without a readable `sha-256` member.
    #[error("expected Repr-Digest to hold sha-256=:BASE64: (RFC 9530), found {found:?}")]
    ReprDigest {
        /// The first characters of what was found.
        found: String,
    },
}

impl Digest {
    /// The SHA-256 of an empty file.
    pub fn of_nothing() -> Self {
        Self::of(&[])
    }

    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest with these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value of a `Repr-Digest` field (RFC 9530, section 3): `sha-256=:BASE64:`.
    pub fn to_repr_digest(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }

    /// The `sha-256` member of a `Repr-Digest` field, which is a dictionary of algorithms (RFC 9530, RFC 8941).
    ///
    /// `Ok(None)` if the field holds only other algorithms.
    pub fn from_repr_digest(field: &str) -> Result<Option<Self>, DigestError> {
        let refuse = || DigestError::ReprDigest { found: field.chars().take(120).collect() };
        for member in field.split(',') {
            let (key, value) = member.trim().split_once('=').ok_or_else(refuse)?;
            if key != "sha-256" {
                continue;
            }
            let value = value.split(';').next().unwrap_or_default();
            let text = value.strip_prefix(':').and_then(|v| v.strip_suffix(':')).ok_or_else(refuse)?;
            let bytes = STANDARD.decode(text).map_err(|_| refuse())?;
            return Ok(Some(Self(bytes.try_into().map_err(|_| refuse())?)));
        }
        Ok(None)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || DigestError::Hex { found: text.chars().take(80).collect() };
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(refuse);
            // Two hexadecimal digits are at most 255.
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Computes a SHA-256 piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher without any bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn known_answer() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish().to_string(), ABC);
    }

    #[test]
    fn hex_of_either_case_is_read() {
        assert_eq!(ABC.to_uppercase().parse::<Digest>().unwrap(), Digest::of(b"abc"));
    }

    #[test]
    fn text_that_is_not_hex_is_refused() {
        for text in ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g"), &"é".repeat(32)] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn repr_digest_is_read_among_other_algorithms() {
        let digest = Digest::of(b"abc");
        let field = digest.to_repr_digest();
        assert_eq!(Digest::from_repr_digest(&field).unwrap(), Some(digest));
        assert_eq!(Digest::from_repr_digest(&format!("sha-512=:AAAA:, {field}")).unwrap(), Some(digest));
        assert_eq!(Digest::from_repr_digest("sha-512=:AAAA:").unwrap(), None);
        for broken in ["", "sha-256", "sha-256=abc", "sha-256=:abc:", "sha-256=:AAAA:"] {
            assert!(Digest::from_repr_digest(broken).is_err(), "{broken:?} was accepted");
        }
    }
}
