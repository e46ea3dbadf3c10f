//! Escapes a log line, so that a name from a packet, a file or a request cannot move the cursor, begin another line or
//! change the direction of the text.

use crate::config::kinds::is_misleading;

/// The line with every control character and every character that changes the direction of text as an escape such as
/// `\u001b`, which JSON reads too. The newline at its end stays, and so do escape characters if the line has colours.
pub(super) fn escaped(line: &[u8], has_colours: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*text, ""),
    };
    let is_hidden = |c: char| is_misleading(c) && !(has_colours && c == '\x1b');
    if !text.contains(is_hidden) {
        return [text.as_bytes(), end.as_bytes()].concat();
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown.push_str(end);
    shown.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, has_colours: bool) -> String {
        String::from_utf8(escaped(line.as_bytes(), has_colours)).unwrap()
    }

    #[test]
    fn nothing_in_a_line_begins_another_or_turns_it_around() {
        assert_eq!(shown("INFO web: gestört 例\n", false), "INFO web: gestört 例\n");
        assert_eq!(shown("a\nINFO forged\n", false), "a\\u000aINFO forged\n");
        assert_eq!(shown("a\u{202e}b\u{2066}c\u{200f}d\u{61c}", false), "a\\u202eb\\u2066c\\u200fd\\u061c");
        assert_eq!(shown("\u{2028}\u{85}\u{7f}\t\n", false), "\\u2028\\u0085\\u007f\\u0009\n");
        assert_eq!(shown("\x1b[32mINFO\x1b[0m\r\n", true), "\x1b[32mINFO\x1b[0m\\u000d\n");
        assert_eq!(shown("\x1b[2J\n", false), "\\u001b[2J\n");
        assert_eq!(escaped(b"\xff\n", false), "\u{fffd}\n".as_bytes());
    }

    #[test]
    fn a_json_line_stays_json_with_the_same_text() {
        let line = format!("{}\n", serde_json::json!({"message": "a\u{202e}b\u{85}"}));
        let escaped = shown(&line, false);
        assert!(escaped.is_ascii(), "{escaped}");
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["message"], "a\u{202e}b\u{85}");
    }
}
