//! What a value may be, in the terms of a JSON schema.

use std::ops::RangeInclusive;

use serde_json::Value;

/// The bounds of a key's value; those of a list's items, if it is a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Of a number.
    pub range: Option<RangeInclusive<i64>>,
    /// The only values there are.
    pub values: Option<Vec<Value>>,
    /// The number of characters of a text.
    pub length: Option<RangeInclusive<usize>>,
    /// The form of a text, a name of the JSON Schema specification.
    pub format: Option<&'static str>,
    /// A list needs at least this many items.
    pub items_min: Option<usize>,
}

impl Bounds {
    /// The numbers of the range.
    pub fn range(range: RangeInclusive<i64>) -> Bounds {
        Bounds { range: Some(range), ..Bounds::default() }
    }

    /// Only these values.
    pub fn values<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Bounds {
        Bounds { values: Some(values.into_iter().map(Into::into).collect()), ..Bounds::default() }
    }
}
