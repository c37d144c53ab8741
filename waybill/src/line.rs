//! Text that others wrote, made fit for one line of a terminal.

/// At most `length` characters of `text`, the last of them `…` if there are more. Control characters, such as a line end, are
/// written as escapes.
pub(crate) fn one_line(text: &str, length: usize) -> String {
    let mut line = String::new();
    let mut left = length;
    for character in text.chars() {
        let shown: String =
            if character.is_control() { character.escape_default().collect() } else { character.into() };
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
}
