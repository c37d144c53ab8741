//! What the answers of S3 mean.

use hyper::StatusCode;
use hyper::http::response;

use crate::remote::RemoteError;
use crate::remote::wire::answer;
use crate::remote::wire::xml::{self, Element};

/// The text of the first element of that name in an answer, at any depth; `None` if the answer is not XML.
pub(super) fn element(text: &str, name: &str) -> Option<String> {
    element_of(&xml::read(text).ok()?, name)
}

/// The text of the first element of that name in an element. Namespaces are ignored: not every server declares that of
/// S3.
pub(super) fn element_of(element: &Element, name: &str) -> Option<String> {
    all(element, name).next()?.text().map(str::to_owned)
}

/// The elements of that name in an element.
pub(super) fn all<'a>(element: &'a Element, name: &str) -> impl Iterator<Item = &'a Element> {
    element.all().filter(move |found| found.name() == name)
}

/// Whether an answer reports an error, whatever its status.
pub(super) fn is_error(text: &str) -> bool {
    xml::read(text).is_ok_and(|root| all(&root, "Error").next().is_some())
}

/// The error for an answer that is neither a success nor a conflict. Its code says more than its status.
pub(super) fn failure(what: &str, head: &response::Parts, text: &str) -> RemoteError {
    let detail = describe(what, head, text);
    match element(text, "Code").as_deref() {
        Some(
            // Our clock, our pace or our credentials: each may be right at the next attempt.
            "RequestTimeTooSkewed"
            | "RequestTimeout"
            | "ExpiredToken"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "InternalError"
            | "SlowDown"
            | "ServiceUnavailable"
            // A new bucket has no name of its own yet in every region.
            | "TemporaryRedirect",
        ) => RemoteError::Later { detail, after: answer::retry_after(&head.headers) },
        Some("NotImplemented") => {
            RemoteError::Refused(format!("{detail}; without `conditional` or `checksums` it may take the file"))
        }
        // As above, in the answer to a HEAD.
        _ if head.status == StatusCode::TEMPORARY_REDIRECT => RemoteError::Later { detail, after: None },
        _ => match answer::refusal(what, head, text) {
            RemoteError::Later { after, .. } => RemoteError::Later { detail, after },
            _ => RemoteError::Refused(detail),
        },
    }
}

/// Describes an answer, for people.
pub(super) fn describe(what: &str, head: &response::Parts, text: &str) -> String {
    let said = [element(text, "Code"), element(text, "Message")];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let said = answer::describe(what, head, if said.is_empty() { text } else { &said });
    match head.status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::BAD_REQUEST => match region(head) {
            Some(region) => format!("{said}; the bucket is in the region {region:?}: set `region` to that"),
            None => said,
        },
        _ => said,
    }
}

/// The region of the bucket, as the answer names it.
fn region(head: &response::Parts) -> Option<&str> {
    let region = head.headers.get("x-amz-bucket-region")?.to_str().ok()?;
    let is_region = region.len() <= 64 && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_region.then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_by_its_name() {
        let xml = "<?xml version=\"1.0\"?><A xmlns=\"x\"><Key>k</Key><UploadId>a&amp;lt;b&quot;</UploadId><E/></A>";
        for xml in [xml.to_owned(), format!("  \n{xml}"), xml.replace("xmlns", "xmlns:x")] {
            assert_eq!(element(&xml, "UploadId").as_deref(), Some("a&lt;b\""));
            assert_eq!(element(&xml, "Key").as_deref(), Some("k"));
            assert_eq!((element(&xml, "E"), element(&xml, "None")), (None, None));
        }
        for wrong in ["", "<Key>k", "<!DOCTYPE a [<!ENTITY k \"k\">]><Key>&k;</Key>", "Key: k"] {
            assert_eq!(element(wrong, "Key"), None, "{wrong}");
        }
    }

    #[test]
    fn an_error_element_is_an_error() {
        for (text, expected) in [("<Error><Code>c</Code></Error>", true), ("<R><ETag>e</ETag></R>", false), ("", false)]
        {
            assert_eq!(is_error(text), expected, "{text}");
        }
    }
}
