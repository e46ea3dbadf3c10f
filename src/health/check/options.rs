//! Reading the options of a check. The configuration passes on only values of the right shape; another one counts as
//! absent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::health::spec::{OptionRow, Options, Value};

/// The options of two lists as one; `N` is the sum of their lengths.
pub(super) const fn joined<const N: usize>(first: &[OptionRow], second: &[OptionRow]) -> [OptionRow; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

/// A text, or one of several words.
pub(super) fn text<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    match options.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// A list of texts; a single text is a list of one.
pub(super) fn texts<'a>(options: &'a Options, name: &str) -> &'a [String] {
    match options.get(name) {
        Some(Value::Text(text)) => std::slice::from_ref(text),
        Some(Value::Texts(texts)) => texts,
        _ => &[],
    }
}

/// A whole number.
pub(super) fn number(options: &Options, name: &str) -> Option<i64> {
    match options.get(name) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

/// `default` unless it is given.
pub(super) fn flag(options: &Options, name: &str, default: bool) -> bool {
    match options.get(name) {
        Some(Value::Flag(flag)) => *flag,
        _ => default,
    }
}

/// A duration.
pub(super) fn duration(options: &Options, name: &str) -> Option<Duration> {
    match options.get(name) {
        Some(Value::Duration(duration)) => Some(*duration),
        _ => None,
    }
}

/// Names with a text each.
pub(super) fn table(options: &Options, name: &str) -> BTreeMap<String, String> {
    match options.get(name) {
        Some(Value::Table(table)) => table.clone(),
        _ => BTreeMap::new(),
    }
}

/// A list of tables.
pub(super) fn tables<'a>(options: &'a Options, name: &str) -> &'a [BTreeMap<String, String>] {
    match options.get(name) {
        Some(Value::Tables(tables)) => tables,
        _ => &[],
    }
}

/// The beginning of bytes for the eye: one line, quoted, without hidden characters.
pub(super) fn shown(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    format!("\"{}\"", clipped(line))
}

/// The beginning of bytes without hidden characters.
pub(super) fn clipped(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    let cut = &bytes[..bytes.len().min(SHOWN_MAX)];
    let text = cut.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
    format!("{text}{}", if cut.len() < bytes.len() { "…" } else { "" })
}
