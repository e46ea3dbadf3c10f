//! The prose of a Rust file: its comments, its texts of several words, and the names of its tests.

/// One comment, text or name, and the line on which it begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub line: usize,
    pub text: String,
}

/// Every piece of prose in its order.
pub fn prose(source: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut comment: Option<(&str, usize)> = None;
    let (mut rest, mut line, mut is_test) = (source, 1, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => {
                let text = rest.lines().next().unwrap_or_default();
                let mark = mark_of(text);
                let words = text[mark.len()..].trim();
                match pieces.last_mut().filter(|_| comment == Some((mark, line - 1))) {
                    Some(block) => block.text.push_str(&format!("\n{words}")),
                    None => pieces.push(Piece { line, text: words.to_owned() }),
                }
                comment = Some((mark, line));
                text.len()
            }
            '"' => {
                let (text, length) = quoted(rest);
                pieces.extend(text.contains(' ').then(|| Piece { line, text: without_names(text) }));
                length
            }
            'r' if raw(rest).is_some() => {
                let (text, length) = raw(rest).unwrap_or_default();
                pieces.extend(text.contains(' ').then(|| Piece { line, text: without_names(text) }));
                length
            }
            '\'' => character(rest),
            _ if first.is_alphanumeric() || first == '_' => {
                let word = word(rest);
                if let Some(name) = rest.strip_prefix("fn ").map(self::word).filter(|_| is_test) {
                    pieces.push(Piece { line, text: name.replace('_', " ") + "." });
                    is_test = false;
                }
                word.len()
            }
            '#' if rest.starts_with("#[test]") => {
                is_test = true;
                1
            }
            _ => first.len_utf8(),
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    pieces
}

/// `//!`, `///` or `//`.
fn mark_of(comment: &str) -> &str {
    ["//!", "///"].into_iter().find(|mark| comment.starts_with(mark)).unwrap_or("//")
}

fn word(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

/// The text between quotation marks, and the length with both.
fn quoted(rest: &str) -> (&str, usize) {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return (&rest[1..at], at + 1),
            _ => {}
        }
    }
    (&rest[1..], rest.len())
}

/// The text of `r#"…"#`, and the length of the whole.
fn raw(rest: &str) -> Option<(&str, usize)> {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let start = 1 + hashes;
    rest[start..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = rest[start + 1..].find(&end)?;
    Some((&rest[start + 1..start + 1 + length], start + 1 + length + end.len()))
}

/// The length of a character literal, or of the mark of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => rest[2..].find('\'').map_or(1, |end| if end == 0 { 4 } else { end + 3 }),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// A format string without the names in braces.
fn without_names(text: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0_usize);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 || c == '\n' => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[test]
fn comments_texts_and_test_names_are_prose_and_code_is_not() {
    let source = "//! One.\n//! Two.\n\nuse a::b; // three\n/// Four\n// five\nlet taken = 'x'; let a: &'static str = \
                  \"six {taken} seven\";\nlet c = '\\''; let d = r#\"eight \"nine\"\"#;\n#[test]\nfn ten_is_eleven() { \
                  fn twelve() {} }\nlet e = \"thirteen\"; let f = \"a \\\" b\";\n";
    let found: Vec<_> = prose(source).into_iter().map(|piece| (piece.line, piece.text)).collect();
    let expected = [
        (1, "One.\nTwo."),
        (4, "three"),
        (5, "Four"),
        (6, "five"),
        (7, "six  seven"),
        (8, "eight \"nine\""),
        (10, "ten is eleven."),
        (11, "a \\\" b"),
    ];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}
