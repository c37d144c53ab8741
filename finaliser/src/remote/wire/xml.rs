//! Reading XML that a server has written.

use std::borrow::Cow;

use roxmltree::{Document, ParsingOptions};

/// The most nodes of a document. An answer of 4 MiB has fewer unless it consists only of tags. This many take about 40
/// MB.
const NODES: u32 = 400_000;

/// The text with U+FFFD for every character, written plainly or as a reference, that XML 1.0 forbids. S3 quotes keys, and a
/// key may have such characters; the rest of the answer is readable all the same.
pub(in crate::remote) fn legal(text: &str) -> Cow<'_, str> {
    if !text.contains("&#") && text.chars().all(is_legal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let (taken, legal) = match reference(rest) {
            Some((length, named)) => (length, named.is_some_and(is_legal)),
            None => (character.len_utf8(), is_legal(character)),
        };
        out.push_str(if legal { &rest[..taken] } else { "\u{FFFD}" });
        rest = &rest[taken..];
    }
    Cow::Owned(out)
}

/// The length of the character reference that the text begins with, and the character that it names.
fn reference(text: &str) -> Option<(usize, Option<char>)> {
    let digits = text.strip_prefix("&#")?.split_once(';')?.0;
    let (digits, radix) = digits.strip_prefix('x').map_or((digits, 10), |digits| (digits, 16));
    let code = u32::from_str_radix(digits, radix).ok()?;
    Some((text.find(';')? + 1, char::from_u32(code)))
}

/// `Char` of XML 1.0, section 2.2.
const fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// Reads a document, or says what is wrong with it.
pub(in crate::remote) fn document(text: &str) -> Result<Document<'_>, String> {
    // No DTD: it is of no use here, and its entities could expand without end.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    // A server that takes long to answer may send white space first, to show that it is alive.
    Document::parse_with_options(text.trim_start(), options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_do_not_make_an_answer_unreadable() {
        for (text, expected) in [
            ("<K>a&amp;b&#65;&#x41;\t</K>", "<K>a&amp;b&#65;&#x41;\t</K>"),
            ("<K>a&#x1;b&#0;c&#xFFFE;\u{1}</K>", "<K>a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}</K>"),
            ("<K>&#xD800;&#;&#x</K>", "<K>\u{FFFD}&#;&#x</K>"),
        ] {
            assert_eq!(legal(text), expected);
        }
        assert!(document("<K>a&#x1;</K>").is_err() && document(&legal("<K>a&#x1;</K>")).is_ok());
    }
}
