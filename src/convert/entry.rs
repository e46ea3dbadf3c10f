//! The parts of a block: keys with their values, and remarks between them.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::config::kinds::is_misleading;

/// A line of the file that is converted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The name of the file, as given or as an `include` names it.
    pub file: Rc<str>,
    /// Counted from 1.
    pub line: usize,
}

/// What the result does not contain, or contains in another form: where, the text, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where the text is.
    pub place: Place,
    /// The text, without secrets.
    pub text: String,
    /// One sentence without a full stop.
    pub reason: String,
}

impl Remark {
    /// A remark about this text; passwords in it are replaced.
    pub fn new(place: &Place, text: &str, reason: impl Into<String>) -> Remark {
        Remark { place: place.clone(), text: without_secrets(text), reason: reason.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line } = &self.place;
        let (file, text, reason) = (shown(file), shown(&self.text), shown(&self.reason));
        write!(f, "{file}:{line}: {text}: {reason}")
    }
}

/// The rest of a text behind one of these words is a secret.
const SECRETS: [&str; 4] = ["auth_pass", "passwd", "secret", "password"];

fn without_secrets(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let found = SECRETS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min();
    let Some(at) = found else { return text.to_owned() };
    let name_end =
        text[at..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |end| at + end);
    let is_all = text[name_end..].trim().is_empty();
    if is_all { text.to_owned() } else { format!("{} …", &text[..name_end]) }
}

/// One line that hides nothing, and is not endless.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 1_000;
    let mut shown = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == SHOWN_MAX => {
                shown.push('…');
                break;
            }
            '\t' => shown.push(' '),
            c if c.is_control() || is_misleading(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text in quotes.
    Text(String),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// "2s".
    Duration(Duration),
    /// `[a, b]`.
    List(Vec<Value>),
    /// `{ a = 1, b = 2 }`.
    Table(Vec<(&'static str, Value)>),
}

impl Value {
    /// Text in quotes.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A list of texts.
    pub fn texts(texts: &[String]) -> Value {
        Value::List(texts.iter().map(Value::text).collect())
    }
}

/// A part of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A key, and the line that it comes from.
    Key(&'static str, Value, Option<Remark>),
    /// Something that was not converted.
    Loss(Remark),
    /// Something that was converted, with a difference.
    Note(Remark),
    /// A sentence that belongs to no line.
    Comment(String),
}

/// Keys and remarks in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// In their order.
    pub entries: Vec<Entry>,
}

impl Block {
    /// Adds a key; one with this name is replaced.
    pub fn set(&mut self, name: &'static str, value: Value) {
        self.unset(name);
        self.entries.push(Entry::Key(name, value, None));
    }

    /// Adds a key that comes from this line; one with this name is replaced.
    pub fn set_from(&mut self, name: &'static str, value: Value, origin: Remark) {
        self.unset(name);
        self.entries.push(Entry::Key(name, value, Some(origin)));
    }

    /// Removes a key; the line that it comes from, if there is one.
    pub fn unset(&mut self, name: &str) -> Option<Remark> {
        let is_it = |entry: &Entry| matches!(entry, Entry::Key(key, ..) if *key == name);
        let at = self.entries.iter().position(is_it)?;
        match self.entries.remove(at) {
            Entry::Key(_, _, origin) => origin,
            _ => None,
        }
    }

    /// Adds something that was not converted.
    pub fn lose(&mut self, remark: Remark) {
        self.add(Entry::Loss(remark));
    }

    /// Adds a difference.
    pub fn note(&mut self, remark: Remark) {
        self.add(Entry::Note(remark));
    }

    /// A repeated line makes the same remark any number of times.
    fn add(&mut self, entry: Entry) {
        if self.entries.last() != Some(&entry) {
            self.entries.push(entry);
        }
    }

    /// The value of a key.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Key(key, value, _) if *key == name => Some(value),
            _ => None,
        })
    }

    /// What was not converted.
    pub fn losses(&self) -> impl Iterator<Item = &Remark> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Loss(remark) => Some(remark),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let cases = [
            ("auth_pass 1111", "auth_pass …"),
            ("authentication { auth_pass 1111 }", "authentication { auth_pass …"),
            ("passwd = \"x y\"", "passwd …"),
            ("smtp_password=x", "smtp_password …"),
            ("SECRET x", "SECRET …"),
            ("passwd", "passwd"),
            ("weight 3", "weight 3"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_secrets(text), expected);
        }
    }

    #[test]
    fn a_remark_is_one_line_that_hides_nothing() {
        let place = Place { file: "a\nb".into(), line: 3 };
        let remark = Remark::new(&place, "x\u{202e}\ty\u{1}", "why");
        assert_eq!(remark.to_string(), "a\\u{a}b:3: x\\u{202e} y\\u{1}: why");
        let long = Remark::new(&place, &"é".repeat(3_000), "why").to_string();
        assert_eq!(long.chars().filter(|c| *c == 'é').count(), 1_000);
    }
}
