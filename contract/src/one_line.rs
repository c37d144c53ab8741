//! Text that others wrote (names, paths, what a remote says), made fit for one line of a log or a terminal.

/// At most `length` characters of `text`, the last of them `…` if there are more. Hidden characters are written as
/// escapes.
pub fn one_line(text: &str, length: usize) -> String {
    // Nearly every text: each line of a log comes through here.
    if !text.contains(is_hidden) && text.chars().count() <= length {
        return text.to_owned();
    }
    let mut line = String::new();
    let mut left = length;
    for character in text.chars() {
        let shown: String = if is_hidden(character) { character.escape_default().collect() } else { character.into() };
        let needed = shown.chars().count();
        if needed > left {
            // Makes room for the `…`.
            while line.chars().count() + 1 > length {
                line.pop();
            }
            line.push('…');
            return line;
        }
        left -= needed;
        line.push_str(&shown);
    }
    line
}

/// As [`one_line`] for a text that may have several lines, such as what a parser says about a file. Those after the
/// first are indented, so that none looks like a line of ours.
pub fn indented(text: &str, length: usize) -> String {
    text.lines().map(|line| one_line(line, length)).collect::<Vec<_>>().join("\n    ")
}

/// Whether a character shows nothing of itself, but ends a line, commands a terminal, or changes how the text around it
/// reads: the control characters, and Unicode's line ends, marks of direction and characters without width.
pub const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// JSON with its hidden characters as `\u....`, which means the same: they occur only within strings. Line ends between
/// values stay.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii_whitespace() || !is_hidden(character) {
            plain.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            plain.push_str(&format!("\\u{unit:04x}"));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_shortened() {
        assert_eq!(one_line("grüße", 5), "grüße");
        assert_eq!(one_line("grüße", 4), "grü…");
        assert_eq!(one_line("a\nb\u{1b}[2J", 20), "a\\nb\\u{1b}[2J");
        assert_eq!(one_line("ab\n", 3), "ab…");
        assert_eq!(one_line("", 0), "");
    }

    #[test]
    fn nothing_hides_and_nothing_else_changes() {
        for hidden in ["\r", "\u{85}", "\u{202e}", "\u{2066}", "\u{2028}", "\u{2029}", "\u{200b}", "\u{feff}"] {
            let shown = one_line(&format!("a{hidden}b"), 20);
            assert!(!shown.contains(hidden) && shown.starts_with("a\\"), "{shown:?}");
        }
        // A mark that combines with the letter before it, as macOS writes names.
        for plain in ["gru\u{308}ße", "名前", "חוזה.pdf", "a\\b", "\"q\" 'q'", "🗂 1"] {
            assert_eq!(one_line(plain, 20), plain);
        }
    }

    #[test]
    fn only_the_first_line_is_not_indented() {
        assert_eq!(indented("expected x\r\n 3 | y\u{202e}\n", 20), "expected x\n     3 | y\\u{202e}");
    }

    #[test]
    fn plain_json_means_the_same() {
        let text = "\n\u{7f}\u{202e}\u{e0041}ü\\\"";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let plain = plain_json(&json);
        assert!(plain.contains("\\u202e\\udb40\\udc41ü") && plain.lines().count() == 3, "{plain}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&plain).unwrap(), [text]);
    }
}
