use std::time::{Duration, SystemTime};

use contract::RemoteChecksum;
use httpdate::parse_http_date;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use hyper::http::response;

use crate::remote::RemoteError;
use crate::remote::said::{said, without_markup};

/// How much of an answer's text is read. An error of S3 may quote the whole request that it refuses.
pub(in crate::remote) const TEXT_BYTES: usize = 64 * 1024;

/// A longer value does not go into the receipt.
const RECEIPT_BYTES: usize = 1024;

/// The longest that a remote may delay a file before it is asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The error for an answer that is neither a success nor a conflict.
pub(in crate::remote) fn refusal(what: &str, head: &response::Parts, text: &str) -> RemoteError {
    let mut detail = describe(what, head, text);
    if head.status == StatusCode::UNAUTHORIZED
        && let Some(wanted) = foreign_scheme(&head.headers)
    {
        detail = format!("{detail}; the server wants {wanted}, and Waybill can do only Basic and Bearer");
    }
    match head.status.as_u16() {
        // 202 where it is not enough, and a lock (423), are for now as well.
        202 | 408 | 423 | 425 | 429 | 500..=599 => RemoteError::Later { detail, after: retry_after(&head.headers) },
        _ => RemoteError::Refused(detail),
    }
}

/// Whether an answer says that everything was done. 202 only promises it, and 207 says something else of each part.
pub(in crate::remote) fn is_done(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT)
}

/// The authentication that a server wants, if it offers none that Waybill can do.
fn foreign_scheme(headers: &HeaderMap) -> Option<&'static str> {
    let fields = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|field| field.to_str().ok());
    // A field may have several challenges. Each begins with the name of its scheme.
    let offered: Vec<_> =
        fields.flat_map(|field| field.split(',')).filter_map(|part| part.split_whitespace().next()).collect();
    let offers = |scheme: &&str| offered.iter().any(|found| found.eq_ignore_ascii_case(scheme));
    if ["Basic", "Bearer"].iter().any(offers) {
        return None;
    }
    ["Digest", "Negotiate", "NTLM"].into_iter().find(offers)
}

/// Describes an answer, for people.
pub(in crate::remote) fn describe(what: &str, head: &response::Parts, text: &str) -> String {
    let mut described = format!("{what}: answered {}", head.status);
    match &*said(&without_markup(text)) {
        "" => {}
        text => described.push_str(&format!(": {text}")),
    }
    let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    if head.status == StatusCode::UNAUTHORIZED
        && let Some(wanted) = field(header::WWW_AUTHENTICATE)
    {
        described.push_str(&format!("; WWW-Authenticate: {}", said(wanted)));
    }
    if head.status.is_redirection()
        && let Some(to) = field(header::LOCATION)
    {
        described.push_str(&format!("; Location: {}", said(&without_secrets(to))));
    }
    described
}

/// An address without its query, which may hold a signature, and without a user and a password.
fn without_secrets(address: &str) -> String {
    let shown = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = shown.split_once("//") else { return shown.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}//{}{path}", host.rsplit('@').next().unwrap_or_default())
}

/// `Content-Length`.
pub(in crate::remote) fn length(head: &response::Parts) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `ETag`, as the server wrote it.
pub(in crate::remote) fn etag(head: &response::Parts) -> Option<String> {
    for_receipt(head.headers.get(header::ETAG)?.to_str().ok()?)
}

/// `x-amz-version-id`, as the server wrote it.
pub(in crate::remote) fn version(head: &response::Parts) -> Option<String> {
    for_receipt(head.headers.get("x-amz-version-id")?.to_str().ok()?)
}

/// The checksum in a field, as the server wrote it.
pub(in crate::remote) fn checksum(head: &response::Parts, field: &'static str) -> Option<RemoteChecksum> {
    checksum_of(field, head.headers.get(field)?.to_str().ok()?)
}

/// A checksum for the receipt, whether it came in `field` or in the text of the answer.
pub(in crate::remote) fn checksum_of(field: &str, value: &str) -> Option<RemoteChecksum> {
    Some(RemoteChecksum { field: field.to_owned(), value: for_receipt(value)? })
}

/// A value for the receipt, unless it is too long.
pub(in crate::remote) fn for_receipt(value: &str) -> Option<String> {
    (value.len() <= RECEIPT_BYTES).then(|| value.to_owned())
}

