//! Signatures of the bare client for S3: AWS Signature Version 4 with as few fields as there can be.

use std::time::SystemTime;

use contract::{Digest, Timestamp};
use hyper::http::request;
use hyper::{Request, Uri};
use ring::hmac;
use servers::Seaweed;

/// A request with its signature, for a path without characters to be encoded.
#[expect(clippy::disallowed_methods, reason = "a signature carries the time of signing")]
pub(crate) fn signed(method: &str, to: &Uri, query: &[(&str, &str)], payload: Digest) -> request::Builder {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let now = Timestamp::from_millis(i64::try_from(since_1970.as_millis()).expect("it is before the year 9999"));
    let time = now.to_string().chars().take(19).filter(|c| !"-:".contains(*c)).collect::<String>() + "Z";
    let (day, host) = (&time[..8], to.authority().expect("an address has a host").as_str());
    let query = query.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&");
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{method}\n{}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{time}\n\n{names}\n{payload}",
        to.path()
    );
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Digest::of(canonical.as_bytes()));
    let mut key = format!("AWS4{}", Seaweed::SECRET_KEY).into_bytes();
    for part in [day, "us-east-1", "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature: String = mac(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = format!("{}/{scope}", Seaweed::ACCESS_KEY);
    Request::builder()
        .method(method)
        .uri(format!("{}?{query}", to.path()))
        .header("host", host)
        .header("x-amz-content-sha256", payload.to_string())
        .header("x-amz-date", &time)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"),
        )
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}
