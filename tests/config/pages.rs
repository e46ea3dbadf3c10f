//! The pages in `docs/` explain every drop reason, metric and scheduler, and the files that they show are valid.

use std::collections::BTreeSet;

use lvs_tund::config::diff;

use super::support::markdown::documents;
use super::{DIRECTOR, director, essence, realserver};

const METRICS: &str = include_str!("../../docs/metrics.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

/// The first cells of a table, where they are code.
fn rows(table: &str) -> Vec<&str> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

#[test]
fn a_page_explains_every_drop_reason_of_each_daemon() {
    let (_, rest) = METRICS.split_once("\n## Drop reasons of the director\n").unwrap();
    let (director, realserver) = rest.split_once("\n## Drop reasons of the real server\n").unwrap();
    let known: Vec<&str> =
        lvs_tund::director::verdict::DropReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(rows(director), known);
    let known: Vec<&str> =
        lvs_tund::realserver::verdict::DropReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(rows(realserver), known);
}

#[test]
fn a_page_explains_every_metric_with_its_labels() {
    let (tables, _) = METRICS.split_once("\n## Drop reasons of the director\n").unwrap();
    let explained: BTreeSet<String> = rows(tables).into_iter().map(str::to_owned).collect();
    let with_labels = |entry: &lvs_tund::metrics::names::Name| match entry.labels {
        [] => entry.name.to_owned(),
        labels => format!("{}{{{}}}", entry.name, labels.join(",")),
    };
    let known: BTreeSet<String> = lvs_tund::metrics::names::NAMES.iter().map(with_labels).collect();
    assert_eq!(explained, known);
}

#[test]
fn a_page_names_every_kind_of_reply_and_every_cause_of_a_send_error() {
    let replies = lvs_tund::director::verdict::ReplyKind::all().map(|kind| kind.label());
    let causes = lvs_tund::director::server_errors::Cause::ALL.iter().map(|cause| cause.label());
    let kinds = lvs_tund::director::path_errors::Kind::ALL.iter().map(|kind| kind.label());
    let outcomes = lvs_tund::director::path_errors::Outcome::ALL.iter().map(|outcome| outcome.label());
    for label in replies.chain(causes).chain(kinds).chain(outcomes) {
        assert!(METRICS.contains(&format!("`{label}`")), "docs/metrics.md does not name {label}");
    }
}

#[test]
fn the_documents_show_files_that_are_valid() {
    let (mut directors, mut realservers) = (0, 0);
    for document in documents() {
        for block in document.blocks().into_iter().filter(|block| block.language == "toml") {
            let place = format!("{}:{}", document.path.display(), block.line);
            match block.code.lines().next() {
                Some("# director.toml") => {
                    director(&block.code).unwrap_or_else(|error| panic!("{place}: {error}"));
                    directors += 1;
                }
                Some("# realserver.toml") => {
                    realserver(&block.code).unwrap_or_else(|error| panic!("{place}: {error}"));
                    realservers += 1;
                }
                first => panic!("{place}: a snippet does not name its file: {first:?}"),
            }
        }
    }
    assert!(directors >= 2 && realservers >= 2, "{directors} and {realservers}");
}

#[test]
fn the_documents_name_only_metrics_that_exist() {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let documents = documents();
    let words = documents.iter().flat_map(|document| document.text.split(|c| !is_part(c)));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("lvs_tund_")).collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        assert!(lvs_tund::metrics::names::find(name).is_some(), "{name}");
    }
}

#[test]
fn the_page_and_the_example_explain_every_scheduler() {
    let (_, table) = CONFIGURATION.split_once("\n## Schedulers\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let schedulers = lvs_tund::director::scheduler::SCHEDULERS;
    let explained: BTreeSet<&str> = rows(table).into_iter().collect();
    assert_eq!(explained, schedulers.iter().map(|row| row.name).collect());
    let table = table.replace('`', "");
    for row in schedulers {
        let cells = format!("\n| {} | {}", row.name, row.summary);
        assert!(table.contains(&cells), "docs/configuration.md: {cells}");
        let name = format!("\"{}\"", row.name);
        let line = format!("\n#   {name:7}  {}\n", row.summary);
        assert!(DIRECTOR.contains(&line), "config/director.toml: {line}");
    }
}

/// The keys that `config::diff` finds to need a restart, as docs/operating.md lists them.
#[test]
fn the_page_lists_the_keys_that_need_a_restart() {
    let operating = include_str!("../../docs/operating.md");
    let (_, list) = operating.split_once("\nKeys that need a restart: ").unwrap();
    let (list, _) = list.split_once(".\n").unwrap();
    let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let other = r#"
interface = "eth1"
tun = "lvsd1"
queues = 7
metrics = "127.0.0.1:9999"
control = "/run/other.sock"
control_group = "adm"
api = "127.0.0.1:9998"
http_names = ["director1.example.com"]
capture = "rule"
announce = "never"
notrack = false
outer_source = "172.25.3.9"
connections_max = 1000
connections_per_client_max = 100
outer_ttl = 9
ignore_df = true
decrement_ttl = true
new_connections_per_second_max = 5
hash_key = "000102030405060708090a0b0c0d0e0f"
unknown_tcp = "drop"
on_removed = "keep"
no_service = "drop"
timeouts.tcp = "9m"
"#;
    let needs = diff::needs_restart(&director(&essence(DIRECTOR)).unwrap(), &director(other).unwrap());
    assert_eq!(listed, needs.into_iter().collect());
}
