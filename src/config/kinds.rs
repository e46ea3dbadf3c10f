//! The kinds of value that keys have: numbers, words, lists. `values` has the words for single values.

mod values;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use super::key::{Bounds, JsonKind, SimpleJsonKind, SimpleKind, ValueKind};
use super::suggest::nearest;
use super::toml::{Block, TomlValue, integer, quoted};
use super::{ConfigError, clipped};
use crate::encapsulation::Ttl;
use crate::packet::Protocol;

pub use values::{
    Address, GROUP, HOST_NAMES, HashKey, InterfaceName, LABEL, Listen, OuterSourceKind, RipAddress,
    SocketPathKind, Span, Timeout, USER, is_misleading,
};

/// The names of the transport protocols.
pub const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// A word from a file in quotes; control characters appear as escapes.
pub fn escaped(word: &str) -> String {
    format!("{:?}", clipped(word))
}

/// A kind of value that is text in quotes.
pub trait Word {
    /// The parsed value.
    type Value: Clone + PartialEq;

    /// Parses the text.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    fn parse(&self, key: &str, word: &str) -> Result<Self::Value, String>;

    /// The text of a value.
    fn word(&self, value: &Self::Value) -> String;

    /// The bounds of its values in the schema.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// The text as a message shows it.
    fn shown(&self, word: &str) -> String {
        escaped(word)
    }

    /// What an operator probably meant by a number without quotes.
    fn suggestion(&self, _: i64) -> Option<String> {
        None
    }
}

impl<W: Word> SimpleKind for W {
    type Value = W::Value;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<W::Value, ConfigError> {
        if let Some(meant) = integer(value).flatten().and_then(|number| self.suggestion(number)) {
            let message =
                format!("expected text in quotes, not {}; did you mean {meant}?", block.shown(value));
            return Err(block.shape(value.span(), &message));
        }
        let word = block.text(value)?;
        self.parse(key, word).map_err(|message| block.error(value.span(), message))
    }

    fn text(&self, value: &W::Value) -> Option<String> {
        Some(quoted(&self.word(value)))
    }

    fn bounds(&self) -> Bounds {
        Word::bounds(self)
    }
}

/// A required key, with an example for the message if it is missing.
pub struct Required<L>(pub L, pub &'static str);

impl<C, L: SimpleKind> ValueKind<C> for Required<L> {
    type Value = L::Value;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<L::Value>, ConfigError> {
        let value = block.get(key).ok_or_else(|| missing(block, key, self.1))?;
        SimpleKind::read(&self.0, key, block, value).map(Some)
    }

    fn text(&self, value: &L::Value) -> Option<String> {
        SimpleKind::text(&self.0, value)
    }

    fn bounds(&self) -> Bounds {
        SimpleKind::bounds(&self.0)
    }

    fn write(&self, key: &str, value: &L::Value, _: Option<&L::Value>, lines: &mut super::toml::Lines) {
        lines.extend(SimpleKind::text(&self.0, value).map(|text| (key.to_owned(), text)));
    }
}

impl<C, L: SimpleJsonKind> JsonKind<C> for Required<L> {
    type Input = L::Json;
    type Output = L::Json;

    fn accept(&self, key: &str, _: &C, input: L::Json) -> Result<L::Value, String> {
        SimpleJsonKind::accept(&self.0, key, input)
    }

    fn show(&self, _: &C, value: L::Value) -> L::Json {
        value.into()
    }
}

/// The error for a missing key, with an example.
pub fn missing(block: &Block, key: &str, example: &str) -> ConfigError {
    let message = format!("the key `{key}` is missing; add it, such as {key} = {example}");
    ConfigError { is_missing_key: true, ..block.shape(block.span(), &message) }
}

/// A key that is absent by default.
pub struct Optional<L>(pub L);

impl<L: SimpleKind> SimpleKind for Optional<L> {
    type Value = Option<L::Value>;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<Option<L::Value>, ConfigError> {
        SimpleKind::read(&self.0, key, block, value).map(Some)
    }

    fn text(&self, value: &Option<L::Value>) -> Option<String> {
        SimpleKind::text(&self.0, value.as_ref()?)
    }

    fn bounds(&self) -> Bounds {
        SimpleKind::bounds(&self.0)
    }
}

/// A whole number within a range.
pub struct Number<T> {
    range: RangeInclusive<i64>,
    of: PhantomData<fn() -> T>,
}

impl<T> Number<T> {
    /// A number in this range.
    pub const fn new(range: RangeInclusive<i64>) -> Number<T> {
        Number { range, of: PhantomData }
    }

    fn check(&self, key: &str, number: i64) -> Result<T, String>
    where
        T: TryFrom<i64>,
    {
        let outside = || format!("{key} = {number}: expected {} to {}", self.range.start(), self.range.end());
        T::try_from(number).ok().filter(|_| self.range.contains(&number)).ok_or_else(outside)
    }
}

impl<T: TryFrom<i64> + Clone + PartialEq + fmt::Display> SimpleKind for Number<T> {
    type Value = T;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<T, ConfigError> {
        let number = block.number(value)?;
        self.check(key, number).map_err(|message| block.error(value.span(), message))
    }

    fn text(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }

    fn bounds(&self) -> Bounds {
        Bounds::range(self.range.clone())
    }
}

impl<T: TryFrom<i64> + Into<i64> + Clone + PartialEq + fmt::Display> SimpleJsonKind for Number<T> {
    type Json = T;

    fn accept(&self, key: &str, input: T) -> Result<T, String> {
        self.check(key, input.into())
    }
}

/// `true` or `false`.
pub struct Flag;

impl SimpleKind for Flag {
    type Value = bool;

    fn read(&self, _: &str, block: &Block, value: &TomlValue) -> Result<bool, ConfigError> {
        block.flag(value)
    }

    fn text(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

impl SimpleJsonKind for Flag {
    type Json = bool;

    fn accept(&self, _: &str, input: bool) -> Result<bool, String> {
        Ok(input)
    }
}

/// One of the words of a table; in JSON a `J`.
pub struct Words<T: 'static, J = T> {
    words: &'static [(&'static str, T)],
    json: PhantomData<fn() -> J>,
}

