//! The words of one line of keepalived.conf(5), and the second grammar, in which commands are read.

/// The line without its comment: `#` and `!` begin one anywhere, except in double quotes and behind a backslash, which then
/// vanishes.
pub(super) fn without_comment(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let (mut in_quotes, mut chars) = (false, line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(mark @ ('#' | '!')) if !in_quotes => kept.push(mark),
                Some(next) => kept.extend([c, next]),
                None => kept.push(c),
            },
            '#' | '!' if !in_quotes => break,
            _ => {
                in_quotes ^= c == '"';
                kept.push(c);
            }
        }
    }
    kept
}

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Words.
    Words(&'a str),
    /// `{`.
    Open,
    /// `}`.
    Close,
}

/// The line in parts: outside double quotes, a brace is a part of its own, even within a word.
pub(super) fn pieces(line: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut start, mut in_quotes) = (Vec::new(), 0, false);
    let mut name_end = 0;
    for (at, c) in line.char_indices() {
        let piece = match c {
            '"' => {
                in_quotes = !in_quotes;
                continue;
            }
            // The name of an unknown definition.
            '$' if line[at + 1..].starts_with('{') && !in_quotes => {
                name_end = line[at..].find('}').map_or(at, |length| at + length + 1);
                continue;
            }
            '{' if !in_quotes && at >= name_end => Piece::Open,
            '}' if !in_quotes && at >= name_end => Piece::Close,
            _ => continue,
        };
        push_words(&mut pieces, &line[start..at]);
        pieces.push(piece);
        start = at + 1;
    }
    push_words(&mut pieces, &line[start..]);
    pieces
}

fn push_words<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    let text = text.trim_matches(is_blank);
    if !text.is_empty() {
        pieces.push(Piece::Words(text));
    }
}

/// What separates words; a no-break space does not.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Whether a definition may have this name.
pub(super) fn is_name(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.chars().all(is_part) && word.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

/// The words of a text: double quotes make one word, and end the word before it.
pub(super) fn words(text: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches(is_blank);
        let (word, behind) = match rest.strip_prefix('"') {
            _ if rest.is_empty() => return words,
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(|c| is_blank(c) || c == '"').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = behind;
    }
}

/// The words of a command: both kinds of quotes, adjacent parts form one word, and a backslash begins an escape.
pub(super) fn command_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = escape(&mut chars);
                word.get_or_insert_default().extend(escaped);
            }
            (_, Some(mark)) if c == mark => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if is_blank(c) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The character behind a backslash: `\a \b \E \f \n \r \t \v`, `\nnn` in octal, `\xHH`, `\cX`, otherwise itself.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars>) -> Option<char> {
    let first = chars.next()?;
    Some(match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'E' => '\u{1b}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => number(chars, 8, 2, first.to_digit(8)?),
        'x' => number(chars, 16, usize::MAX, 0),
        'c' => char::from(u8::try_from(chars.next()?).ok()? & 0x1f),
        other => other,
    })
}

/// Further digits, up to a number of them; the lowest byte counts.
fn number(chars: &mut std::iter::Peekable<std::str::Chars>, radix: u32, digits: usize, first: u32) -> char {
    let mut value = first;
    for _ in 0..digits {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
        value = (value * radix + digit) & 0xff;
        chars.next();
    }
    char::from(u8::try_from(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_anywhere_but_in_quotes_and_behind_a_backslash() {
        let cases = [
            ("a#b", "a"),
            ("a!b", "a"),
            (r#"path "/a#b!c" # d"#, r#"path "/a#b!c" "#),
            (r"a\#b\!c", "a#b!c"),
            (r#"'a#b'"#, "'a"),
            (r#"# "open"#, ""),
            ("a \"b\\\"#c\" d", "a \"b\\\"#c\" d"),
            (r"a\", r"a\"),
            (r"a\b#c", r"a\b"),
        ];
        for (line, expected) in cases {
            assert_eq!(without_comment(line), expected, "{line}");
        }
    }

    #[test]
    fn braces_are_parts_of_their_own_outside_quotes() {
        use Piece::{Close, Open, Words};
        assert_eq!(pieces("vs 80{"), [Words("vs 80"), Open]);
        assert_eq!(pieces("{weight 3}}"), [Open, Words("weight 3"), Close, Close]);
        assert_eq!(pieces(r#"a "{b}" {"#), [Words(r#"a "{b}""#), Open]);
        assert_eq!(pieces("TCP_CHECK {}"), [Words("TCP_CHECK"), Open, Close]);
        assert_eq!(pieces("a ${X} {"), [Words("a ${X}"), Open]);
        assert_eq!(pieces("a ${X"), [Words("a $"), Open, Words("X")]);
        assert_eq!(pieces(" \t"), []);
    }

    #[test]
    fn double_quotes_make_one_word_and_end_the_one_before() {
        assert_eq!(words(r#"a"b c" d"#), ["a", "b c", "d"]);
        assert_eq!(words(r#"a "" "b"#), ["a", "", "b"]);
        assert_eq!(words("a 'b c'"), ["a", "'b", "c'"]);
        assert_eq!(words("lb_algo\u{a0}wrr"), ["lb_algo\u{a0}wrr"]);
    }

    #[test]
    fn a_command_has_both_quotes_and_escapes() {
        assert_eq!(command_words(r#"x "/a 'b c' d" www"#), ["x", "/a 'b c' d", "www"]);
        assert_eq!(command_words(r#"/a 'b c'd"e f" \"g\x41\101\n"#), ["/a", "b cde f", "\"gAA\n"]);
        assert_eq!(command_words(r"\cA\t\q\E"), ["\u{1}\tq\u{1b}"]);
        assert_eq!(command_words("a '' \"\""), ["a", "", ""]);
        assert_eq!(command_words(r"\a\b\f\r\v\0012"), ["\u{7}\u{8}\u{c}\r\u{b}\u{1}2"]);
        assert_eq!(command_words(r"a\"), ["a"]);
    }
}
