//! Regular expressions over bytes, with the defaults of Perl and PCRE: `^` matches at the beginning and `$` at the end,
//! or before a newline at the end. `.` matches everything but a newline.

use regex::bytes::{Regex, RegexBuilder};

use super::options::text;
use crate::health::spec::{BadOption, Options};

/// A regular expression of an option.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    regex: Regex,
    /// Whether it may depend on where the text ends.
    has_end: bool,
}

impl Expression {
    /// Reads the value of option `name`.
    pub(super) fn read(name: &'static str, pattern: &str) -> Result<Expression, BadOption> {
        // As in PCRE, a character is a byte, unless an expression can only be read in Unicode.
        let build = |is_unicode| RegexBuilder::new(pattern).unicode(is_unicode).build();
        let built = build(false).or_else(|_| build(true));
        let regex = built.map_err(|error| {
            // The last line has the reason; those above it show the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (name, format!("{pattern:?} is no regular expression: {reason}"))
        })?;
        Ok(Expression { regex, has_end: pattern.contains('$') })
    }

    /// As [`Expression::read`], if the option is given.
    pub(super) fn option(options: &Options, name: &'static str) -> Result<Option<Expression>, BadOption> {
        text(options, name).map(|pattern| Expression::read(name, pattern)).transpose()
    }

    /// Whether it matches anywhere in the text.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        // pcre2pattern(3), "Circumflex and dollar": a newline at the end of the text may follow `$`.
        let without_newline = text.strip_suffix(b"\n").filter(|_| self.has_end);
        self.regex.is_match(text) || without_newline.is_some_and(|text| self.regex.is_match(text))
    }

    /// Whether it matches in a text that continues beyond these bytes, whatever follows them.
    pub(super) fn is_match_of_beginning(&self, bytes: &[u8]) -> bool {
        self.regex.find(bytes).is_some_and(|found| found.end() < bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_as_one_of_perl_does_by_default() {
        let table: &[(&str, &[u8], bool)] = &[
            ("^b$", b"b", true),
            ("^b$", b"b\n", true),
            ("^b$", b"b\n\n", false),
            ("^b$", b"b\r\n", false),
            ("^b$", b"a\nb\nc", false),
            ("^b", b"a\nb", false),
            ("a$", b"a\nb", false),
            ("(?m)^b$", b"a\nb\nc", true),
            ("(?m)^b$", b"a\r\nb\r\nc", false),
            ("(?mR)^b$", b"a\r\nb\r\nc", true),
            ("a.b", b"a\rb", true),
            ("a.b", b"a\nb", false),
            ("(?s)a.b", b"a\nb", true),
            ("B", b"abc", false),
            ("(?i)B", b"abc", true),
            ("^$", b"", true),
            ("^$", b"\n", true),
            (r"b\z", b"b\n", false),
            (r"b\z", b"b", true),
            ("a.*b", b"a\xff\xfeb", true),
            (r"\xff", b"\xff", true),
            ("\u{fc}", "\u{fc}".as_bytes(), true),
            ("[\u{fc}]", "\u{fc}".as_bytes(), true),
            (r"^\p{L}$", "\u{fc}".as_bytes(), true),
        ];
        for (pattern, text, expected) in table {
            let expression = Expression::read("body_regex", pattern).expect("an expression");
            assert_eq!(expression.is_match(text), *expected, "{pattern} in {:?}", text.escape_ascii());
        }
    }

    #[test]
    fn a_match_at_the_end_of_a_beginning_may_depend_on_what_follows() {
        for (pattern, bytes, expected) in [
            ("ab", "xabx", true),
            ("ab", "xab", false),
            ("b$", "ab", false),
            ("b$", "ab\n", false),
            ("c", "ab", false),
        ] {
            let expression = Expression::read("body_regex", pattern).expect("an expression");
            assert_eq!(
                expression.is_match_of_beginning(bytes.as_bytes()),
                expected,
                "{pattern} in {bytes:?}"
            );
        }
    }
}
