//! The parts of a shell script: commands, and the words of one with the values of variables.

use std::collections::BTreeMap;

/// A command of a line, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Counted from 0.
    pub(super) line: usize,
    pub(super) text: String,
}

/// Variables; `None`: the value is known only when the script runs.
pub(super) type Variables = BTreeMap<String, Option<String>>;

/// The commands of a text. A backslash at the end of a line continues it, and `#` begins a comment.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut open, mut line, mut start) = (String::new(), 0, 0);
    let (mut quote, mut chars) = (None::<char>, text.chars().peekable());
    while let Some(c) = chars.next() {
        let is_line_end = c == '\n';
        line += usize::from(is_line_end);
        match (c, quote) {
            ('\\', None | Some('"')) => match chars.next() {
                Some('\n') => {
                    line += 1;
                    open.push(' ');
                }
                Some(escaped) => open.extend(['\\', escaped]),
                None => {}
            },
            (mark, Some(open_mark)) if mark == open_mark => {
                quote = None;
                open.push(mark);
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                open.push(c);
            }
            ('#', None) if open.is_empty() || open.ends_with([' ', '\t']) => {
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            ('\n' | ';' | '|', None) => close(&mut pieces, &mut open, start),
            // `2>&1` and `&>` are no ends.
            ('&', None) if !open.ends_with(['>', '<']) && chars.peek() != Some(&'>') => {
                close(&mut pieces, &mut open, start);
            }
            _ => open.push(c),
        }
        if open.trim().is_empty() {
            start = line;
        }
    }
    close(&mut pieces, &mut open, start);
    pieces
}

fn close(pieces: &mut Vec<Piece>, open: &mut String, line: usize) {
    let text = open.trim_matches([' ', '\t', '\r']);
    if !text.is_empty() {
        pieces.push(Piece { line, text: text.to_owned() });
    }
    open.clear();
}

/// The words of a command, and what it is redirected from or to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    pub(super) redirections: Vec<String>,
}

/// A word has no more bytes: it is an address, or a list of flags.
const WORD_MAX: usize = 4_096;

/// The words with the values of variables; a value outside of quotes may be several words.
///
/// # Errors
/// What is known only when the script runs.
pub(super) fn words(text: &str, variables: &Variables) -> Result<Words, String> {
    let mut found = Words::default();
    let (mut word, mut quote, mut rest) = (None::<String>, None::<char>, text);
    let mut redirection = None::<String>;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('`', None | Some('"')) => return Err("the output of a command".to_owned()),
            ('$', None | Some('"')) => {
                let (value, after) = value(rest, variables)?;
                rest = after;
                let word_text = word.get_or_insert_default();
                if quote.is_some() {
                    word_text.push_str(&value);
                } else {
                    split(&value, &mut word, &mut found.words);
                }
            }
            ('\\', None | Some('"')) => {
                let escaped = rest.chars().next().unwrap_or('\\');
                rest = rest.get(escaped.len_utf8()..).unwrap_or_default();
                word.get_or_insert_default().push(escaped);
            }
            (mark, Some(open)) if mark == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => end(&mut word, &mut redirection, &mut found),
            ('<' | '>' | '&', None) if redirection.is_some() && word.is_none() => {
                redirection.get_or_insert_default().push(c);
            }
            ('<' | '>', None) if redirection.is_none() => {
                let number = word.take().filter(|word| !word.is_empty());
                match number {
                    Some(number) if number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'&') => {
                        redirection = Some(format!("{number}{c}"));
                    }
                    Some(other) => {
                        found.words.push(other);
                        redirection = Some(c.to_string());
                    }
                    None => redirection = Some(c.to_string()),
                }
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
        if word.as_ref().is_some_and(|word| word.len() > WORD_MAX) || found.words.len() > WORD_MAX {
            return Err("a word without end".to_owned());
        }
    }
    end(&mut word, &mut redirection, &mut found);
    Ok(found)
}

fn end(word: &mut Option<String>, redirection: &mut Option<String>, found: &mut Words) {
    let Some(word) = word.take() else { return };
    match redirection.take() {
        Some(operator) => found.redirections.push(format!("{operator}{word}")),
        None => found.words.push(word),
    }
}

/// Blanks in a value end the word.
fn split(value: &str, word: &mut Option<String>, words: &mut Vec<String>) {
    let is_blank = |c: char| c.is_ascii_whitespace();
    let mut parts = value.split(is_blank);
    word.get_or_insert_default().push_str(parts.next().unwrap_or_default());
    for part in parts {
        words.extend(word.take().filter(|word| !word.is_empty()));
        if !part.is_empty() {
            *word = Some(part.to_owned());
        }
    }
    if word.as_ref().is_some_and(String::is_empty) {
        *word = None;
    }
}

