//! HMAC with SHA-256 for `jsonwebtoken`. It uses `ring`, which the program contains for TLS anyway, instead of one of the
//! two larger sets of algorithms that `jsonwebtoken` offers.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::hmac;
use signature::{Error, Signer, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // For JWKs, which are not used here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use this provider. If the process has installed a provider before, that one stays.
pub(super) fn install() {
    // The earlier provider supports HS256 as well: it is this one, or one of `jsonwebtoken`'s own.
    let _installed_before = PROVIDER.install_default();
}

struct Hs256(hmac::Key);

impl Hs256 {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Box<Self>> {
        match (algorithm, family) {
            (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))),
            (Algorithm::HS256, _) => Err(new_error(ErrorKind::InvalidKeyFormat)),
            _ => Err(new_error(ErrorKind::InvalidAlgorithm)),
        }
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Ok(Hs256::new(*algorithm, key.family(), key.as_bytes())?)
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    Ok(Hs256::new(*algorithm, key.family(), key.try_get_as_bytes()?)?)
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    /// Compares in constant time.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        // RFC 4231, test case 2.
        let key = Hs256::new(Algorithm::HS256, AlgorithmFamily::Hmac, b"Jefe").unwrap();
        let tag = key.try_sign(b"what do ya want for nothing?").unwrap();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(key.verify(b"what do ya want for nothing?", &tag).is_ok());
        assert!(key.verify(b"what do ya want for something?", &tag).is_err());
        assert!(key.verify(b"what do ya want for nothing?", &tag[..31].to_vec()).is_err());
    }

    #[test]
    fn other_algorithms_are_refused() {
        for algorithm in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256] {
            assert!(Hs256::new(algorithm, AlgorithmFamily::Hmac, b"Jefe").is_err());
        }
    }
}
