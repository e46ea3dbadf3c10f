//! Parses TOML into blocks of keys with their positions. It does not depend on what a key means.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use super::{ConfigError, ERRORS_MAX, Source, clipped};

/// A value with its position in the text.
pub type TomlValue<'a> = Spanned<DeValue<'a>>;

/// Keys and values as they appear in a file.
pub type Lines = Vec<(String, String)>;

/// Where a key belongs, if it exists in another place of the file.
pub type PlaceOf = fn(&str) -> Option<&'static str>;

/// One table of a file.
pub struct Block<'a> {
    source: &'a Source<'a>,
    table: Cow<'a, DeTable<'a>>,
    span: Range<usize>,
    /// What messages put before its keys, such as "timeouts.".
    prefix: String,
}

impl<'a> Block<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// The first error in the TOML syntax.
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

    /// The full name of a key, as messages show it.
    pub fn key<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.prefix.as_str() {
            "" => name.into(),
            prefix => format!("{prefix}{name}").into(),
        }
    }

    /// The value of a key, by its full name.
    pub fn get(&self, key: &str) -> Option<&TomlValue<'a>> {
        let name = key.strip_prefix(&self.prefix).unwrap_or(key);
        self.table.iter().find(|(known, _)| known.get_ref() == name).map(|(_, value)| value)
    }

    /// The position where the block begins.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The position of a value, which may be in a table below; otherwise that of the block.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        let place = |block: &Block, key: &str| block.get(key).map(Spanned::span);
        let below = || {
            let (table, rest) = key.split_once('.')?;
            let DeValue::Table(table) = self.get(table)?.get_ref() else { return None };
            table.iter().find(|(known, _)| known.get_ref() == rest).map(|(_, value)| value.span())
        };
        place(self, key).or_else(below).unwrap_or_else(|| self.span())
    }

    /// The position of an item of a list, or of the value that should be a list.
    pub fn span_of_item(&self, key: &str, index: usize) -> Range<usize> {
        let item = match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Array(items)) => items.get(index).map(Spanned::span),
            _ => None,
        };
        item.unwrap_or_else(|| self.span_of(key))
    }

    /// One error for each key that is not one of `known`, in the order of the file. `place_of` names the place of a key
    /// that exists elsewhere.
    pub fn unknown_keys(&self, known: &[&str], place_of: PlaceOf) -> Vec<ConfigError> {
        let unknown = self.table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        let mut unknown: Vec<_> = unknown.collect();
        unknown.sort_by_key(|key| key.span().start);
        let error = |key: &Spanned<Cow<'_, str>>| {
            let (name, span) = (key.get_ref(), key.span());
            let message = match (place_of(name), nearest(name, known.iter().copied())) {
                (Some(place), _) => format!("unknown key `{name}` here; it belongs to {place}"),
                (None, Some(word)) => format!("unknown key `{name}`; did you mean `{word}`?"),
                (None, None) => format!("unknown key `{}`; known here: {}", clipped(name), known.join(", ")),
            };
            self.shape(span, &message)
        };
        unknown.into_iter().take(ERRORS_MAX).map(error).collect()
    }

    /// An error about a value.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        self.source.error(span, message)
    }

    /// An error that shows the line.
    pub fn shape(&self, span: Range<usize>, message: &str) -> ConfigError {
        shape_error(self.source, span, message)
    }

    /// A value as it appears in the file, shortened if it is long.
    pub fn shown(&self, value: &TomlValue) -> String {
        clipped(self.source.text.get(value.span()).unwrap_or_default())
    }

    fn expected(&self, value: &TomlValue, what: &str) -> ConfigError {
        self.shape(value.span(), &format!("expected {what}, not {}", found(value.get_ref())))
    }

    /// The text of a value.
    ///
    /// # Errors
    /// The value is not text.
    pub fn text<'v>(&self, value: &'v TomlValue) -> Result<&'v str, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.expected(value, "text in quotes")),
        }
    }

    /// The number of a value.
    ///
    /// # Errors
    /// The value is not a whole number.
    pub fn number(&self, value: &TomlValue) -> Result<i64, ConfigError> {
        match integer(value) {
            Some(Some(number)) => Ok(number),
            Some(None) => Err(self.shape(value.span(), "the number is too large")),
            None => Err(self.expected(value, "a whole number")),
        }
    }

    /// The boolean of a value.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub fn flag(&self, value: &TomlValue) -> Result<bool, ConfigError> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.expected(value, "a boolean")),
        }
    }

    /// The items of a value.
    ///
    /// # Errors
    /// The value is not a list.
    pub fn list<'v, 't>(&self, value: &'v TomlValue<'t>) -> Result<&'v [TomlValue<'t>], ConfigError> {
        match value.get_ref() {
            DeValue::Array(items) => Ok(items),
            _ => Err(self.expected(value, "a list in [ ]")),
        }
    }

    /// A table below this one; `example` shows one of its keys.
    ///
    /// # Errors
    /// The value is not a table.
    pub fn below<'v>(&'v self, key: &str, example: &str) -> Result<Option<Block<'v>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.expected(value, &format!("a key below it, such as {example}")));
        };
        let prefix = format!("{key}.");
        Ok(Some(Block { source: self.source, table: Cow::Borrowed(table), span: value.span(), prefix }))
    }

    /// A value that is a table, whose keys messages show below `key`; `None` if it is none.
    pub fn table<'v, 't: 'v>(&'v self, value: &'v TomlValue<'t>, key: &str) -> Option<Block<'v>> {
        let DeValue::Table(table) = value.get_ref() else { return None };
        let prefix = format!("{key}.");
        Some(Block { source: self.source, table: Cow::Borrowed(table), span: value.span(), prefix })
    }

    /// Every key with its value.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &TomlValue<'a>)> {
        self.table.iter().map(|(key, value)| (&**key.get_ref(), value))
    }

    /// The tables of a list of tables whose header is `header`.
    ///
    /// # Errors
    /// The value is not a list of tables.
    pub fn blocks<'v>(&'v self, key: &str, header: &str) -> Result<Vec<Block<'v>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            DeValue::Table(_) => {
                return Err(self.expected(value, "a header in double brackets, [[ ]], for each item"));
            }
            _ => return Err(self.expected(value, "a list in [ ]")),
        };
        let block = |item: &'v TomlValue<'a>| match item.get_ref() {
            DeValue::Table(table) => {
                let (source, prefix) = (self.source, String::new());
                Ok(Block { source, table: Cow::Borrowed(table), span: item.span(), prefix })
            }
            _ => Err(self.expected(item, &format!("blocks that begin with [[{header}]]"))),
        };
        items.iter().map(block).collect()
    }
}

/// The value as a number. `Some(None)`: it is a number that is too large.
pub fn integer(value: &TomlValue) -> Option<Option<i64>> {
    match value.get_ref() {
        DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        _ => None,
    }
}

/// Text in quotes, as it appears in a file.
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

/// An error that begins with the line.
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

/// A plainer wording of a message from the TOML parser about `line`.
fn plain_words(message: &str, line: &str) -> String {
    let first = message.lines().next().and_then(|first| first.split(", expected ").next());
    let plain = match first.unwrap_or_default() {
        "duplicate key" => "this key already exists; keep one of the two",
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
    fn a_value_of_the_wrong_type_gets_a_clear_message() {
        let message = refused("queues = \"two\"\n");
        assert!(
            message.contains("director.toml:1: ") && message.contains("expected a whole number"),
            "{message}"
        );
        assert!(refused("interface = \"eth0\n").starts_with("director.toml:1: "));
        assert!(refused("a\0b").contains("NUL"));
    }
}
