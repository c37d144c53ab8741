//! Reading XML that a server has written: in one pass and within bounds, as the server may write what it likes.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, NamespaceResolver, ResolveResult};
use quick_xml::reader::Reader;

use crate::remote::said::said;

/// The most levels of elements. WebDAV and S3 need seven.
const DEPTH: usize = 32;

/// The most elements of a document: a list of 25,000 names has as many. They take about 40 MB.
const ELEMENTS: usize = 200_000;

/// The most attributes of one element. They are read only for the namespaces among them.
const ATTRIBUTES: usize = 32;

/// The most namespaces that are declared at once: each name with a prefix is looked for among them.
const NAMESPACES: usize = 32;

/// An element with what is in it.
#[derive(Debug, Default)]
pub(in crate::remote) struct Element {
    /// Without its prefix.
    name: String,
    /// Whether its namespace is that of WebDAV.
    is_dav: bool,
    text: String,
    children: Vec<Element>,
}

impl Element {
    pub(in crate::remote) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is WebDAV's element of that name.
    pub(in crate::remote) fn is_dav(&self, name: &str) -> bool {
        self.is_dav && self.name == name
    }

    /// Its own text; `None` if it has none.
    pub(in crate::remote) fn text(&self) -> Option<&str> {
        Some(&*self.text).filter(|text| !text.is_empty())
    }

    pub(in crate::remote) fn children(&self) -> &[Self] {
        &self.children
    }

    /// This element and all within it, in the order of the document. The recursion is no deeper than [`DEPTH`].
    pub(in crate::remote) fn all(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(std::iter::once(self).chain(self.children.iter().flat_map(Self::all)))
    }
}

/// Reads a document, or says what is wrong with it. The time is proportional to its length: a long one is still to be
/// read on a thread that may block.
///
/// A character that XML forbids, written plainly or as a reference, becomes U+FFFD: S3 quotes keys, and a key may have
/// such characters; the rest of the answer is readable all the same.
pub(in crate::remote) fn read(text: &str) -> Result<Element, String> {
    // A server that takes long to answer may send white space first, to show that it is alive.
    let mut reader = Reader::from_str(text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}'));
    reader.config_mut().expand_empty_elements = true;
    let mut namespaces = NamespaceResolver::default();
    namespaces.set_max_namespace_bindings(NAMESPACES);
    // The first stands for the document.
    let mut open = vec![Element::default()];
    let mut count = 0;
    loop {
        match reader.read_event().map_err(|error| said(&error.to_string()))? {
            Event::Start(tag) => {
                count += 1;
                if count > ELEMENTS || open.len() > DEPTH {
                    return Err(format!("expected at most {ELEMENTS} elements and {DEPTH} levels"));
                }
                open.push(begun(&tag, &mut namespaces)?);
            }
            Event::End(_) => {
                namespaces.pop();
                // The reader refuses an end without a beginning.
                let Some(ended) = open.pop() else { return Err("an element ends that did not begin".into()) };
                let Some(parent) = open.last_mut() else { return Err("an element ends that did not begin".into()) };
                parent.children.push(ended);
            }
            Event::Text(text) => add(&mut open, &text),
            Event::CData(text) => add(&mut open, &text),
            Event::GeneralRef(reference) => add(&mut open, &named(&reference)?),
            // Its entities could expand without end.
            Event::DocType(_) => return Err("expected no DTD".into()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    match <[Element; 1]>::try_from(open) {
        Ok([mut document]) if document.children.len() == 1 && document.text.trim().is_empty() => {
            Ok(document.children.remove(0))
        }
        Ok(_) => Err("expected one element, found none or more, or text".into()),
        Err(_) => Err("the document ends within an element".into()),
    }
}

fn begun(tag: &BytesStart<'_>, namespaces: &mut NamespaceResolver) -> Result<Element, String> {
    if tag.attributes().with_checks(false).take(ATTRIBUTES + 1).count() > ATTRIBUTES {
        return Err(format!("expected at most {ATTRIBUTES} attributes of an element"));
    }
    namespaces.push(tag).map_err(|error| said(&error.to_string()))?;
    let (namespace, name) = namespaces.resolve_element(tag.name());
    Ok(Element {
        name: name.as_ref().to_owned(),
        is_dav: namespace == ResolveResult::Bound(Namespace("DAV:")),
        ..Element::default()
    })
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.extend(text.chars().map(|c| if is_legal(c) { c } else { '\u{FFFD}' }));
    }
}

/// What a reference stands for.
fn named(reference: &BytesRef<'_>) -> Result<String, String> {
    if reference.is_char_ref() {
        let character = reference.resolve_char_ref().ok().flatten();
        return Ok(character.unwrap_or('\u{FFFD}').to_string());
    }
    let entity = resolve_predefined_entity(reference);
    entity.map(str::to_owned).ok_or_else(|| format!("expected no entity &{};", said(reference)))
}

/// `Char` of XML 1.0, section 2.2.
const fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_do_not_make_an_answer_unreadable() {
        for (text, expected) in [
            ("<K>a&amp;b&#65;&#x41;\t</K>", "a&bAA\t"),
            ("<K>a&#x1;b&#0;c&#xFFFE;\u{1}</K>", "a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}"),
            ("<K>&#xD800;<![CDATA[<&]]></K>", "\u{FFFD}<&"),
            (" \r\n\u{FEFF}<?xml version=\"1.0\"?><!-- no --><K>k</K>", "k"),
        ] {
            assert_eq!(read(text).unwrap().text(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
        for text in ["", " ", "a", "<a>", "</a>", "<a></b>", "<a/><b/>", "<a/>b", "<a>&b;</a>", "<a", "<a>b</a", bomb] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    /// A document may be as odd as it likes: reading it takes no longer than its length, and what is said of it is
    /// short.
    #[test]
    fn no_document_takes_long_or_much() {
        let many = |piece: &dyn Fn(usize) -> String| (0..300_000).map(piece).collect::<String>();
        let long = "n".repeat(4 << 20);
        let odd = [
            format!("<a {}/>", many(&|at| format!("a{at}='' "))),
            format!("<a {}/>", many(&|at| format!("xmlns:a{at}='u{at}' "))),
            format!("<a>{}</a>", many(&|at| format!("<b xmlns:a{at}='{at}'>"))),
            format!("{}{}", "<a>".repeat(300_000), "</a>".repeat(300_000)),
            format!("<a>{}</a>", "<b/>".repeat(ELEMENTS + 1)),
            format!("<{long}>"),
            format!("<a></{long}>"),
            format!("<a>&{long};</a>"),
        ];
        for text in odd {
            let began = std::time::Instant::now();
            let why = read(&text).unwrap_err();
            assert!(why.len() < 2048, "{} bytes", why.len());
            // Milliseconds here; once it was minutes.
            assert!(began.elapsed().as_secs() < 20, "{:?} for {}", began.elapsed(), &text[..20]);
        }
        // As many as are allowed, with namespaces of their own, as Apache writes them.
        let names = (0..ELEMENTS - 1).map(|at| format!("<b xmlns:a='{at}' xmlns:b='DAV:'/>")).collect::<String>();
        let root = read(&format!("<a>{names}</a>")).unwrap();
        assert_eq!(root.all().count(), ELEMENTS);
    }
}
