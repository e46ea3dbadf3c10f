//! TOML as blocks of keys, each with its place; and lines of keys as TOML.
//!
//! Nothing is known here of what a key means.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use super::{ConfigError, Source, clipped};

/// A value where it stands.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// Keys and values as they stand in a file.
pub type Lines = Vec<(String, String)>;

/// A table of a file.
pub struct Block<'a> {
    source: &'a Source<'a>,
    table: Cow<'a, DeTable<'a>>,
    span: Range<usize>,
    /// Before its keys: "timeouts.".
    prefix: String,
}

impl<'a> Block<'a> {
    /// A file as a whole.
    ///
    /// # Errors
    /// What TOML objects to.
    pub fn parse(source: &'a Source<'a>) -> Result<Block<'a>, ConfigError> {
        if let Some(position) = source.text.find('\0') {
            let message = "contains a NUL byte; a configuration file is plain text";
            return Err(source.error(position..position + 1, message));
        }
        match DeTable::parse(source.text) {
            Ok(table) => {
                let span = table.span();
                Ok(Block { source, table: Cow::Owned(table.into_inner()), span, prefix: String::new() })
            }
            Err(error) => Err(match error.span() {
                Some(span) => {
                    let message = plain_words(error.message(), line_at(source.text, span.start));
                    shape_error(source, span, &message)
                }
                None => source.error_whole(plain_words(error.message(), "")),
            }),
        }
    }

    /// The key's whole name, as messages have it.
    pub fn key<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.prefix.as_str() {
            "" => name.into(),
            prefix => format!("{prefix}{name}").into(),
        }
    }

    /// By its whole name.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let name = key.strip_prefix(&self.prefix).unwrap_or(key);
        self.table.iter().find(|(known, _)| known.get_ref() == name).map(|(_, value)| value)
    }

    /// Where the block begins.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value stands, also one of a table below; else where the block begins.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        let place = |block: &Block, key: &str| block.get(key).map(Spanned::span);
        let below = || {
            let (table, rest) = key.split_once('.')?;
            let DeValue::Table(table) = self.get(table)?.get_ref() else { return None };
            table.iter().find(|(known, _)| known.get_ref() == rest).map(|(_, value)| value.span())
        };
        place(self, key).or_else(below).unwrap_or_else(|| self.span())
    }

    /// Where an item of a list stands, or what is in its place.
    pub fn span_of_item(&self, key: &str, index: usize) -> Range<usize> {
        let item = match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Array(items)) => items.get(index).map(Spanned::span),
            _ => None,
        };
        item.unwrap_or_else(|| self.span_of(key))
    }

    /// # Errors
    /// The first key that is none of these.
    pub fn check_known(&self, known: &[&str]) -> Result<(), ConfigError> {
        let unknown = self.table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        let Some(first) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let key = first.get_ref();
        let message = match nearest(key, known.iter().copied()) {
            Some(word) => format!("unknown key `{key}`; did you mean `{word}`?"),
            None => format!("unknown key `{}`; known here: {}", clipped(key), known.join(", ")),
        };
        Err(self.shape(first.span(), &message))
    }

    /// An error about a value.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        self.source.error(span, message)
    }

    /// An error that is plain when the line is seen.
    pub fn shape(&self, span: Range<usize>, message: &str) -> ConfigError {
        shape_error(self.source, span, message)
    }

    /// A value as it is written, not too long.
    pub fn shown(&self, value: &Value) -> String {
        clipped(self.source.text.get(value.span()).unwrap_or_default())
    }

    fn expected(&self, value: &Value, what: &str) -> ConfigError {
        self.shape(value.span(), &format!("expected {what}, not {}", found(value.get_ref())))
    }

    /// # Errors
    /// It is no text.
    pub fn text<'v>(&self, value: &'v Value) -> Result<&'v str, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.expected(value, "text in quotes")),
        }
    }

    /// # Errors
    /// It is no whole number.
    pub fn number(&self, value: &Value) -> Result<i64, ConfigError> {
        match integer(value) {
            Some(Some(number)) => Ok(number),
            Some(None) => Err(self.shape(value.span(), "the number is too large")),
            None => Err(self.expected(value, "a whole number")),
        }
    }

    /// # Errors
    /// It is neither true nor false.
    pub fn flag(&self, value: &Value) -> Result<bool, ConfigError> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.expected(value, "a boolean")),
        }
    }

    /// # Errors
    /// It is no list.
    pub fn list<'v, 't>(&self, value: &'v Value<'t>) -> Result<&'v [Value<'t>], ConfigError> {
        match value.get_ref() {
            DeValue::Array(items) => Ok(items),
            _ => Err(self.expected(value, "a list in [ ]")),
        }
    }

    /// A table below, `example` of its keys.
    ///
    /// # Errors
    /// It is none.
    pub fn below<'v>(&'v self, key: &str, example: &str) -> Result<Option<Block<'v>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.expected(value, &format!("a key below it, such as {example}")));
        };
        let prefix = format!("{key}.");
        Ok(Some(Block { source: self.source, table: Cow::Borrowed(table), span: value.span(), prefix }))
    }

    /// The tables of a list of tables whose header is `header`.
    ///
    /// # Errors
    /// It is something else.
    pub fn blocks<'v>(&'v self, key: &str, header: &str) -> Result<Vec<Block<'v>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            DeValue::Table(_) => {
                return Err(self.expected(value, "a header in double brackets, [[ ]], for each item"));
            }
            _ => return Err(self.expected(value, "a list in [ ]")),
        };
        let block = |item: &'v Value<'a>| match item.get_ref() {
            DeValue::Table(table) => {
                let (source, prefix) = (self.source, String::new());
                Ok(Block { source, table: Cow::Borrowed(table), span: item.span(), prefix })
            }
            _ => Err(self.expected(item, &format!("blocks that begin with [[{header}]]"))),
        };
        items.iter().map(block).collect()
    }
}

