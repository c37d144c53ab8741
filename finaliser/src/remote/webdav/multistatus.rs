//! The XML of PROPFIND (RFC 4918, sections 9.1 and 13).

use percent_encoding::percent_decode_str;

use crate::remote::said::said;
use crate::remote::wire::xml::{self, Element};

/// Asks only for the property that tells whether a resource is a collection.
pub(super) const PROPFIND: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <propfind xmlns=\"DAV:\"><prop><resourcetype/></prop></propfind>\n";

/// What a server says about one resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The last segment of its path, decoded. Empty for the root.
    pub(super) name: String,
    /// Whether it is a collection.
    pub(super) is_collection: bool,
}

/// The resources in an answer to PROPFIND. A long list is read off the threads that serve connections.
pub(super) async fn members(answer: Vec<u8>) -> Result<Vec<Member>, String> {
    let reading = tokio::task::spawn_blocking(move || read(&answer));
    // Reading does not panic, so an error means that the runtime is shutting down.
    reading.await.unwrap_or_else(|_| Err("we are stopping".into()))
}

fn read(answer: &[u8]) -> Result<Vec<Member>, String> {
    let text = std::str::from_utf8(answer).map_err(|error| format!("expected UTF-8: {error}"))?;
    let root = xml::read(text)?;
    if !root.is_dav("multistatus") {
        return Err(format!("expected a multistatus of WebDAV, found {:?}", said(root.name())));
    }
    Ok(all(&root, "response").filter_map(member).collect())
}

fn member(response: &Element) -> Option<Member> {
    // A resource with such a status does not exist.
    if text(response, "status").is_some_and(|status| !is_success(status)) {
        return None;
    }
    let path = text(response, "href")?.trim().trim_end_matches('/');
    let name = percent_decode_str(path.rsplit('/').next()?).decode_utf8().ok()?.into_owned();
    let known = all(response, "propstat").filter(|found| text(found, "status").is_none_or(is_success));
    let kinds = known.flat_map(|found| all(found, "prop")).flat_map(|prop| all(prop, "resourcetype"));
    let is_collection = kinds.flat_map(|kind| all(kind, "collection")).next().is_some();
    Some(Member { name, is_collection })
}

/// `HTTP/1.1 200 OK`
fn is_success(status: &str) -> bool {
    status.split_whitespace().nth(1).is_some_and(|code| code.starts_with('2'))
}

fn text<'a>(element: &'a Element, name: &'static str) -> Option<&'a str> {
    all(element, name).next()?.text()
}

fn all<'a>(element: &'a Element, name: &'static str) -> impl Iterator<Item = &'a Element> {
    element.children().iter().filter(move |child| child.is_dav(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(xml: &str) -> Result<Vec<(String, bool)>, String> {
        Ok(read(xml.as_bytes())?.into_iter().map(|member| (member.name, member.is_collection)).collect())
    }

    #[test]
    fn names_and_kinds_are_read_with_any_prefix() {
        let xml = "<?xml version=\"1.0\"?><a:multistatus xmlns:a=\"DAV:\" xmlns:b=\"urn:b\">
            <a:response><a:href>http://host/in/</a:href><a:propstat><a:prop><a:resourcetype><a:collection/></a:resourcetype>
                </a:prop><a:status>HTTP/1.1 200 OK</a:status></a:propstat></a:response>
            <response xmlns=\"DAV:\"><href> /in/a%20b%2fc&amp;d </href><propstat><prop><resourcetype/></prop>
                <status>HTTP/1.1 200 OK</status></propstat></response>
            <a:response><a:href>/in/none</a:href><a:propstat><a:prop><a:resourcetype><a:collection/></a:resourcetype>
                </a:prop><a:status>HTTP/1.1 404 Not Found</a:status></a:propstat></a:response>
            <a:response><a:href>/in/gone</a:href><a:status>HTTP/1.1 404 Not Found</a:status></a:response>
            <a:response><a:href>/in/else</a:href><a:propstat><a:prop><a:resourcetype><b:collection/></a:resourcetype>
                </a:prop><a:status>HTTP/1.1 200 OK</a:status></a:propstat></a:response>
            <b:response><a:href>/in/other</a:href></b:response></a:multistatus>";
        let expected = [("in", true), ("a b/c&d", false), ("none", false), ("else", false)];
        assert_eq!(found(xml).unwrap(), expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(found("<multistatus xmlns=\"DAV:\"/>").unwrap(), []);
    }

    #[test]
    fn anything_but_a_multistatus_is_an_error() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><multistatus xmlns=\"DAV:\">&b;</multistatus>";
        for xml in ["", "nonsense", "<multistatus/>", "<a xmlns=\"DAV:\"/>", "<multistatus xmlns=\"DAV:\">", bomb] {
            assert!(found(xml).is_err(), "{xml}");
        }
        let long = found(&format!("<{}/>", "n".repeat(4 << 20))).unwrap_err();
        assert!(long.len() < 1024, "{} bytes", long.len());
        assert!(read(b"<multistatus xmlns=\"DAV:\">\xff</multistatus>").is_err());
    }
}