impl<T, J> Words<T, J> {
    /// The table: each word with its value.
    pub const fn new(words: &'static [(&'static str, T)]) -> Words<T, J> {
        Words { words, json: PhantomData }
    }
}

impl<T: Clone + PartialEq, J> Word for Words<T, J> {
    type Value = T;

    fn parse(&self, key: &str, word: &str) -> Result<T, String> {
        choice(key, word, self.words)
    }

    fn word(&self, value: &T) -> String {
        let found = self.words.iter().find(|(_, known)| known == value);
        found.map(|(word, _)| *word).expect("because the table has every value").to_owned()
    }
}

impl<T: Clone + PartialEq + From<J>, J: From<T>> SimpleJsonKind for Words<T, J> {
    type Json = J;

    fn accept(&self, _: &str, input: J) -> Result<T, String> {
        Ok(input.into())
    }
}

/// Looks up a word in a table.
///
/// # Errors
/// The word is not in the table; the message suggests the nearest one.
pub fn choice<T: Clone>(key: &str, word: &str, words: &[(&str, T)]) -> Result<T, String> {
    choice_with(key, word, words, &[])
}

/// As [`choice`]; `others` are words that other programs have for what is known here by the second one.
pub fn choice_with<T: Clone>(
    key: &str,
    word: &str,
    words: &[(&str, T)],
    others: &[(&str, &str)],
) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == word) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let all = names.iter().copied().chain(others.iter().map(|(other, _)| *other));
    let found = nearest(word, all);
    let known = |found: &str| others.iter().find(|(other, _)| *other == found).map(|(_, name)| *name);
    let hint = match found.map(|found| known(found).unwrap_or(found)) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("expected one of {}", names.join(", ")),
    };
    Err(format!("{key} = {}: {hint}", escaped(word)))
}

/// A member of a family, such as a scheduler, by its name.
pub struct FamilyMember<R: 'static> {
    /// The family's table.
    pub rows: &'static [R],
    /// The name of a row.
    pub name: fn(&R) -> &'static str,
}

impl<R: PartialEq> Word for FamilyMember<R> {
    type Value = &'static R;

    fn parse(&self, key: &str, word: &str) -> Result<&'static R, String> {
        let rows: Vec<(&str, &'static R)> = self.rows.iter().map(|row| ((self.name)(row), row)).collect();
        choice(key, word, &rows)
    }

    fn word(&self, row: &&'static R) -> String {
        (self.name)(row).to_owned()
    }

    fn bounds(&self) -> Bounds {
        Bounds::values(self.rows.iter().map(self.name))
    }
}

