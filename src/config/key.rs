//! The parts of a row in the tables of [`super::keys`]. Every configuration key is a field of a plan and one row. The code
//! that reads, writes, compares or merges configurations iterates the rows and does not refer to single keys.
//!
//! [`ValueKind`] defines the values of a key in a file, [`JsonKind`] their form in JSON, and [`Field`] connects a kind to a
//! field of a configuration type.

mod bounds;
mod table;

use super::ConfigError;
use super::toml::{Block, Lines, PlaceOf};
use super::types::ServiceDefaults;

pub use bounds::Bounds;
pub use table::is_covered;
pub(super) use table::keys;

/// When a new value applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once.
    Live,
    /// At the daemon's next start.
    Restart,
}

/// Receives a key that differs: its name, and the values before and after as they appear in a file.
pub type OnDifference<'a> = dyn FnMut(&str, String, String) + 'a;

/// A kind of value in a file, for keys of a block that becomes a `C`.
pub trait ValueKind<C> {
    /// The parsed value.
    type Value: Clone + PartialEq;

    /// Reads the value from the block; `None` if the key is absent. `config` already has the keys of earlier rows.
    ///
    /// # Errors
    /// What is wrong, and where.
    fn read(&self, key: &str, config: &C, block: &Block) -> Result<Option<Self::Value>, ConfigError>;

    /// The value as it appears in a file; `None` if the key has to be absent.
    fn text(&self, value: &Self::Value) -> Option<String>;

    /// The bounds of its values in the schema.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// Adds the names of the key that a block may contain.
    fn names(&self, name: &'static str, found: &mut Vec<&'static str>) {
        found.push(name);
    }

    /// Adds the names that the manual must explain.
    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.push(name.to_owned());
    }

    /// Adds the lines for the value, unless it equals `default`.
    fn write(&self, key: &str, value: &Self::Value, default: Option<&Self::Value>, lines: &mut Lines) {
        if default != Some(value) {
            lines.extend(self.text(value).map(|text| (key.to_owned(), text)));
        }
    }

    /// Reports the key if its values differ.
    fn compare(&self, key: &str, old: &Self::Value, new: &Self::Value, found: &mut OnDifference) {
        if old != new {
            let text = |value| self.text(value).unwrap_or_default();
            found(key, text(old), text(new));
        }
    }

    /// The merged value: `next`, the running value, unless the file has changed from `base` to `file`.
    fn merge(&self, base: &Self::Value, file: &Self::Value, next: Self::Value) -> Self::Value {
        if base == file { next } else { file.clone() }
    }
}

/// The form of a value in the JSON of the API.
pub trait JsonKind<C>: ValueKind<C> {
    /// The value in a request.
    type Input;
    /// The value in an answer.
    type Output;

    /// Checks a value from a request.
    ///
    /// # Errors
    /// One sentence about the value.
    fn accept(&self, key: &str, config: &C, input: Self::Input) -> Result<Self::Value, String>;

    /// The value as an answer shows it.
    fn show(&self, config: &C, value: Self::Value) -> Self::Output;
}

/// A kind of value that does not depend on other keys.
pub trait SimpleKind {
    /// The parsed value.
    type Value: Clone + PartialEq;

    /// Parses a value from a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn read(
        &self,
        key: &str,
        block: &Block,
        value: &super::toml::TomlValue,
    ) -> Result<Self::Value, ConfigError>;

    /// The value as it appears in a file; `None` if the key has to be absent.
    fn text(&self, value: &Self::Value) -> Option<String>;

    /// The bounds of its values in the schema.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }
}

impl<C, L: SimpleKind> ValueKind<C> for L {
    type Value = L::Value;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<L::Value>, ConfigError> {
        block.get(key).map(|value| SimpleKind::read(self, key, block, value)).transpose()
    }

    fn text(&self, value: &L::Value) -> Option<String> {
        SimpleKind::text(self, value)
    }

    fn bounds(&self) -> Bounds {
        SimpleKind::bounds(self)
    }
}

/// [`JsonKind`] for a [`SimpleKind`].
pub trait SimpleJsonKind: SimpleKind {
    /// The value in requests and answers.
    type Json: From<Self::Value>;

    /// Checks a value from a request.
    ///
    /// # Errors
    /// One sentence about the value.
    fn accept(&self, key: &str, input: Self::Json) -> Result<Self::Value, String>;
}

impl<C, L: SimpleJsonKind> JsonKind<C> for L {
    type Input = L::Json;
    type Output = L::Json;

    fn accept(&self, key: &str, _: &C, input: L::Json) -> Result<L::Value, String> {
        SimpleJsonKind::accept(self, key, input)
    }

    fn show(&self, _: &C, value: L::Value) -> L::Json {
        value.into()
    }
}

/// A row: a key, and the field that it sets.
pub struct Field<C: 'static, K: ValueKind<C>> {
    /// The name of the key.
    pub name: &'static str,
    /// One line of explanation.
    pub help: &'static str,
    /// When a new value applies.
    pub applies: Applies,
    /// The kind of value.
    pub kind: K,
    /// Reads the field.
    pub get: fn(&C) -> K::Value,
    /// Writes the field.
    pub set: fn(&mut C, K::Value),
    /// The default, which may depend on other keys and on the defaults for services.
    pub default: fn(&C, &ServiceDefaults) -> K::Value,
}

