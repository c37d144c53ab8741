//! What a remote says, in words that are safe to keep: the one way in which its text gets into an error, a record, an
//! event or the log.

use contract::is_hidden;

/// The most bytes of a remote's text. An error has two or three of them, and an event has room for 64 KiB.
const SAID_BYTES: usize = 512;

/// The beginning of a remote's text, on one line, with its control characters and invisible ones escaped.
pub(super) fn said(text: &str) -> String {
    let mut out = String::new();
    let mut words = text.split(|c: char| c.is_whitespace()).filter(|word| !word.is_empty());
    let mut word = words.next();
    while let Some(current) = word {
        for character in current.chars() {
            let before = out.len();
            match character {
                c if is_hidden(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
            if out.len() > SAID_BYTES {
                out.truncate(before);
                out.push('…');
                return out;
            }
        }
        word = words.next();
        if word.is_some() {
            out.push(' ');
        }
    }
    out
}

/// The text of a page of HTML or XML without its markup, as far as it is one. Nothing but markup stays as it is.
pub(super) fn without_markup(text: &str) -> String {
    if !text.trim_start().starts_with('<') {
        return text.to_owned();
    }
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, markup)) = rest.split_once('<') {
        plain.push_str(before);
        plain.push(' ');
        rest = after_markup(markup);
    }
    plain.push_str(rest);
    if plain.trim().is_empty() {
        return text.to_owned();
    }
    [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(plain, |plain, (entity, character)| plain.replace(entity, character))
}

/// What follows a piece of markup, which is given without its `<`. Scripts and styles belong to the markup.
fn after_markup(markup: &str) -> &str {
    let beyond = |end: &str| markup.split_once(end).map_or("", |(_, rest)| rest);
    let is = |name: &str| markup.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if let Some(comment) = markup.strip_prefix("!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    match () {
        () if is("script") => beyond("</script>"),
        () if is("style") => beyond("</style>"),
        () => beyond(">"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_plain_and_on_one_line() {
        assert_eq!(said(" no\r\n\x1b[31m such\tuser\0 "), "no \\u{1b}[31m such user\\u{0}");
        assert_eq!(said("a\u{202E}b\u{2028}c"), "a\\u{202e}b c");
        assert_eq!(said(""), "");
        assert_eq!(said(&"x".repeat(SAID_BYTES)), "x".repeat(SAID_BYTES));
        for long in ["x".repeat(4 << 20), "ä".repeat(SAID_BYTES), "\0".repeat(SAID_BYTES), "a ".repeat(SAID_BYTES)] {
            let cut = said(&long);
            assert!(cut.ends_with('…') && cut.len() <= SAID_BYTES + '…'.len_utf8(), "{cut}");
        }
    }

    #[test]
    fn markup_is_no_text() {
        let page = "<!DOCTYPE html><html><head><title>403 Forbidden</title><style>a { b }</style>\n\
            <SCRIPT>if (a < b) { c }</script></head><body><!-- no <b> --><h1 class=\"x\">Not &lt;you&gt; &amp;</h1></body>";
        assert_eq!(said(&without_markup(page)), "403 Forbidden Not <you> &");
        assert_eq!(without_markup("a < b, says the proxy"), "a < b, says the proxy");
        assert_eq!(without_markup("<D:error><D:locked/></D:error>"), "<D:error><D:locked/></D:error>");
        assert_eq!(said(&without_markup("<html><p>cut in a <ta")), "cut in a");
    }
}
