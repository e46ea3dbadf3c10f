//! Regular expressions of PCRE2 (keepalived) and of Perl (ldirectord) in the syntax of the checks, with the same meaning.
//!
//! Both match bytes, `^` and `$` stand for the ends of the whole text, `.` for all but LF, and letters are those of ASCII. The
//! checks match Unicode, and lines that may end with CR LF ([`crate::health`]). What has no equal is refused.

mod class;

/// A translation in progress.
struct Translation {
    chars: Vec<char>,
    at: usize,
    out: String,
    /// The flags that apply here, those of the groups around it before them.
    flags: Vec<Flags>,
    /// It depends on matching bytes, not characters.
    needs_bytes: bool,
    /// It depends on lines that end with LF alone.
    needs_line_feed: bool,
}

/// The flags that change what a pattern is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    is_multiline: bool,
    is_extended: bool,
}

/// The same pattern for the checks; `options` are letters of `imsx` that apply to all of it.
///
/// # Errors
/// What has no equal.
pub fn translated(pattern: &str, options: &str) -> Result<String, String> {
    if pattern.contains('\u{fffd}') {
        return Err("the pattern is not UTF-8".to_owned());
    }
    let flags = Flags { is_multiline: options.contains('m'), is_extended: options.contains('x') };
    let mut translation = Translation {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::new(),
        flags: vec![flags],
        needs_bytes: options.contains('i'),
        needs_line_feed: false,
    };
    translation.all()?;
    let on: String = options.chars().filter(|c| "is".contains(*c)).collect();
    let off = [(translation.needs_bytes, 'u'), (translation.needs_line_feed, 'R')];
    let off: String = off.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    let minus = if off.is_empty() { "" } else { "-" };
    let prefix = if on.is_empty() && off.is_empty() { String::new() } else { format!("(?{on}{minus}{off})") };
    Ok(prefix + &translation.out)
}

/// The end of the text, or the place before a line feed there.
const END: &str = r"(?:\n?\z)";

/// `\v` and `\h` of PCRE2 in bytes, within a class.
const VERTICAL: &str = r"\n\x0B\x0C\r\x85";
const HORIZONTAL: &str = r"\t \xA0";

