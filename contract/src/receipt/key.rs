//! The keys that receipts are signed with and checked by: Ed25519.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::Digest;

/// The bytes before the seed in PKCS#8, and those before the public key in SubjectPublicKeyInfo (RFC 8410).
const PRIVATE_DER: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Base64 characters in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// A text that is not a key. The error reveals nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key.
    #[error(
        "expected an Ed25519 private key (PEM, as `openssl genpkey -algorithm ed25519` writes it, or 32 bytes in base64 or \
         in hexadecimal digits), found {0}"
    )]
    Private(&'static str),
    /// Not a public key.
    #[error(
        "expected an Ed25519 public key (PEM, as `waybill receipt key` prints it, or 32 bytes in base64 or in hexadecimal \
         digits), found {0}"
    )]
    Public(&'static str),
}

/// A key that signs receipts. It is never printed.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key derived from these 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // ring refuses only a seed of another length.
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 bytes"))
    }

    /// The public key: it checks what this key signs, and signs nothing.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The signature over `message`; always the same for the same message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    /// Reads PEM (PKCS#8), or the 32 bytes of the seed in base64 or in hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if !text.contains("-----BEGIN") {
            return raw(text).map(|seed| Self::from_seed(&seed)).map_err(KeyError::Private);
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| KeyError::Private("PEM without a complete PRIVATE KEY section"))?;
        // OpenSSL leaves out the public key, which `from_pkcs8` requires.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(Self).map_err(|_| KeyError::Private("a private key of another kind"))
    }
}

/// The PEM (PKCS#8) of the private key derived from these 32 secret bytes.
pub fn private_key_pem(seed: &[u8; 32]) -> String {
    pem("PRIVATE KEY", &[&PRIVATE_DER[..], seed].concat())
}

/// A key that checks receipts. Shown as its 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its name in receipts: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes.
    pub fn id(&self) -> String {
        Digest::of(&self.0).to_string()[..16].to_owned()
    }

    /// Whether its private key made `signature` over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// As PEM (SubjectPublicKeyInfo), which other tools read too.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&PUBLIC_DER[..], &self.0].concat())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads PEM (SubjectPublicKeyInfo), or the 32 bytes in base64 or in hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if !text.contains("-----BEGIN") {
            return raw(text).and_then(usable).map_err(KeyError::Public);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| KeyError::Public("PEM without a complete PUBLIC KEY section"))?;
        let bytes = der.strip_prefix(&PUBLIC_DER[..]).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or("a public key of another kind").and_then(usable).map_err(KeyError::Public)
    }
}

/// The public key of these bytes, unless it is one that needs no private key.
fn usable(bytes: [u8; 32]) -> Result<PublicKey, &'static str> {
    let point = CompressedEdwardsY(bytes).decompress().ok_or("32 bytes that are no public key")?;
    match point.is_small_order() {
        true => Err("a key of small order, for which anybody can make signatures"),
        false => Ok(PublicKey(bytes)),
    }
}

/// 32 bytes in hexadecimal digits or base64.
fn raw(text: &str) -> Result<[u8; 32], &'static str> {
    let text = text.trim();
    if let Ok(digits) = text.parse::<Digest>() {
        return Ok(*digits.as_bytes());
    }
    let bytes = STANDARD.decode(text).map_err(|_| "a text in none of these forms")?;
    bytes.try_into().map_err(|_| "another number of bytes")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every index is between two characters.
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written by OpenSSL 3: `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`.
    const PRIVATE: &str = include_str!("../../tests/golden/receipt_key.pem");
    const PUBLIC: &str = include_str!("../../tests/golden/receipt_key.pub.pem");
    /// The same seed and public key as bytes.
    const SEED: [u8; 32] = *b"waybill golden receipt key, v1 !";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_form_of_a_private_key_is_the_same_key() {
        let public: PublicKey = PUBLIC.parse().unwrap();
        for text in [PRIVATE, &private_key_pem(&SEED), &STANDARD.encode(SEED), &format!(" {}\n", hex(&SEED))] {
            assert_eq!(text.parse::<SigningKey>().unwrap().public(), public);
        }
        assert_eq!(private_key_pem(&SEED), PRIVATE);
        assert_eq!(format!("{:?}", SigningKey::from_seed(&SEED)), format!("SigningKey({})", public.id()));
    }

    #[test]
    fn every_form_of_a_public_key_is_the_same_key() {
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert_eq!(public.to_pem(), PUBLIC);
        for text in [public.to_string(), hex(&public.0), PUBLIC.replace('\n', "\r\n")] {
            assert_eq!(text.parse(), Ok(public));
        }
    }

    #[test]
    fn other_texts_are_refused_and_not_repeated() {
        // A key of another curve, and one of X25519, whose DER has the same length and differs in one byte.
        let x25519 = pem("PRIVATE KEY", &[&PRIVATE_DER[..11], &[0x6e], &PRIVATE_DER[12..], &SEED].concat());
        for text in [
            "",
            "hush",
            "aHVzaA==",
            &hex(&SEED)[1..],
            PUBLIC,
            &x25519,
            &PRIVATE.replace("PRIVATE", "EC PRIVATE"),
            PRIVATE.split_at(60).0,
        ] {
            let refused = text.parse::<SigningKey>().unwrap_err().to_string();
            assert!(refused.contains("Ed25519") && !refused.contains("hush"), "{refused}");
        }
        let x25519 = pem("PUBLIC KEY", &[&PUBLIC_DER[..8], &[0x6e], &PUBLIC_DER[9..], &SEED].concat());
        for text in ["", "hush", PRIVATE, &x25519, &STANDARD.encode(&SEED[1..])] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn keys_that_need_no_private_key_are_refused() {
        // The points of small order, as other libraries list them, and two of them written with y + p.
        for low in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let bytes = *low.parse::<Digest>().unwrap().as_bytes();
            for text in [low.to_owned(), STANDARD.encode(bytes), PublicKey(bytes).to_pem()] {
                let refused = text.parse::<PublicKey>().unwrap_err().to_string();
                assert!(refused.contains("anybody can make signatures"), "{text}: {refused}");
            }
        }
        // The reason: with the neutral element as the key, the signature R = B, s = 1 fits every message.
        let neutral = PublicKey(*[&[1_u8][..], &[0; 31]].concat().first_chunk().unwrap());
        let base = "5866666666666666666666666666666666666666666666666666666666666666".parse::<Digest>().unwrap();
        let signature = [&base.as_bytes()[..], &[1], &[0; 31]].concat();
        assert!(neutral.verifies(b"anything", &signature) && neutral.verifies(b"at all", &signature));
        assert!("02".repeat(32).parse::<PublicKey>().is_err(), "no point of the curve");
    }

    #[test]
    fn the_test_vector_of_the_rfc() {
        // RFC 8032, section 7.1, test 2.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key: SigningKey = seed.parse().unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hex(&key.public().0), public);
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex(&key.sign(&[0x72])), signature);
        assert!(key.public().verifies(&[0x72], &key.sign(&[0x72])));
        assert!(!key.public().verifies(&[0x73], &key.sign(&[0x72])));
    }
}
