//! One judgement, and the report of all.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be; needs no remedy.
    Ok,
    /// Something that is rarely intended, or that cannot be determined.
    Warning,
    /// Packets are lost, or will be.
    Error,
}

impl Level {
    /// As in the table and in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What an item found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The item's name.
    pub item: &'static str,
    /// Decides the exit status of `lvs-tund doctor`: an error makes it 1.
    pub level: Level,
    /// One sentence.
    pub found: String,
    /// What to type or change; none if all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// Without a remedy, and with the item's name still to be set by [`Report::of`].
    pub fn ok(found: impl Into<String>) -> Finding {
        Finding { item: "", level: Level::Ok, found: found.into(), remedy: None }
    }

    /// For what cannot be determined, the remedy is how to look.
    pub fn warning(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, remedy: Some(remedy.into()), ..Finding::ok(found) }
    }

    /// The remedy is a command, or a line of the configuration.
    pub fn error(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Error, remedy: Some(remedy.into()), ..Finding::ok(found) }
    }
}

/// One row of a table of items.
pub struct Item<Facts> {
    /// One word, as shown and as in the JSON.
    pub name: &'static str,
    /// Nothing if the item does not apply to this host.
    pub examine: fn(&Facts) -> Vec<Finding>,
}

/// The findings of all items, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `director` or `realserver`.
    pub role: &'static str,
    /// Not 0: the command fails.
    pub errors: u64,
    /// These alone do not make the command fail.
    pub warnings: u64,
    /// Including those that are well.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Examines the facts with each item and sets the items' names.
    pub fn of<Facts>(role: &'static str, items: &[Item<Facts>], facts: &Facts) -> Report {
        let named = |item: &Item<Facts>| {
            let findings = (item.examine)(facts).into_iter();
            findings.map(|finding| Finding { item: item.name, ..finding }).collect::<Vec<_>>()
        };
        let findings: Vec<Finding> = items.iter().flat_map(named).collect();
        let count = |level| findings.iter().filter(|finding| finding.level == level).map(|_| 1).sum();
        Report { role, errors: count(Level::Error), warnings: count(Level::Warning), findings }
    }

    /// A table for people: level, item, what was found, and below it what to type.
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.item.len()).max().unwrap_or_default();
        let mut text = String::new();
        for finding in &self.findings {
            let _ =
                writeln!(text, "{:<7}  {:<width$}  {}", finding.level.name(), finding.item, finding.found);
            for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
                let _ = writeln!(text, "{:<7}  {:<width$}    {line}", "", "");
            }
        }
        let _ = writeln!(text, "\n{}, {}", counted(self.errors, "error"), counted(self.warnings, "warning"));
        text
    }
}

/// "1 error", "2 errors".
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: &[Item<()>] = &[
        Item { name: "device", examine: |()| vec![Finding::ok("lvsd0 is up")] },
        Item { name: "nothing", examine: |()| Vec::new() },
        Item {
            name: "forwarding",
            examine: |()| {
                vec![
                    Finding::error("eth0 does not forward", "sysctl -w a=1\nthen again"),
                    Finding::warning("eth1 is odd", "ip link"),
                    Finding::warning("eth2 is odd", "ip link"),
                    Finding::warning("eth3 is odd", "ip link"),
                    Finding::error("eth4 is bad", "ip link"),
                ]
            },
        },
    ];

    #[test]
    fn the_report_aligns_the_findings_and_counts_them() {
        let report = Report::of("director", ITEMS, &());
        assert_eq!((report.errors, report.warnings), (2, 3));
        assert_eq!(
            report.text(),
            "ok       device      lvsd0 is up\n\
             error    forwarding  eth0 does not forward\n\
             \x20                      sysctl -w a=1\n\
             \x20                      then again\n\
             warning  forwarding  eth1 is odd\n\
             \x20                      ip link\n\
             warning  forwarding  eth2 is odd\n\
             \x20                      ip link\n\
             warning  forwarding  eth3 is odd\n\
             \x20                      ip link\n\
             error    forwarding  eth4 is bad\n\
             \x20                      ip link\n\
             \n2 errors, 3 warnings\n"
        );
    }

    #[test]
    fn the_json_has_one_object_for_each_finding() {
        let json = serde_json::to_value(Report::of("director", ITEMS, &())).unwrap();
        assert_eq!(json["errors"], 2);
        assert_eq!(
            json["findings"][0],
            serde_json::json!({"item": "device", "level": "ok", "found": "lvsd0 is up", "remedy": null})
        );
        assert_eq!(json["findings"][1]["level"], "error");
    }
}
