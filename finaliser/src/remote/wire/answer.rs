use std::time::{Duration, SystemTime};

use contract::{RemoteChecksum, Timestamp};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::response;

use crate::remote::RemoteError;

/// How much of an answer's text is read.
pub(in crate::remote) const TEXT_BYTES: usize = 1024;

/// How much of it is shown.
const TEXT_CHARS: usize = 200;

/// What is longer is not kept: it goes into the receipt.
const KEPT_BYTES: usize = 1024;

/// No remote puts a file off for longer than that without being asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What an answer that is neither a success nor a clash means.
#[expect(clippy::disallowed_methods, reason = "Retry-After may be a date, which is compared with our clock")]
pub(in crate::remote) fn refusal(what: &str, head: &response::Parts, text: &str) -> RemoteError {
    let detail = describe(what, head, text);
    match head.status.as_u16() {
        408 | 425 | 429 | 500..=599 => {
            RemoteError::Later { detail, after: retry_after(&head.headers, SystemTime::now()) }
        }
        _ => RemoteError::Refused(detail),
    }
}

/// An answer in words, for people.
pub(in crate::remote) fn describe(what: &str, head: &response::Parts, text: &str) -> String {
    match text {
        "" => format!("{what}: answered {}", head.status),
        _ => format!("{what}: answered {}: {text}", head.status),
    }
}

/// `Content-Length`.
pub(in crate::remote) fn length(head: &response::Parts) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `ETag`, as it was written.
pub(in crate::remote) fn etag(head: &response::Parts) -> Option<String> {
    kept(head.headers.get(header::ETAG)?.to_str().ok()?)
}

/// `x-amz-version-id`, as it was written.
pub(in crate::remote) fn version(head: &response::Parts) -> Option<String> {
    kept(head.headers.get("x-amz-version-id")?.to_str().ok()?)
}

/// The checksum in a field, as it was written.
pub(in crate::remote) fn checksum(head: &response::Parts, field: &'static str) -> Option<RemoteChecksum> {
    checksum_of(field, head.headers.get(field)?.to_str().ok()?)
}

/// The checksum that an answer names, in a field or by another name in its text.
pub(in crate::remote) fn checksum_of(field: &str, value: &str) -> Option<RemoteChecksum> {
    Some(RemoteChecksum { field: field.to_owned(), value: kept(value)? })
}

/// Whatever a remote says of a file, unless it is too long for the receipt.
pub(in crate::remote) fn kept(value: &str) -> Option<String> {
    (value.len() <= KEPT_BYTES).then(|| value.to_owned())
}

/// `Date`: when the server answered, by its own clock, in milliseconds since 1970.
pub(in crate::remote) fn answered_at(head: &response::Parts) -> Option<i64> {
    date(head.headers.get(header::DATE)?.to_str().ok()?.trim())
}

/// Whether an answer's content is for people, as far as it says what it is.
pub(in crate::remote) fn is_text(head: &response::Parts) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
        kind.starts_with("text/") || kind.contains("json") || kind.contains("xml")
    })
}

/// The beginning of a text on one line, without control characters; nothing where it is no text.
pub(in crate::remote) fn plain(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES)];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return String::new(),
    };
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS).collect()
}

/// `Retry-After` as a span: seconds, or a date. A date counts from the answer's own `Date`, where it has one, so that the
/// two clocks need not agree.
pub(in crate::remote) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let wanted = text(header::RETRY_AFTER)?;
    let span = match wanted.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = date(wanted)?;
            let from = text(header::DATE).and_then(date).or_else(|| {
                let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
                i64::try_from(since_1970.as_millis()).ok()
            })?;
            Duration::from_millis(u64::try_from(until - from).unwrap_or(0))
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

/// Milliseconds since 1970 of an HTTP date in the form that servers must send (RFC 9110, section 5.6.7).
fn date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Timestamp::try_from(format!("{year}-{month:02}-{day}T{time}Z")).ok().map(Timestamp::as_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fields: &[(HeaderName, &str)]) -> Option<Duration> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        // Sun, 06 Nov 1994 08:49:00 GMT
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_740))
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(header::RETRY_AFTER, "120")]), Some(Duration::from_secs(120)));
        assert_eq!(after(&[(header::RETRY_AFTER, date)]), Some(Duration::from_secs(37)));
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
    fn texts_are_short_and_plain() {
        assert_eq!(plain(b" no\r\n\x1b[31m such\tuser\0 "), "no [31m such user");
        assert_eq!(plain(b"\xff\xfe\x00"), "");
        assert_eq!(plain("ä".repeat(2000).as_bytes()), "ä".repeat(TEXT_CHARS));
        // 1,023 bytes and half a character.
        assert_eq!(plain(format!("{}ä", "x ".repeat(511) + "y").as_bytes()).len(), TEXT_CHARS);
    }
}