/// The value of the variable behind `$`, and what follows it.
fn value<'t>(text: &'t str, variables: &Variables) -> Result<(String, &'t str), String> {
    let unknown = |name: &str| format!("the value of ${name}");
    if let Some(inside) = text.strip_prefix('{') {
        let (name, after) = inside.split_once('}').ok_or("a brace without an end")?;
        let (name, default) = match name.split_once(":-").or_else(|| name.split_once('-')) {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        let value = match (variables.get(name), default) {
            (Some(Some(value)), _) => value.clone(),
            (None, Some(default)) if is_name(name) && !default.contains(['$', '`']) => {
                default.trim_matches(['"', '\'']).to_owned()
            }
            _ => return Err(unknown(&format!("{{{name}}}"))),
        };
        return Ok((value, after));
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    match (name, variables.get(name)) {
        ("", _) if text.starts_with('(') => Err("the output of a command".to_owned()),
        ("", _) => Err(unknown(&text.chars().take(1).collect::<String>())),
        (_, Some(Some(value))) => Ok((value.clone(), after)),
        _ => Err(unknown(name)),
    }
}

/// Whether a variable may have this name.
pub(super) fn is_name(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    word.chars().all(is_part) && word.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

/// `NAME=VALUE`.
pub(super) fn assignment(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        pieces(text).into_iter().map(|piece| (piece.line, piece.text)).collect()
    }

    #[test]
    fn commands_end_at_operators_outside_of_quotes() {
        let of = |line: usize, text: &str| (line, text.to_owned());
        assert_eq!(texts("a; b && c || d | e & f"), ["a", "b", "c", "d", "e", "f"].map(|text| of(0, text)));
        assert_eq!(texts("a 'x;y' \"z|#\" # c; d\nb#c"), [of(0, "a 'x;y' \"z|#\""), of(1, "b#c")]);
        assert_eq!(texts("a \\\n  b\n\nc"), [of(0, "a    b"), of(3, "c")]);
        assert_eq!(texts("a 2>&1 &>x; b >& y"), [of(0, "a 2>&1 &>x"), of(0, "b >& y")]);
        assert_eq!(texts("a\\;b\r\n# only\n"), [of(0, "a\\;b")]);
        assert_eq!(texts("a \"b\nc\"\nd"), [of(0, "a \"b\nc\""), of(2, "d")]);
    }

    fn variables() -> Variables {
        let known = [("A", "1"), ("LIST", " x  y "), ("EMPTY", ""), ("PROGRAM", "sudo ipvsadm")];
        let mut variables: Variables =
            known.into_iter().map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).collect();
        variables.insert("LATE".to_owned(), None);
        variables
    }

    #[test]
    fn words_have_the_values_of_variables() {
        let table: &[(&str, &[&str])] = &[
            ("a $A ${A}b \"$A c\" '$A'", &["a", "1", "1b", "1 c", "$A"]),
            ("$PROGRAM -A", &["sudo", "ipvsadm", "-A"]),
            ("a${LIST}b \"$LIST\"", &["a", "x", "y", "b", " x  y "]),
            ("$EMPTY a \"$EMPTY\" \"\"", &["a", "", ""]),
            ("${NONE:-7} ${A:-7} ${NONE-8} ${B_1:-\"9\"}", &["7", "1", "8", "9"]),
            ("\\$A a\\ b \"\\\"\"", &["$A", "a b", "\""]),
            ("$A:80 $A", &["1:80", "1"]),
        ];
        for (text, expected) in table {
            assert_eq!(
                words(text, &variables()).map(|found| found.words).as_deref(),
                Ok(*expected)
                    .map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn redirections_are_no_words() {
        let found = words("a 2>/dev/null b >> x <y 2>&1 c>d", &variables()).expect("words");
        assert_eq!(found.words, ["a", "b", "c"]);
        assert_eq!(found.redirections, ["2>/dev/null", ">>x", "<y", "2>&1", ">d"]);
    }

    #[test]
    fn a_value_that_exists_only_while_the_script_runs_is_named() {
        let table = [
            ("$LATE", "the value of $LATE"),
            ("${LATE:-1}", "the value of ${LATE}"),
            ("$1", "the value of $1"),
            ("\"$@\"", "the value of $@"),
            ("$NONE", "the value of $NONE"),
            ("${NONE:-$A}", "the value of ${NONE}"),
            ("${A[0]}", "the value of ${A[0]}"),
            ("$(date)", "the output of a command"),
            ("a `date`", "the output of a command"),
            ("${A", "a brace without an end"),
        ];
        for (text, expected) in table {
            assert_eq!(words(text, &variables()).expect_err(text), expected, "{text}");
        }
        let mut endless = variables();
        endless.insert("X".to_owned(), Some("x".repeat(3_000)));
        assert_eq!(words("$X$X", &endless).expect_err("too long"), "a word without end");
    }
}