/// `Date`: when the server answered, by its own clock.
pub(in crate::remote) fn answered_at(headers: &HeaderMap) -> Option<SystemTime> {
    parse_http_date(headers.get(header::DATE)?.to_str().ok()?.trim()).ok()
}

/// Whether an answer's content is text for people, as far as its media type says so.
pub(in crate::remote) fn is_text(head: &response::Parts) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
        kind.starts_with("text/") || kind.contains("json") || kind.contains("xml")
    })
}

/// The bytes as text; empty if they are not UTF-8.
pub(in crate::remote) fn as_text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Only the last character is cut.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    }
}

/// `Retry-After` as a duration. The server gives seconds or a date; a date counts from the answer's own `Date` if it
/// has one, so that the two clocks need not agree.
#[expect(clippy::disallowed_methods, reason = "a date without the answer's own `Date` is compared with our clock")]
pub(in crate::remote) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry_after_at(headers, SystemTime::now())
}

fn retry_after_at(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let wanted = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let span = match wanted.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = parse_http_date(wanted).ok()?;
            until.duration_since(answered_at(headers).unwrap_or(now)).unwrap_or_default()
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn after(fields: &[(HeaderName, &str)]) -> Option<Duration> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        // Sun, 06 Nov 1994 08:49:00 GMT
        retry_after_at(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_740))
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(header::RETRY_AFTER, "120")]), Some(Duration::from_secs(120)));
        for date in [date, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(after(&[(header::RETRY_AFTER, date)]), Some(Duration::from_secs(37)), "{date}");
        }
        assert_eq!(after(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:48:59 GMT")]), Some(Duration::ZERO));
        let skewed = [(header::RETRY_AFTER, date), (header::DATE, "Sun, 06 Nov 1994 08:49:30 GMT")];
        assert_eq!(after(&skewed), Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_unreadable_or_endless_retry_after() {
        for text in ["", "-1", "soon", "Sun, 06 Nov 1994", "Sun, 31 Feb 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"] {
            assert_eq!(after(&[(header::RETRY_AFTER, text)]), None, "{text:?}");
        }
        assert_eq!(after(&[(header::RETRY_AFTER, "18446744073709551615")]), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn an_authentication_that_is_not_ours_is_named() {
        let wanted = |fields: &[&str]| {
            let fields = fields.iter().map(|value| (header::WWW_AUTHENTICATE, value.parse().unwrap()));
            foreign_scheme(&fields.collect())
        };
        assert_eq!(wanted(&[]), None);
        assert_eq!(wanted(&["digest realm=\"a\", qop=\"auth\", nonce=\"Basic\""]), Some("Digest"));
        assert_eq!(wanted(&["Negotiate", "NTLM"]), Some("Negotiate"));
        for ours in [&["Digest realm=\"a\", Basic realm=\"b\""][..], &["Digest realm=\"a\"", "basic"], &["Bearer"]] {
            assert_eq!(wanted(ours), None, "{ours:?}");
        }
    }

    #[test]
    fn texts_that_are_not_utf_8_are_left_out() {
        assert_eq!(as_text(b"\xff\xfe\x00"), "");
        // The last character is cut.
        assert_eq!(as_text("yä".as_bytes().split_last().unwrap().1), "y");
    }

    #[test]
    fn an_answer_is_described_with_what_explains_it() {
        let described = |status: u16, fields: &[(HeaderName, &str)], text: &str| {
            let mut answer = hyper::Response::builder().status(status);
            for (name, value) in fields {
                answer = answer.header(name, *value);
            }
            describe("PUT x", &answer.body(()).unwrap().into_parts().0, text)
        };
        let wants = [(header::WWW_AUTHENTICATE, "Digest realm=\"in\"")];
        assert_eq!(
            described(401, &wants, ""),
            "PUT x: answered 401 Unauthorized; WWW-Authenticate: Digest realm=\"in\""
        );
        assert_eq!(described(403, &wants, "<p>no"), "PUT x: answered 403 Forbidden: no");
        let to = [(header::LOCATION, "https://ada:hush@host/y@z?signature=hush")];
        assert_eq!(described(302, &to, ""), "PUT x: answered 302 Found; Location: https://host/y@z");
        let long = "n".repeat(300_000);
        assert!(described(307, &[(header::LOCATION, &long)], &long).len() < 2048);
    }
}