impl<C, R: PartialEq> JsonKind<C> for FamilyMember<R> {
    type Input = String;
    type Output = String;

    fn accept(&self, key: &str, _: &C, input: String) -> Result<&'static R, String> {
        self.parse(key, &input)
    }

    fn show(&self, _: &C, row: &'static R) -> String {
        self.word(&row)
    }
}

/// A number within a range, or one of the words of a table.
pub struct NumberOr<T: 'static> {
    /// The range of numbers.
    pub range: RangeInclusive<i64>,
    /// The words with their values.
    pub words: &'static [(&'static str, T)],
    /// The value of a number.
    pub number: fn(i64) -> T,
    /// The number of a value, unless it is one of the words.
    pub of: fn(&T) -> Option<i64>,
    /// The text of an error, with FIRST and LAST for the range.
    pub expected: &'static str,
}

impl<T: Clone + PartialEq> SimpleKind for NumberOr<T> {
    type Value = T;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<T, ConfigError> {
        let number = integer(value).flatten().filter(|number| self.range.contains(number));
        let word =
            block.text(value).ok().and_then(|word| self.words.iter().find(|(known, _)| *known == word));
        number.map(self.number).or_else(|| word.map(|(_, value)| value.clone())).ok_or_else(|| {
            block.error(value.span(), format!("{key} = {}: expected {}", block.shown(value), self.expected()))
        })
    }

    fn text(&self, value: &T) -> Option<String> {
        let word = || self.words.iter().find(|(_, known)| known == value).map(|(word, _)| quoted(word));
        (self.of)(value).map(|number| number.to_string()).or_else(word)
    }

    fn bounds(&self) -> Bounds {
        Bounds::range(self.range.clone())
    }
}

impl<T> NumberOr<T> {
    fn expected(&self) -> String {
        let (first, last) = (self.range.start(), self.range.end());
        self.expected.replace("FIRST", &first.to_string()).replace("LAST", &last.to_string())
    }
}

/// A number of bytes, or "auto".
pub type Bytes = NumberOr<Option<u16>>;

impl SimpleJsonKind for Bytes {
    type Json = Option<u16>;

    fn accept(&self, key: &str, input: Option<u16>) -> Result<Option<u16>, String> {
        match input.filter(|bytes| !self.range.contains(&i64::from(*bytes))) {
            Some(bytes) => Err(format!("{key} = {bytes}: expected {}", self.expected())),
            None => Ok(input),
        }
    }
}

/// The TTL of an outer header.
pub type OuterTtl = NumberOr<Ttl>;

/// A list of words in their order.
pub struct List<W> {
    /// The kind of its items.
    pub of: W,
    /// Whether an item may appear only once.
    pub is_unique: bool,
}

impl<W: Word> SimpleKind for List<W> {
    type Value = Vec<W::Value>;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<Vec<W::Value>, ConfigError> {
        let mut found: Vec<W::Value> = Vec::new();
        for item in block.list(value)? {
            let one = SimpleKind::read(&self.of, key, block, item)?;
            if self.is_unique && found.contains(&one) {
                let word = self.of.shown(block.text(item)?);
                return Err(block.error(item.span(), format!("{key}: {word} is listed twice; remove one")));
            }
            found.push(one);
        }
        Ok(found)
    }

    fn text(&self, value: &Vec<W::Value>) -> Option<String> {
        let items: Vec<String> = value.iter().filter_map(|item| SimpleKind::text(&self.of, item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// One word, or a list of words with at least one.
pub struct OneOrList<W>(pub List<W>);

impl<W: Word> SimpleKind for OneOrList<W> {
    type Value = Vec<W::Value>;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<Vec<W::Value>, ConfigError> {
        if block.text(value).is_ok() {
            return Ok(vec![SimpleKind::read(&self.0.of, key, block, value)?]);
        }
        match block.list(value) {
            Ok([]) => Err(block.error(value.span(), format!("{key} = []: name at least one"))),
            Ok(_) => SimpleKind::read(&self.0, key, block, value),
            Err(_) => {
                let shown = block.shown(value);
                Err(block.error(
                    value.span(),
                    format!("{key} = {shown}: expected text in quotes, or a list of such texts"),
                ))
            }
        }
    }

    fn text(&self, value: &Vec<W::Value>) -> Option<String> {
        match value.as_slice() {
            [] => None,
            [one] => SimpleKind::text(&self.0.of, one),
            _ => SimpleKind::text(&self.0, value),
        }
    }
}