/// `Some(None)`: a number, but too large a one.
pub fn integer(value: &Value) -> Option<Option<i64>> {
    match value.get_ref() {
        DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        _ => None,
    }
}

/// Text as a file has it.
pub fn quoted(word: &str) -> String {
    toml::Value::String(word.to_owned()).to_string()
}

fn found(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", clipped(&format!("{text:?}"))),
        DeValue::Integer(number) => clipped(&number.to_string()),
        DeValue::Float(number) => clipped(number.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// An error with the line it is about.
fn shape_error(source: &Source, span: Range<usize>, message: &str) -> ConfigError {
    let line = line_at(source.text, span.start);
    let quoted = if line.is_empty() { String::new() } else { format!("`{}`: ", clipped(line)) };
    source.error(span, format!("{quoted}{message}"))
}

/// The line that holds the byte at `position`, without the blanks around it.
fn line_at(text: &str, position: usize) -> &str {
    let before = text.get(..position).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next().unwrap_or("").trim()
}

/// TOML's words, about `line`, in ours.
fn plain_words(message: &str, line: &str) -> String {
    let first = message.lines().next().and_then(|first| first.split(", expected ").next());
    let plain = match first.unwrap_or_default() {
        "duplicate key" => "this key exists already; keep one of the two",
        "invalid basic string" => "the closing quote is missing, or a \\ does not begin an escape",
        "unclosed array" => "the list's closing ] is missing",
        "unclosed array table" | "unclosed table" => "the header's closing bracket is missing",
        "key with no value" => "a key needs a value, such as key = 1 or key = \"word\"",
        _ if line.ends_with('=') => "the value is missing",
        "string values must be quoted" | "invalid float" | "invalid integer" | "invalid date" => {
            "a value is a number, true, false, a list in [ ], or text in quotes"
        }
        _ => return message.lines().collect::<Vec<_>>().join(", "),
    };
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    fn refused(text: &str) -> String {
        plan::director(&Source { name: "director.toml", text }, None).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
        let text = "interface = \"eth0\"\n\n[[virtual_service]]\nprotokol = \"tcp\"\n";
        let message = refused(text);
        assert!(message.starts_with("director.toml:4: "), "{message}");
        assert!(message.ends_with("did you mean `protocol`?"), "{message}");
    }

    #[test]
    fn a_wrong_type_is_said_plainly() {
        let message = refused("queues = \"two\"\n");
        assert!(
            message.contains("director.toml:1: ") && message.contains("expected a whole number"),
            "{message}"
        );
        assert!(refused("interface = \"eth0\n").starts_with("director.toml:1: "));
        assert!(refused("a\0b").contains("NUL"));
    }
}
