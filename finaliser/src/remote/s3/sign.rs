//! AWS Signature Version 4, in the header of a request.

use std::fmt::Write;

use contract::{Digest, Timestamp};
use hyper::http::request;
use hyper::{Method, Request, header};
use ring::hmac;
use settings::S3Credentials;

use crate::remote::wire::encode;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request to be signed.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) host: &'a str,
    /// The encoded path.
    pub(super) path: &'a str,
    /// The query, not encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// The `x-amz-...` headers, in lower case; all of them are signed.
    pub(super) fields: &'a [(&'a str, String)],
    /// The SHA-256 of the body. The server refuses any other body.
    pub(super) payload: Digest,
}

impl Call<'_> {
    /// The signed request. Its signature is valid for 15 minutes from `at`.
    pub(super) fn sign(&self, credentials: &S3Credentials, region: &str, at: Timestamp) -> request::Builder {
        // 20261125T175139Z
        let time = format!("{}Z", at.to_string().chars().take(19).filter(|c| !"-:".contains(*c)).collect::<String>());
        let day = &time[..8];
        let mut fields: Vec<(&str, String)> = self.fields.to_vec();
        fields.push(("host", self.host.to_owned()));
        fields.push(("x-amz-content-sha256", self.payload.to_string()));
        fields.push(("x-amz-date", time.clone()));
        if let Some(token) = &credentials.session_token {
            fields.push(("x-amz-security-token", token.expose().to_owned()));
        }
        fields.sort();
        let names = fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let query = self.query();
        let mut canonical = format!("{}\n{}\n{query}\n", self.method, self.path);
        for (name, value) in &fields {
            // Writing to a string does not fail.
            let _ = writeln!(canonical, "{name}:{}", value.trim());
        }
        let _ = write!(canonical, "\n{names}\n{}", self.payload);

        let scope = format!("{day}/{region}/s3/aws4_request");
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", Digest::of(canonical.as_bytes()));
        let signature = hex(mac(&signing_key(credentials, day, region), &to_sign).as_ref());
        let access_key = &credentials.access_key;
        let authorization =
            format!("{ALGORITHM} Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}");
        let target = if query.is_empty() { self.path.to_owned() } else { format!("{}?{query}", self.path) };
        let mut request = Request::builder().method(self.method.clone()).uri(target);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        request.header(header::AUTHORIZATION, authorization)
    }

    /// The encoded query, sorted by key.
    fn query(&self) -> String {
        let mut pairs: Vec<_> = self.query.iter().map(|(key, value)| (encode(key), encode(value))).collect();
        pairs.sort();
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
    }
}

fn signing_key(credentials: &S3Credentials, day: &str, region: &str) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{}", credentials.secret_key.expose()).as_bytes());
    for part in [day, region, "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, mac(&key, part).as_ref());
    }
    key
}

fn mac(key: &hmac::Key, text: &str) -> hmac::Tag {
    hmac::sign(key, text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use settings::Secret;

    use super::*;

    /// The examples in AWS' documentation, "Signature Calculations for the Authorization Header".
    #[test]
    fn the_documented_examples() {
        let credentials = S3Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            session_token: None,
        };
        let at = Timestamp::try_from("2013-05-24T00:00:00Z".to_owned()).unwrap();
        for (query, signature) in [
            (&[("lifecycle", "")][..], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            (&[("prefix", "J"), ("max-keys", "2")], "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let call = Call {
                method: Method::GET,
                host: "examplebucket.s3.amazonaws.com",
                path: "/",
                query,
                fields: &[],
                payload: Digest::of_nothing(),
            };
            let request = call.sign(&credentials, "us-east-1", at).body(()).unwrap();
            let authorization = request.headers()[header::AUTHORIZATION].to_str().unwrap();
            assert!(authorization.ends_with(signature), "{query:?}: {authorization}");
        }
    }
}
