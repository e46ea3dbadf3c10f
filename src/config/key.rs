//! What a row of the tables in [`super::keys`] is made of. A configuration key is a field of a plan and one row; whoever
//! reads, writes, compares or merges configurations goes through the rows and knows none of them by name.
//!
//! [`Takes`] says what a key takes in a file, [`Served`] what it takes and shows as JSON; [`Field`] ties one to a field.

mod bounds;
mod table;

use super::ConfigError;
use super::toml::{Block, Lines};
use super::types::ServiceDefaults;

pub use bounds::Bounds;
pub use table::is_covered;
pub(super) use table::keys;

/// When a new value is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At once.
    Live,
    /// At the daemon's next start.
    Restart,
}

/// What is told of a key that differs: its name, the value before and the value after, as a file has them.
pub type Found<'a> = dyn FnMut(&str, String, String) + 'a;

/// What a key takes in a file, in a block that becomes a `C`.
pub trait Takes<C> {
    type Value: Clone + PartialEq;

    /// The value in the block; `None`: the key is not there. `config` has the keys of the rows above.
    ///
    /// # Errors
    /// What is wrong, and where.
    fn read(&self, key: &str, config: &C, block: &Block) -> Result<Option<Self::Value>, ConfigError>;

    /// The value as a file has it; `None`: as if the key were not there.
    fn text(&self, value: &Self::Value) -> Option<String>;

    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// The names that a block may have for it.
    fn names(&self, name: &'static str, found: &mut Vec<&'static str>) {
        found.push(name);
    }

    /// The keys that a manual has to explain.
    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.push(name.to_owned());
    }

    /// Lines that say the value, unless it is `unsaid`.
    fn write(&self, key: &str, value: &Self::Value, unsaid: Option<&Self::Value>, lines: &mut Lines) {
        if unsaid != Some(value) {
            lines.extend(self.text(value).map(|text| (key.to_owned(), text)));
        }
    }

    fn compare(&self, key: &str, old: &Self::Value, new: &Self::Value, found: &mut Found) {
        if old != new {
            let text = |value| self.text(value).unwrap_or_default();
            found(key, text(old), text(new));
        }
    }

    /// `next` is what is in force: it becomes `file` where that is not `base`.
    fn merge(&self, base: &Self::Value, file: &Self::Value, next: Self::Value) -> Self::Value {
        if base == file { next } else { file.clone() }
    }
}

/// What a key takes and shows as JSON.
pub trait Served<C>: Takes<C> {
    type Asked;
    type Shown;

    /// # Errors
    /// One sentence about what is asked for.
    fn accept(&self, key: &str, config: &C, asked: Self::Asked) -> Result<Self::Value, String>;

    fn show(&self, config: &C, value: Self::Value) -> Self::Shown;
}

/// What a key takes that has nothing to do with others: one value.
pub trait Leaf {
    type Value: Clone + PartialEq;

    /// # Errors
    /// What is wrong with it.
    fn read(&self, key: &str, block: &Block, value: &super::toml::Value) -> Result<Self::Value, ConfigError>;

    fn text(&self, value: &Self::Value) -> Option<String>;

    fn bounds(&self) -> Bounds {
        Bounds::default()
    }
}

impl<C, L: Leaf> Takes<C> for L {
    type Value = L::Value;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<L::Value>, ConfigError> {
        block.get(key).map(|value| Leaf::read(self, key, block, value)).transpose()
    }

    fn text(&self, value: &L::Value) -> Option<String> {
        Leaf::text(self, value)
    }

    fn bounds(&self) -> Bounds {
        Leaf::bounds(self)
    }
}

/// [`Served`] for a [`Leaf`].
pub trait ServedLeaf: Leaf {
    type Json: From<Self::Value>;

    /// # Errors
    /// One sentence about what is asked for.
    fn accept(&self, key: &str, asked: Self::Json) -> Result<Self::Value, String>;
}

impl<C, L: ServedLeaf> Served<C> for L {
    type Asked = L::Json;
    type Shown = L::Json;

    fn accept(&self, key: &str, _: &C, asked: L::Json) -> Result<L::Value, String> {
        ServedLeaf::accept(self, key, asked)
    }

    fn show(&self, _: &C, value: L::Value) -> L::Json {
        value.into()
    }
}

/// A row: a key and its field.
pub struct Field<C: 'static, K: Takes<C>> {
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    pub change: Change,
    pub takes: K,
    pub get: fn(&C) -> K::Value,
    pub set: fn(&mut C, K::Value),
    /// Given what is said otherwise, and what services begin with.
    pub default: fn(&C, &ServiceDefaults) -> K::Value,
}

