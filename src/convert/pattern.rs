//! Regular expressions of PCRE2 (keepalived) and of Perl (ldirectord) in the syntax of the checks, with the same meaning.
//!
//! Both match bytes, `^` and `$` stand for the ends of the whole text, `.` for all but LF, and letters are those of ASCII. The
//! checks do so too, unless an expression has a meaning only in Unicode. A pattern without an equal is refused.

mod class;
#[cfg(test)]
mod tests;

/// A translation in progress.
struct Translation {
    chars: Vec<char>,
    at: usize,
    out: String,
    /// The flags that apply here, those of the groups around it before them.
    flags: Vec<Flags>,
    /// It depends on matching bytes, not characters.
    needs_bytes: bool,
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
    };
    translation.all()?;
    let on: String = options.chars().filter(|c| "is".contains(*c)).collect();
    let off = if translation.needs_bytes { "-u" } else { "" };
    let prefix = if on.is_empty() && off.is_empty() { String::new() } else { format!("(?{on}{off})") };
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
                '^' if self.flags().is_multiline => self.out.push_str("(?m:^)"),
                '^' => self.out.push_str(r"\A"),
                '$' if self.flags().is_multiline => self.out.push_str("(?m:$)"),
                '$' => self.end()?,
                '.' => {
                    self.needs_bytes = true;
                    self.out.push('.');
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
