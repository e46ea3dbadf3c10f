//! The lines of a journal. Pure.

use serde::{Deserialize, Serialize};

use super::Record;

/// Changes when a line of an older program cannot be read any more.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    journal: u32,
    namespace: String,
}

/// One line after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Made(Record),
    Undone(Record),
}

/// What a file contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The records that were made and not undone, oldest first; and how many lines could not be read.
    Records(Vec<Record>, usize),
    /// Of another network namespace.
    Elsewhere,
    /// From before the last boot: nothing of it is left.
    Outdated,
    /// The first line is not that of a journal.
    Foreign,
}

/// A whole journal with these records.
pub(super) fn whole(namespace: &str, records: &[Record]) -> String {
    let header = Header { journal: VERSION, namespace: namespace.to_owned() };
    let mut text = serde_json::to_string(&header).unwrap_or_default() + "\n";
    for record in records {
        text.push_str(&line(&Line::Made(record.clone())));
    }
    text
}

/// One line with its end.
pub(super) fn line(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

/// Reads a journal. A last line without its end was cut short by a kill, and is no error.
pub(super) fn read(text: &str, namespace: &str) -> Content {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let header = lines.next().and_then(|line| serde_json::from_str::<Header>(line).ok());
    let Some(header) = header.filter(|header| header.journal == VERSION) else { return Content::Foreign };
    let boot = |namespace: &str| namespace.split('/').next().map(str::to_owned);
    if header.namespace != namespace {
        return if boot(&header.namespace) == boot(namespace) {
            Content::Elsewhere
        } else {
            Content::Outdated
        };
    }
    let (mut records, mut unreadable) = (Vec::<Record>::new(), 0);
    for line in lines {
        match serde_json::from_str(line) {
            Ok(Line::Made(record)) if is_plausible(&record) => {
                records.retain(|found| !found.is_about_the_same(&record));
                records.push(record);
            }
            Ok(Line::Undone(record)) => records.retain(|found| !found.is_about_the_same(&record)),
            _ => unreadable += 1,
        }
    }
    Content::Records(records, unreadable)
}

/// A key is a path below /proc/sys/net, and never leads out of it.
fn is_plausible(record: &Record) -> bool {
    match record {
        Record::Sysctl { key, .. } => {
            key.starts_with("net/")
                && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        }
        _ => true,
    }
}