/// A row with any kind of value.
pub trait Key<C>: Sync {
    /// The name of the key.
    fn name(&self) -> &'static str;
    /// One line of explanation.
    fn help(&self) -> &'static str;
    /// When a new value applies.
    fn applies(&self) -> Applies;
    /// The bounds of its values in the schema.
    fn bounds(&self) -> Bounds;
    /// Adds the names of the key that a block may contain.
    fn names(&self, found: &mut Vec<&'static str>);
    /// Adds the names that the manual must explain.
    fn explained(&self, found: &mut Vec<String>);
    /// Sets the field to its default.
    fn set_default(&self, config: &mut C, defaults: &ServiceDefaults);
    /// Reads the key from the block into its field; false if the key is absent.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&self, config: &mut C, block: &Block) -> Result<bool, ConfigError>;
    /// Adds the lines for a value that is not the default.
    fn write(&self, config: &C, defaults: &ServiceDefaults, lines: &mut Lines);
    /// Adds the lines for a value that differs from `default`; their keys begin with `prefix`.
    fn write_below(&self, prefix: &str, config: &C, default: Option<&C>, lines: &mut Lines);
    /// Reports the key, with `prefix` before it, if its values differ.
    fn compare(&self, prefix: &str, old: &C, new: &C, found: &mut OnDifference);
    /// Sets the field in `next` to its value in `file` if that is not its value in `base`.
    fn merge(&self, base: &C, file: &C, next: &mut C);
    /// Whether the values are equal.
    fn is_same(&self, a: &C, b: &C) -> bool;
}

impl<C, K: ValueKind<C> + Sync> Key<C> for Field<C, K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn applies(&self) -> Applies {
        self.applies
    }

    fn bounds(&self) -> Bounds {
        self.kind.bounds()
    }

    fn names(&self, found: &mut Vec<&'static str>) {
        self.kind.names(self.name, found);
    }

    fn explained(&self, found: &mut Vec<String>) {
        self.kind.explained(self.name, found);
    }

    fn set_default(&self, config: &mut C, defaults: &ServiceDefaults) {
        let value = (self.default)(config, defaults);
        (self.set)(config, value);
    }

    fn read(&self, config: &mut C, block: &Block) -> Result<bool, ConfigError> {
        let value = self.kind.read(&block.key(self.name), config, block)?;
        let is_there = value.is_some();
        value.into_iter().for_each(|value| (self.set)(config, value));
        Ok(is_there)
    }

    fn write(&self, config: &C, defaults: &ServiceDefaults, lines: &mut Lines) {
        let default = (self.default)(config, defaults);
        self.kind.write(self.name, &(self.get)(config), Some(&default), lines);
    }

    fn write_below(&self, prefix: &str, config: &C, default: Option<&C>, lines: &mut Lines) {
        let key = format!("{prefix}{}", self.name);
        self.kind.write(&key, &(self.get)(config), default.map(self.get).as_ref(), lines);
    }

    fn compare(&self, prefix: &str, old: &C, new: &C, found: &mut OnDifference) {
        let key = format!("{prefix}{}", self.name);
        self.kind.compare(&key, &(self.get)(old), &(self.get)(new), found);
    }

    fn merge(&self, base: &C, file: &C, next: &mut C) {
        let merged = self.kind.merge(&(self.get)(base), &(self.get)(file), (self.get)(next));
        (self.set)(next, merged);
    }

    fn is_same(&self, a: &C, b: &C) -> bool {
        (self.get)(a) == (self.get)(b)
    }
}

/// The rows of one kind of block.
pub type Keys<C> = [&'static dyn Key<C>];

/// Reads a block into `config`; absent keys get their defaults. The block may also contain the keys in `others`.
/// Returns every error: unknown keys first, then wrong values in the order of the rows.
pub fn read<C>(
    keys: &Keys<C>,
    others: &[&'static str],
    place_of: PlaceOf,
    config: &mut C,
    defaults: &ServiceDefaults,
    block: &Block,
) -> Vec<ConfigError> {
    let mut errors = block.unknown_keys(&[names(keys), others.to_vec()].concat(), place_of);
    // A misspelt key is not also reported as missing.
    let missing = if errors.is_empty() { None } else { block.error(block.span(), "").line };
    keys.iter().for_each(|key| key.set_default(config, defaults));
    let mut absent = Vec::new();
    for key in keys {
        match key.read(config, block) {
            Ok(true) => {}
            Ok(false) => absent.push(key),
            Err(error) if missing.is_some() && error.line == missing => {}
            Err(error) => errors.push(error),
        }
    }
    // Again, because a default may depend on other keys.
    absent.into_iter().for_each(|key| key.set_default(config, defaults));
    errors
}

/// Every name that a block with these rows may contain.
pub fn names<C>(keys: &Keys<C>) -> Vec<&'static str> {
    let mut names = Vec::new();
    keys.iter().for_each(|key| key.names(&mut names));
    names
}

/// No key belongs in another place.
pub fn no_other_place(_: &str) -> Option<&'static str> {
    None
}

/// Adds the lines of all keys that do not have their defaults.
pub fn write<C>(keys: &Keys<C>, config: &C, defaults: &ServiceDefaults, lines: &mut Lines) {
    keys.iter().for_each(|key| key.write(config, defaults, lines));
}

/// Reports every key whose values differ.
pub fn compare<C>(keys: &Keys<C>, old: &C, new: &C, found: &mut OnDifference) {
    keys.iter().for_each(|key| key.compare("", old, new, found));
}

/// Sets the keys in `next` whose values in `file` and `base` differ to those in `file`.
pub fn merge<C>(keys: &Keys<C>, base: &C, file: &C, next: &mut C) {
    keys.iter().for_each(|key| key.merge(base, file, next));
}
