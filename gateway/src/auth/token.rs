use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::hs256;

const ISSUER: &str = "waybill";

/// Issues and checks tokens: JWTs signed with HS256.
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    iss: String,
}

impl Tokens {
    /// Tokens signed with `secret` that are valid for `seconds`.
    pub(super) fn new(secret: &[u8], seconds: u64) -> Self {
        hs256::install();
        // Only our own algorithm is accepted, whatever the token's header names. A token with an audience is not for
        // us.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["sub", "exp", "iss"]);
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            seconds,
        }
    }

    /// How many seconds a token is valid.
    pub(super) const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// A token for `user`.
    pub(super) fn issue(&self, user: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let now = jsonwebtoken::get_current_timestamp();
        let claims =
            Claims { sub: user.to_owned(), iat: now, exp: now.saturating_add(self.seconds), iss: ISSUER.to_owned() };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// The user that the token names; `None` if the token is not ours or has expired.
    pub(super) fn user_of(&self, token: &str) -> Option<String> {
        match jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation) {
            Ok(token) => Some(token.claims.sub),
            Err(error) => {
                tracing::debug!("a token was refused: {error}");
                None
            }
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("seconds", &self.seconds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn tokens() -> Tokens {
        Tokens::new(SECRET, 60)
    }

    fn claims() -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({ "sub": "ada", "iat": now, "exp": now + 60, "iss": ISSUER })
    }

    fn with(member: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[member] = value;
        claims
    }

    fn without(member: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        claims
    }

    fn signed(claims: &Value, secret: &[u8]) -> String {
        hs256::install();
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    /// Unpadded base64url, as in a JWT.
    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for piece in bytes.chunks(3) {
            let word = piece.iter().chain([&0, &0]).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
            let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[word >> shift & 63]));
            text.extend(&digits[..=piece.len()]);
        }
        text
    }

    #[test]
    fn our_own_token_names_its_user() {
        assert_eq!(tokens().user_of(&tokens().issue("ada").unwrap()).as_deref(), Some("ada"));
        assert_eq!(tokens().user_of(&signed(&claims(), SECRET)).as_deref(), Some("ada"));
    }

    #[test]
    fn a_token_signed_with_another_key_is_refused() {
        assert_eq!(tokens().user_of(&signed(&claims(), b"another key of 32 bytes or more.")), None);
    }

    #[test]
    fn claims_that_are_wrong_or_missing_are_refused() {
        let now = jsonwebtoken::get_current_timestamp();
        let wrong = [
            with("exp", json!(now - 1)),
            with("exp", json!("soon")),
            with("iss", json!("another")),
            with("aud", json!("another")),
            with("sub", json!(7)),
            without("exp"),
            without("iss"),
            without("sub"),
        ];
        for claims in wrong {
            assert_eq!(tokens().user_of(&signed(&claims, SECRET)), None, "{claims} was accepted");
        }
    }

    #[test]
    fn a_token_without_a_valid_signature_is_refused() {
        let good = tokens().issue("ada").unwrap();
        let (message, signature) = good.rsplit_once('.').unwrap();
        let payload = message.split_once('.').unwrap().1;
        let headed = |header: &str| format!("{}.{payload}", base64(header.as_bytes()));
        let eve = base64(with("sub", json!("eve")).to_string().as_bytes());
        let forged = [
            format!("{}.", headed(r#"{"alg":"none","typ":"JWT"}"#)),
            format!("{}.{signature}", headed(r#"{"alg":"none","typ":"JWT"}"#)),
            format!("{}.{signature}", headed(r#"{"alg":"HS512","typ":"JWT"}"#)),
            format!("{}.{eve}.{signature}", message.split_once('.').unwrap().0),
            format!("{message}."),
            message.to_owned(),
            String::new(),
            "..".to_owned(),
        ];
        for token in forged {
            assert_eq!(tokens().user_of(&token), None, "{token} was accepted");
        }
        // The forging itself is sound: without a change, the same steps make a valid token.
        assert_eq!(base64(br#"{"typ":"JWT","alg":"HS256"}"#), message.split_once('.').unwrap().0);
    }
}