impl Translation {
    fn all(&mut self) -> Result<(), String> {
        while let Some(c) = self.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' if self.flags.len() > 1 => {
                    self.flags.pop();
                    self.out.push(')');
                }
                ')' => return Err("a parenthesis has no beginning".to_owned()),
                '|' => self.out.push('|'),
                '^' if self.flags().is_multiline => self.line_end('^'),
                '^' => self.out.push_str(r"\A"),
                '$' if self.flags().is_multiline => self.line_end('$'),
                '$' => self.end()?,
                '.' => {
                    self.needs_bytes = true;
                    self.line_end('.');
                }
                '*' | '+' | '?' => self.quantifier(c.to_string())?,
                '{' => match self.counts() {
                    Some(counts) => self.quantifier(counts)?,
                    None => self.out.push_str(r"\{"),
                },
                '#' if self.flags().is_extended => while self.next().is_some_and(|c| c != '\n') {},
                c if self.flags().is_extended && c.is_ascii_whitespace() => {}
                c => self.literal(c),
            }
        }
        if self.flags.len() > 1 { Err("a parenthesis has no end".to_owned()) } else { Ok(()) }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// Takes this text, if it is next.
    fn take(&mut self, text: &str) -> bool {
        let is_next = self.chars[self.at..].iter().copied().take(text.chars().count()).eq(text.chars());
        self.at += if is_next { text.chars().count() } else { 0 };
        is_next
    }

    fn flags(&self) -> Flags {
        self.flags.last().copied().unwrap_or_default()
    }

    fn line_end(&mut self, c: char) {
        self.needs_line_feed = true;
        self.out.push(c);
    }

    /// `$`: what follows it must not match, since the line feed is taken here.
    fn end(&mut self) -> Result<(), String> {
        if self.peek().is_some_and(|c| c != ')' && c != '|') {
            return Err("$ stands before other text".to_owned());
        }
        self.out.push_str(END);
        Ok(())
    }

    fn quantifier(&mut self, text: String) -> Result<(), String> {
        self.out.push_str(&text);
        if self.take("?") {
            self.out.push('?');
        }
        let is_second = matches!(self.peek(), Some('*' | '+' | '?')) || self.chars_are_counts();
        if is_second { Err("a possessive or a second quantifier".to_owned()) } else { Ok(()) }
    }

    fn chars_are_counts(&mut self) -> bool {
        let before = self.at;
        let is_counts = self.take("{") && self.counts().is_some();
        self.at = before;
        is_counts
    }

    /// `n}`, `n,}` or `n,m}` behind a brace; otherwise nothing is taken.
    fn counts(&mut self) -> Option<String> {
        let length = self.chars[self.at..].iter().position(|c| *c == '}')?;
        let inside: String = self.chars[self.at..self.at + length].iter().collect();
        let (first, last) = inside.split_once(',').unwrap_or((&inside, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_counts = !first.is_empty() && is_number(first) && is_number(last);
        is_counts.then(|| {
            self.at += length + 1;
            format!("{{{inside}}}")
        })
    }

    /// A character that stands for itself. A quantifier behind one of several bytes is for the last of them.
    fn literal(&mut self, c: char) {
        if c.is_ascii() {
            if regex::escape(&c.to_string()).len() > 1 && !matches!(c, '#' | '&' | '-' | '~') {
                self.out.push('\\');
            }
            self.out.push(c);
        } else if matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
            c.to_string().bytes().for_each(|byte| self.byte(byte));
        } else {
            self.out.push(c);
        }
    }

    fn byte(&mut self, byte: u8) {
        match byte {
            b' '..=b'~' => self.literal(char::from(byte)),
            _ => {
                self.needs_bytes |= byte >= 0x80;
                self.out.push_str(&format!("\\x{byte:02X}"));
            }
        }
    }

    /// Outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        let c = self.next().ok_or("a backslash is the last character")?;
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'b' | 'B' => {
                self.needs_bytes = true;
                self.out.extend(['\\', c]);
            }
            'A' | 'z' => self.out.extend(['\\', c]),
            'Z' => self.end()?,
            'h' | 'v' | 'H' | 'V' => {
                self.needs_bytes = true;
                let negation = if c.is_ascii_uppercase() { "^" } else { "" };
                let inside = if c.eq_ignore_ascii_case(&'h') { HORIZONTAL } else { VERTICAL };
                self.out.push_str(&format!("[{negation}{inside}]"));
            }
            'R' => {
                self.needs_bytes = true;
                self.out.push_str(&format!(r"(?:\r\n|[{VERTICAL}])"));
            }
            'N' if self.peek() != Some('{') => {
                self.needs_bytes = true;
                self.out.push_str(r"[^\n]");
            }
            '1'..='9' if !self.is_octal(c) => return Err(format!("the back-reference \\{c}")),
            _ => match self.code(c)? {
                Some(byte) => self.byte(byte),
                None => self.literal(c),
            },
        }
        Ok(())
    }

    /// The byte that an escape with this letter stands for, in a class too; `None`: the character itself.
    fn code(&mut self, c: char) -> Result<Option<u8>, String> {
        let byte = match c {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'f' => 0x0c,
            'a' => 0x07,
            'e' => 0x1b,
            'x' if self.take("{") => {
                let digits: String = std::iter::from_fn(|| self.next().filter(|c| *c != '}')).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{{{digits}}} is more than a byte"))?
            }
            'x' => self.digits(16, 2),
            '0'..='7' => {
                self.at -= 1;
                self.digits(8, 3)
            }
            'c' => {
                let letter = self.next().filter(char::is_ascii).ok_or("\\c without a letter")?;
                u8::try_from(letter.to_ascii_uppercase()).unwrap_or_default() ^ 0x40
            }
            c if c.is_ascii_alphanumeric() => return Err(format!("\\{c} has no equal")),
            _ => return Ok(None),
        };
        Ok(Some(byte))
    }

    /// Whether this digit is the first of three octal ones, which are no back-reference.
    fn is_octal(&self, first: char) -> bool {
        let is_octal = |c: &char| c.is_digit(8);
        let others = self.chars.iter().skip(self.at).take(2);
        is_octal(&first) && others.clone().count() == 2 && others.clone().all(is_octal)
    }

    /// Up to so many digits; the lowest byte counts.
    fn digits(&mut self, radix: u32, count: usize) -> u8 {
        let mut value = 0;
        for _ in 0..count {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = (value * radix + digit) & 0xff;
            self.at += 1;
        }
        u8::try_from(value).unwrap_or_default()
    }

    fn group(&mut self) -> Result<(), String> {
        let flags = self.flags();
        if self.peek() == Some('*') {
            return Err("a verb (*…)".to_owned());
        }
        if !self.take("?") {
            self.out.push('(');
            self.flags.push(flags);
            return Ok(());
        }
        let begins = self.peek().unwrap_or_default();
        match begins {
            '#' => while self.next().is_some_and(|c| c != ')') {},
            ':' => {
                self.at += 1;
                self.out.push_str("(?:");
                self.flags.push(flags);
            }
            '=' | '!' => return Err("look-around".to_owned()),
            '<' | 'P' | '\'' if self.name() => {
                self.out.push_str("(?:");
                self.flags.push(flags);
            }
            '<' => return Err("look-around".to_owned()),
            c if c.is_ascii_lowercase() || "^-U".contains(c) => self.inline_flags()?,
            other => return Err(format!("a group (?{other}…)")),
        }
        Ok(())
    }

    /// Takes `<NAME>`, `P<NAME>` or `'NAME'`.
    fn name(&mut self) -> bool {
        let before = self.at;
        self.take("P");
        let end = if self.take("'") { '\'' } else { '>' };
        let is_open = end == '\'' || self.take("<");
        let name: String = std::iter::from_fn(|| self.next().filter(|c| *c != end)).collect();
        let is_name = is_open && !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name {
            self.at = before;
        }
        is_name
    }

    /// `(?i-s)` for the rest of the group, or `(?i-s:…)`.
    fn inline_flags(&mut self) -> Result<(), String> {
        let (mut flags, mut is_set, mut on, mut off) = (self.flags(), true, String::new(), String::new());
        loop {
            match self.next() {
                Some('-') => is_set = false,
                Some('^') => {
                    flags = Flags::default();
                    off.push_str("is");
                }
                Some('m') => flags.is_multiline = is_set,
                Some('x') => flags.is_extended = is_set,
                Some(c @ ('i' | 's')) if is_set => {
                    self.needs_bytes |= c == 'i';
                    off.retain(|other| other != c);
                    on.push(c);
                }
                Some(c @ ('i' | 's')) => {
                    on.retain(|other| other != c);
                    off.push(c);
                }
                // Which of several matches is taken, and how groups are named, decides nothing here.
                Some('a' | 'n' | 'p' | 'J' | 'U') => {}
                Some(end @ (')' | ':')) => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    let text = format!("{on}{minus}{off}");
                    if end == ':' {
                        self.flags.push(flags);
                        self.out.push_str(&format!("(?{text}:"));
                    } else {
                        self.flags.last_mut().into_iter().for_each(|last| *last = flags);
                        self.out.push_str(&if text.is_empty() {
                            String::new()
                        } else {
                            format!("(?{text})")
                        });
                    }
                    return Ok(());
                }
                _ => return Err("a group (?…)".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `health::check` builds them.
    fn built(pattern: &str, options: &str) -> regex::bytes::Regex {
        let text = translated(pattern, options).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let mut builder = regex::bytes::RegexBuilder::new(&text);
        builder.multi_line(true).crlf(true).build().unwrap_or_else(|error| panic!("{pattern}: {error}"))
    }

    #[test]
    fn a_pattern_of_plain_text_stays_as_it_is() {
        for text in [
            "OK",
            "it works!",
            "a|b",
            "(ab)+c?",
            r"v1\.2",
            "a-b #1 & ~",
            "état",
            r"\(x\)",
            "[a-z]x",
            "a{2,3}",
        ] {
            assert_eq!(translated(text, "").as_deref(), Ok(text));
        }
    }

    /// Pattern, options, a text that matches, one that does not; as perl and pcre2test have it.
    #[test]
    fn a_pattern_matches_what_it_matches_for_its_own_program() {
        let table: &[(&str, &str, &[u8], &[u8])] = &[
            ("^OK$", "", b"OK", b"x\nOK"),
            ("^OK$", "", b"OK\n", b"OK\r\n"),
            ("^OK$", "", b"OK", b"OK\n\n"),
            ("^OK$", "m", b"x\nOK\ny", b"x\nOK\r\ny"),
            ("a.b", "", b"a\rb", b"a\nb"),
            ("a.b", "", b"a\xffb", "aéb".as_bytes()),
            ("a.b", "s", b"a\nb", b"ab"),
            ("(?s)a.b", "", b"a\nb", b"ab"),
            ("(?s:a.)b.c", "", b"a\nb\rc", b"a\nb\nc"),
            ("((?s)a.)b.c", "", b"a\nb\rc", b"a\nb\nc"),
            ("(?m)^x$", "", b"a\nx\nb", b"ax"),
            ("(?m:^x$)|^y$", "", b"a\nx\nb", b"a\ny\nb"),
            ("(?-m)^x$", "m", b"x", b"a\nx"),
            (r"\bK\b", "i", b"k", "\u{212a}".as_bytes()),
            ("É", "i", "É".as_bytes(), "é".as_bytes()),
            (r"\w\d\s", "", b"a1 ", "é٣\u{a0}".as_bytes()),
            ("a b # c\n d", "x", b"abd", b"a b"),
            ("a[ #]b", "x", b"a#b", b"ab"),
            ("(?x)a b", "", b"ab", b"a b"),
            (r"\<a\>", "", b"<a>", b"a"),
            ("[[a]", "", b"[", b"b"),
            ("[]a]", "", b"]", b"b"),
            ("[^]a]", "", b"b", b"]"),
            ("[a&&b]", "", b"&", b"c"),
            ("[a-]", "", b"-", b"b"),
            (r"[\w-z]", "", b"-", b"%"),
            ("[[:digit:]x]", "", b"7", b"a"),
            ("[^[:digit:]]", "", b"\xff", b"7"),
            (r"[\n\x41-\x43\]]", "", b"B", b"D"),
            (r"[\b\h\v]", "", b"\x08", b"b"),
            ("[é]", "", b"\xa9", b"e"),
            ("é+$", "", b"\xc3\xa9\xa9", b"\xc3\xa9\xc3"),
            ("a{", "", b"a{", b"a"),
            ("a{,2}", "", b"a{,2}", b"aa"),
            ("a{2,}?b", "", b"aab", b"ab"),
            ("}]", "", b"}]", b"}"),
            (r"a\Rb", "", b"a\r\nb", b"a\r\rb"),
            (r"a\Nb", "", b"a\rb", b"a\nb"),
            (r"a\hb\Hc\v\V", "", b"a\tbxc\nd", b"a\nbxc\nd"),
            (r"\x41\x{42}\103\cA\e\0", "", b"ABC\x01\x1b\0", b"ABC"),
            (r"\x4\.", "", b"\x04.", b"\x04a"),
            (r"\Aab\Z", "", b"ab\n", b"cab"),
            (r"\Aab\z", "", b"ab", b"ab\n"),
            ("(?<n>a)(?P<m>b)(?'o'c)", "", b"abc", b"ab"),
            ("a(?#comment)b", "", b"ab", b"a"),
            ("(?i)a(?-i)b", "", b"Ab", b"aB"),
            ("(?^:A)b", "i", b"AB", b"ab"),
            (r"\xff", "", b"\xff", "ÿ".as_bytes()),
        ];
        for (pattern, options, good, bad) in table {
            let regex = built(pattern, options);
            assert!(regex.is_match(good), "{pattern} {options}: {good:?}, as {regex}");
            assert!(!regex.is_match(bad), "{pattern} {options}: {bad:?}, as {regex}");
        }
    }

    #[test]
    fn a_pattern_without_an_equal_is_refused() {
        let table = [
            ("(?=a)", "look-around"),
            ("(?<!a)b", "look-around"),
            ("(?<=a)b", "look-around"),
            ("(?>a)", "a group (?>…)"),
            ("(?|a)", "a group (?|…)"),
            ("(?R)", "a group (?R…)"),
            ("(?l)a", "a group (?…)"),
            ("(*FAIL)", "a verb"),
            (r"(a)\1", "back-reference"),
            (r"\G", r"\G has no equal"),
            (r"\p{Lu}", r"\p has no equal"),
            (r"[\8]", r"\8 has no equal"),
            (r"\x{100}", "more than a byte"),
            ("a++", "possessive"),
            ("a{2}{3}", "second quantifier"),
            ("a$b", "$ stands before"),
            (r"a\Zb", "$ stands before"),
            ("[a", "a class has no end"),
            ("[z-a]", "ends before it begins"),
            (r"[a-\d]", "a range to a class"),
            ("[[.a.]]", "collating"),
            ("(a", "has no end"),
            ("a)", "has no beginning"),
            ("a\\", "last character"),
            (r"\c", "without a letter"),
            ("a\u{fffd}", "not UTF-8"),
        ];
        for (pattern, expected) in table {
            let error = translated(pattern, "").expect_err(pattern);
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}
