//! What keys take: numbers, words, durations, addresses and the like.

mod values;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use super::key::{Bounds, Leaf, Served, ServedLeaf, Takes};
use super::suggest::nearest;
use super::toml::{Block, Value, integer, quoted};
use super::{ConfigError, clipped};
use crate::encapsulation::Ttl;
use crate::packet::Protocol;

pub use values::{Address, Group, HashKey, Interface, Listen, Name, OuterSource, SocketPath, Timeout};

pub const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// A word as it was written, with quotes; line breaks and the like show as escapes.
pub fn escaped(word: &str) -> String {
    format!("{:?}", clipped(word))
}

/// What stands in quotes.
pub trait Word {
    type Value: Clone + PartialEq;

    /// # Errors
    /// What is wrong with it, and what was expected.
    fn parse(&self, key: &str, word: &str) -> Result<Self::Value, String>;

    fn word(&self, value: &Self::Value) -> String;

    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// A word that was read, in a message.
    fn shown(&self, word: &str) -> String {
        escaped(word)
    }
}

impl<W: Word> Leaf for W {
    type Value = W::Value;

    fn read(&self, key: &str, block: &Block, value: &Value) -> Result<W::Value, ConfigError> {
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

/// A key that has to be there; with an example.
pub struct Required<L>(pub L, pub &'static str);

impl<C, L: Leaf> Takes<C> for Required<L> {
    type Value = L::Value;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<L::Value>, ConfigError> {
        let value = block.get(key).ok_or_else(|| missing(block, key, self.1))?;
        Leaf::read(&self.0, key, block, value).map(Some)
    }

    fn text(&self, value: &L::Value) -> Option<String> {
        Leaf::text(&self.0, value)
    }

    fn bounds(&self) -> Bounds {
        Leaf::bounds(&self.0)
    }

    fn write(&self, key: &str, value: &L::Value, _: Option<&L::Value>, lines: &mut super::toml::Lines) {
        lines.extend(Leaf::text(&self.0, value).map(|text| (key.to_owned(), text)));
    }
}

impl<C, L: ServedLeaf> Served<C> for Required<L> {
    type Asked = L::Json;
    type Shown = L::Json;

    fn accept(&self, key: &str, _: &C, asked: L::Json) -> Result<L::Value, String> {
        ServedLeaf::accept(&self.0, key, asked)
    }

    fn show(&self, _: &C, value: L::Value) -> L::Json {
        value.into()
    }
}

/// A key that a block does not have, with an example of it.
pub fn missing(block: &Block, key: &str, example: &str) -> ConfigError {
    block.shape(block.span(), &format!("the key `{key}` is missing; add it, such as {key} = {example}"))
}

/// A key whose default is to be absent.
pub struct Optional<L>(pub L);

impl<L: Leaf> Leaf for Optional<L> {
    type Value = Option<L::Value>;

    fn read(&self, key: &str, block: &Block, value: &Value) -> Result<Option<L::Value>, ConfigError> {
        Leaf::read(&self.0, key, block, value).map(Some)
    }

    fn text(&self, value: &Option<L::Value>) -> Option<String> {
        Leaf::text(&self.0, value.as_ref()?)
    }

    fn bounds(&self) -> Bounds {
        Leaf::bounds(&self.0)
    }
}

/// A whole number within a range.
pub struct Number<T> {
    range: RangeInclusive<i64>,
    of: PhantomData<fn() -> T>,
}

impl<T> Number<T> {
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

impl<T: TryFrom<i64> + Clone + PartialEq + fmt::Display> Leaf for Number<T> {
    type Value = T;

    fn read(&self, key: &str, block: &Block, value: &Value) -> Result<T, ConfigError> {
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

impl<T: TryFrom<i64> + Into<i64> + Clone + PartialEq + fmt::Display> ServedLeaf for Number<T> {
    type Json = T;

    fn accept(&self, key: &str, asked: T) -> Result<T, String> {
        self.check(key, asked.into())
    }
}

/// `true` or `false`.
pub struct Flag;

impl Leaf for Flag {
    type Value = bool;

    fn read(&self, _: &str, block: &Block, value: &Value) -> Result<bool, ConfigError> {
        block.flag(value)
    }

    fn text(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

impl ServedLeaf for Flag {
    type Json = bool;

    fn accept(&self, _: &str, asked: bool) -> Result<bool, String> {
        Ok(asked)
    }
}

/// One of a table's words; as JSON a `J`.
pub struct Words<T: 'static, J = T> {
    words: &'static [(&'static str, T)],
    json: PhantomData<fn() -> J>,
}

impl<T, J> Words<T, J> {
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

impl<T: Clone + PartialEq + From<J>, J: From<T>> ServedLeaf for Words<T, J> {
    type Json = J;

    fn accept(&self, _: &str, asked: J) -> Result<T, String> {
        Ok(asked.into())
    }
}

/// The value of one of the given words.
///
/// # Errors
/// It is none of them; with the nearest one.
pub fn choice<T: Clone>(key: &str, word: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == word) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(word, names.iter().copied()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("expected one of {}", names.join(", ")),
    };
    Err(format!("{key} = {}: {hint}", escaped(word)))
}

/// The name of a member of a family; each name with what it stands for in the program, itself.
pub struct Member(pub fn() -> Vec<&'static str>);

impl Word for Member {
    type Value = &'static str;

    fn parse(&self, key: &str, word: &str) -> Result<&'static str, String> {
        let names: Vec<(&str, &'static str)> = (self.0)().into_iter().map(|name| (name, name)).collect();
        choice(key, word, &names)
    }

    fn word(&self, value: &&'static str) -> String {
        (*value).to_owned()
    }

    fn bounds(&self) -> Bounds {
        Bounds::values((self.0)())
    }
}

impl ServedLeaf for Member {
    type Json = String;

    fn accept(&self, key: &str, asked: String) -> Result<&'static str, String> {
        self.parse(key, &asked)
    }
}

/// A number within a range, or one of a table's words.
pub struct NumberOr<T: 'static> {
    pub range: RangeInclusive<i64>,
    pub words: &'static [(&'static str, T)],
    pub number: fn(i64) -> T,
    /// The number in it.
    pub of: fn(&T) -> Option<i64>,
    pub expected: &'static str,
}

impl<T: Clone + PartialEq> Leaf for NumberOr<T> {
    type Value = T;

    fn read(&self, key: &str, block: &Block, value: &Value) -> Result<T, ConfigError> {
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

/// Bytes, or "auto".
pub type Bytes = NumberOr<Option<u16>>;

impl ServedLeaf for Bytes {
    type Json = Option<u16>;

    fn accept(&self, key: &str, asked: Option<u16>) -> Result<Option<u16>, String> {
        match asked.filter(|bytes| !self.range.contains(&i64::from(*bytes))) {
            Some(bytes) => Err(format!("{key} = {bytes}: expected {}", self.expected())),
            None => Ok(asked),
        }
    }
}

/// TTL of an outer header.
pub type OuterTtl = NumberOr<Ttl>;

/// Several of something, in their order.
pub struct List<W> {
    pub of: W,
    /// One that is listed twice is refused.
    pub is_unique: bool,
}

impl<W: Word> Leaf for List<W> {
    type Value = Vec<W::Value>;

    fn read(&self, key: &str, block: &Block, value: &Value) -> Result<Vec<W::Value>, ConfigError> {
        let mut found: Vec<W::Value> = Vec::new();
        for item in block.list(value)? {
            let one = Leaf::read(&self.of, key, block, item)?;
            if self.is_unique && found.contains(&one) {
                let word = self.of.shown(block.text(item)?);
                return Err(block.error(item.span(), format!("{key}: {word} is listed twice; remove one")));
            }
            found.push(one);
        }
        Ok(found)
    }

    fn text(&self, value: &Vec<W::Value>) -> Option<String> {
        let items: Vec<String> = value.iter().filter_map(|item| Leaf::text(&self.of, item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}
