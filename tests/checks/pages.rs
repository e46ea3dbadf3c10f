//! docs/checks.md lists every kind of check and every option as the rows have them, and its examples are valid.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use lvs_tund::health::check::CHECKS;
use lvs_tund::health::spec::{OptionRow, Shape};
use lvs_tund::health::{Options, Row, Transport, Value};

use super::harness::row;

const PAGE: &str = "docs/checks.md";

/// The options that every check has.
const COMMON: &[&str] = &[
    "type",
    "via",
    "address",
    "port",
    "interval",
    "fast_interval",
    "down_interval",
    "timeout",
    "rise",
    "fall",
    "start",
    "grace",
];

/// The words behind the last semicolon of the help are the default.
fn option_line(option: &OptionRow) -> String {
    let (meaning, default) = option.help.rsplit_once("; ").expect("a default behind a semicolon");
    let default = default.trim_start_matches("default").trim_start_matches(':').trim();
    let is_value = default.starts_with('"') || default.starts_with(|c: char| c.is_ascii_digit());
    let default =
        if is_value && !default.contains(' ') { format!("`{default}`") } else { default.to_owned() };
    format!("| `{}` | {meaning} | {default} |", option.name)
}

/// The options of a kind, without those of TLS, which the section of `tls` has.
fn own_options(row: &Row) -> Vec<&OptionRow> {
    let is_shared = |option: &OptionRow| self::row("tls").options.iter().any(|tls| tls.name == option.name);
    row.options.iter().filter(|option| row.name == "tls" || !is_shared(option)).collect()
}

fn option_table(row: &Row) -> String {
    let lines: Vec<String> = own_options(row).into_iter().map(option_line).collect();
    match lines.is_empty() {
        true => "It has no options of its own.\n".to_owned(),
        false => format!("| option | meaning | default |\n|---|---|---|\n{}\n", lines.join("\n")),
    }
}

fn kind_line(row: &Row) -> String {
    let carrier = match row.name {
        "dns" => "UDP or TCP",
        _ => match (row.transport)(&Options::new()) {
            Transport::Tcp if row.options.iter().any(|option| option.name == "tls") => "TCP or TLS",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Udp => "UDP",
            Transport::Icmp => "ICMP",
            Transport::Command => "a process",
        },
    };
    let port = row.port.map_or("–".to_owned(), |port| port.to_string());
    format!("| [`{0}`](#{0}) | {1} | {carrier} | {port} |", row.name, row.summary)
}

fn page() -> String {
    fs::read_to_string(PAGE).expect("the page")
}

/// The text below the heading of a kind, up to the next heading.
fn section(row: &Row) -> String {
    let page = page();
    let heading = format!("\n## `{}`\n", row.name);
    let (_, rest) = page.split_once(&heading).unwrap_or_else(|| panic!("{PAGE} has no section {}", row.name));
    rest.split("\n## ").next().expect("a section").to_owned()
}

#[test]
fn the_page_has_every_kind_and_every_option() {
    for row in CHECKS {
        assert!(page().contains(&kind_line(row)), "{PAGE} lacks {}", kind_line(row));
        let section = section(row);
        for option in own_options(row) {
            let line = option_line(option);
            assert!(section.contains(&line), "the section {} of {PAGE} lacks {line}", row.name);
        }
        let has_tls = own_options(row).len() < row.options.len();
        assert!(
            !has_tls || section.contains("[`tls`](#tls)"),
            "the section {} does not refer to tls",
            row.name
        );
    }
    let sections = page().matches("\n## `").count();
    assert_eq!(sections, CHECKS.len(), "{PAGE} has sections of other kinds");
}

fn value(option: &OptionRow, value: &toml::Value) -> Value {
    let text = |value: &toml::Value| value.as_str().expect("text").to_owned();
    let table = |value: &toml::Value| -> BTreeMap<String, String> {
        value.as_table().expect("a table").iter().map(|(name, value)| (name.clone(), text(value))).collect()
    };
    let list = |value: &toml::Value| value.as_array().expect("a list").clone();
    match option.shape {
        Shape::Text => Value::Text(text(value)),
        Shape::Words(words) => {
            assert!(words.contains(&text(value).as_str()), "{}: {value}", option.name);
            Value::Text(text(value))
        }
        Shape::Texts if value.is_str() => Value::Text(text(value)),
        Shape::Texts => Value::Texts(list(value).iter().map(text).collect()),
        Shape::Number(..) => Value::Number(value.as_integer().expect("a number")),
        Shape::Flag => Value::Flag(value.as_bool().expect("true or false")),
        Shape::Duration => Value::Duration(Duration::from_secs(1)),
        Shape::Table => Value::Table(table(value)),
        Shape::Tables(_) => Value::Tables(list(value).iter().map(table).collect()),
    }
}

#[test]
fn the_examples_of_the_page_are_valid() {
    for row in CHECKS {
        let section = section(row);
        let example = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
        let example = example.unwrap_or_else(|| panic!("the section {} has no example", row.name));
        let file: toml::Table = toml::from_str(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        let mut options = Options::new();
        match &file["check"] {
            toml::Value::String(kind) => assert_eq!(kind, row.name),
            check => {
                let check = check.as_table().expect("a table");
                assert_eq!(check["type"].as_str(), Some(row.name));
                for (name, given) in check.iter().filter(|(name, _)| !COMMON.contains(&name.as_str())) {
                    let option = row.options.iter().find(|option| option.name == name);
                    let option = option.unwrap_or_else(|| panic!("{} has no option {name}", row.name));
                    options.insert(option.name, value(option, given));
                }
            }
        }
        assert!((row.build)(&options).is_ok(), "{example}: {:?}", (row.build)(&options).err());
    }
}

/// Writes the tables of the page: `cargo test --test checks -- --ignored write_the_tables`.
#[test]
#[ignore = "writes docs/checks.md"]
fn write_the_tables() {
    let mut page = page();
    let is_kind = |line: &&str| line.starts_with("| [`");
    let kinds: Vec<String> = CHECKS.iter().map(|row| kind_line(row)).collect();
    let old: Vec<String> = page.lines().filter(is_kind).map(str::to_owned).collect();
    page = page.replacen(&old.join("\n"), &kinds.join("\n"), 1);
    for row in CHECKS {
        let old = section(row);
        let table = old.find("| option |").or_else(|| old.find("It has no options of its own."));
        let new = format!("{}{}", &old[..table.expect("a table of options")], option_table(row));
        page = page.replacen(old.trim_end(), new.trim_end(), 1);
    }
    fs::write(PAGE, page).expect("the page");
}
