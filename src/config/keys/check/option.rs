//! The options of one kind of check: read and written by their shapes.

use std::collections::BTreeMap;

use super::{Options, Row};
use crate::config::ConfigError;
use crate::config::key::SimpleKind;
use crate::config::kinds::{Flag, Number, Span, Word, choice};
use crate::config::toml::{Block, TomlValue, quoted};
use crate::health::Value;
use crate::health::spec::Shape;

/// A century: longer than any certificate is valid.
const DURATION: Span = Span::new(0, 3_155_760_000_000);

/// The options of a check that are in its table.
pub(super) fn read(row: &'static Row, table: &Block) -> Result<Options, ConfigError> {
    let mut options = Options::new();
    for option in row.options {
        let key = table.key(option.name);
        if let Some(value) = table.get(&key) {
            options.insert(option.name, read_value(option.shape, &key, table, value)?);
        }
    }
    Ok(options)
}

fn read_value(shape: Shape, key: &str, block: &Block, value: &TomlValue) -> Result<Value, ConfigError> {
    match shape {
        Shape::Text => block.text(value).map(|text| Value::Text(text.to_owned())),
        Shape::Words(words) => {
            let known: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
            let found = choice(key, block.text(value)?, &known);
            let word = found.map_err(|message| block.error(value.span(), message))?;
            Ok(Value::Text(word.to_owned()))
        }
        Shape::Texts => match block.text(value) {
            Ok(one) => Ok(Value::Texts(vec![one.to_owned()])),
            Err(_) => texts(key, block, value),
        },
        Shape::Number(first, last) => {
            SimpleKind::read(&Number::<i64>::new(first..=last), key, block, value).map(Value::Number)
        }
        Shape::Flag => SimpleKind::read(&Flag, key, block, value).map(Value::Flag),
        Shape::Duration => SimpleKind::read(&DURATION, key, block, value).map(Value::Duration),
        Shape::Table => table(key, block, value).map(Value::Table),
        Shape::Tables(known) => tables(known, key, block, value),
    }
}

fn texts(key: &str, block: &Block, value: &TomlValue) -> Result<Value, ConfigError> {
    let Ok(items) = block.list(value) else {
        let shown = block.shown(value);
        let message = format!("{key} = {shown}: expected text in quotes, or a list of such texts");
        return Err(block.error(value.span(), message));
    };
    items.iter().map(|item| block.text(item).map(str::to_owned)).collect::<Result<_, _>>().map(Value::Texts)
}

/// Names with a text each.
fn table(key: &str, block: &Block, value: &TomlValue) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(table) = block.table(value, key) else {
        let shown = block.shown(value);
        let message = format!("{key} = {shown}: expected a table of texts, such as {{ name = \"value\" }}");
        return Err(block.error(value.span(), message));
    };
    let text = |(name, value): (&str, &TomlValue)| Ok((name.to_owned(), block.text(value)?.to_owned()));
    table.entries().map(text).collect()
}

fn tables(
    known: &'static [&'static str],
    key: &str,
    block: &Block,
    value: &TomlValue,
) -> Result<Value, ConfigError> {
    let mut found = Vec::new();
    for item in block.list(value)? {
        if let Some(inner) = block.table(item, key)
            && let Some(error) = inner.unknown_keys(known, |_| None).into_iter().next()
        {
            return Err(error);
        }
        found.push(table(key, block, item)?);
    }
    Ok(Value::Tables(found))
}

/// The lines of the options, in the order of the rows.
pub(super) fn write(row: &Row, options: &Options) -> Vec<(String, String)> {
    let line = |name: &&str| Some(((*name).to_owned(), text(options.get(name)?)));
    row.options.iter().map(|option| option.name).filter_map(|name| line(&name)).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Texts(texts) => super::list(texts.iter().map(|text| quoted(text))),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Duration(duration) => quoted(&DURATION.word(duration)),
        Value::Table(table) => table_text(table),
        Value::Tables(tables) => super::list(tables.iter().map(table_text)),
    }
}

/// A name in quotes, because a header may be written with any characters.
fn table_text(table: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        table.iter().map(|(name, text)| format!("{} = {}", name_text(name), quoted(text))).collect();
    match pairs.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", pairs.join(", ")),
    }
}

/// A key without quotes where TOML allows it.
fn name_text(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { name.to_owned() } else { quoted_name(name) }
}

/// A key in TOML's basic string: never over several lines, as a value may be.
fn quoted_name(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