/// A row of any type.
pub trait Key<C>: Sync {
    fn name(&self) -> &'static str;
    fn help(&self) -> &'static str;
    fn change(&self) -> Change;
    fn bounds(&self) -> Bounds;
    fn names(&self, found: &mut Vec<&'static str>);
    fn explained(&self, found: &mut Vec<String>);
    fn set_default(&self, config: &mut C, defaults: &ServiceDefaults);
    /// Whether the key is there.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&self, config: &mut C, block: &Block) -> Result<bool, ConfigError>;
    /// Lines that say what is not the default.
    fn write(&self, config: &C, defaults: &ServiceDefaults, lines: &mut Lines);
    /// Lines below `prefix` that say what is not as in `unsaid`.
    fn write_below(&self, prefix: &str, config: &C, unsaid: Option<&C>, lines: &mut Lines);
    fn compare(&self, prefix: &str, old: &C, new: &C, found: &mut Found);
    fn merge(&self, base: &C, file: &C, next: &mut C);
    fn is_same(&self, a: &C, b: &C) -> bool;
}

impl<C, K: Takes<C> + Sync> Key<C> for Field<C, K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn change(&self) -> Change {
        self.change
    }

    fn bounds(&self) -> Bounds {
        self.takes.bounds()
    }

    fn names(&self, found: &mut Vec<&'static str>) {
        self.takes.names(self.name, found);
    }

    fn explained(&self, found: &mut Vec<String>) {
        self.takes.explained(self.name, found);
    }

    fn set_default(&self, config: &mut C, defaults: &ServiceDefaults) {
        let value = (self.default)(config, defaults);
        (self.set)(config, value);
    }

    fn read(&self, config: &mut C, block: &Block) -> Result<bool, ConfigError> {
        let value = self.takes.read(&block.key(self.name), config, block)?;
        let is_there = value.is_some();
        value.into_iter().for_each(|value| (self.set)(config, value));
        Ok(is_there)
    }

    fn write(&self, config: &C, defaults: &ServiceDefaults, lines: &mut Lines) {
        let unsaid = (self.default)(config, defaults);
        self.takes.write(self.name, &(self.get)(config), Some(&unsaid), lines);
    }

    fn write_below(&self, prefix: &str, config: &C, unsaid: Option<&C>, lines: &mut Lines) {
        let key = format!("{prefix}{}", self.name);
        self.takes.write(&key, &(self.get)(config), unsaid.map(self.get).as_ref(), lines);
    }

    fn compare(&self, prefix: &str, old: &C, new: &C, found: &mut Found) {
        let key = format!("{prefix}{}", self.name);
        self.takes.compare(&key, &(self.get)(old), &(self.get)(new), found);
    }

    fn merge(&self, base: &C, file: &C, next: &mut C) {
        let merged = self.takes.merge(&(self.get)(base), &(self.get)(file), (self.get)(next));
        (self.set)(next, merged);
    }

    fn is_same(&self, a: &C, b: &C) -> bool {
        (self.get)(a) == (self.get)(b)
    }
}

/// The rows of a block.
pub type Keys<C> = [&'static dyn Key<C>];

/// Reads a block; `config` has what the rows do not say. Keys that are not there have their defaults.
///
/// # Errors
/// The first thing that is wrong, in the rows' order; `others` may stand in the block too.
pub fn read<C>(
    keys: &Keys<C>,
    others: &[&'static str],
    config: &mut C,
    defaults: &ServiceDefaults,
    block: &Block,
) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    keys.iter().for_each(|key| key.names(&mut known));
    known.extend(others);
    block.check_known(&known)?;
    keys.iter().for_each(|key| key.set_default(config, defaults));
    let mut left_out = Vec::new();
    for key in keys {
        if !key.read(config, block)? {
            left_out.push(key);
        }
    }
    // Defaults that depend on what is said elsewhere.
    left_out.into_iter().for_each(|key| key.set_default(config, defaults));
    Ok(())
}

pub fn write<C>(keys: &Keys<C>, config: &C, defaults: &ServiceDefaults, lines: &mut Lines) {
    keys.iter().for_each(|key| key.write(config, defaults, lines));
}

pub fn compare<C>(keys: &Keys<C>, old: &C, new: &C, found: &mut Found) {
    keys.iter().for_each(|key| key.compare("", old, new, found));
}

pub fn merge<C>(keys: &Keys<C>, base: &C, file: &C, next: &mut C) {
    keys.iter().for_each(|key| key.merge(base, file, next));
}
