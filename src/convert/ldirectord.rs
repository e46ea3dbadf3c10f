//! ldirectord.cf, see ldirectord(8). `lines` reads the blocks, `service` makes virtual services of them, `check` their checks.
//!
//! ldirectord refuses a file with an error; this converts the rest, with a remark.

mod check;
mod keys;
mod lines;
mod service;
mod shape;

use super::Input;
use super::draft::{Draft, Item};
use super::target;

/// Keys outside of virtual services.
const GLOBAL: &[&str] = &[
    "autoreload",
    "callback",
    "checkcount",
    "checkinterval",
    "checktimeout",
    "cleanstop",
    "emailalert",
    "emailalertfrom",
    "emailalertfreq",
    "emailalertstatus",
    "execute",
    "failurecount",
    "fallback",
    "fallback6",
    "fallbackcommand",
    "fork",
    "logfile",
    "maintenancedir",
    "negotiatetimeout",
    "quiescent",
    "readdquiescent",
    "smtp",
    "supervised",
];

/// Whether a file that begins with this key is ldirectord's.
pub fn is_key(word: &str) -> bool {
    matches!(word, "virtual" | "virtual6") || GLOBAL.contains(&word)
}

/// Converts a configuration.
pub fn draft(input: &Input) -> Draft {
    let mut draft = Draft::default();
    let file = lines::read(input, &mut draft.top);
    let globals = keys::effective(&file.globals, &["execute"], true, &mut Vec::new(), &mut draft.top);
    for line in &globals {
        if let Some(reason) = reason(&line.key) {
            draft.top.lose(line.used().remark(reason));
        } else if !GLOBAL.contains(&line.key.as_str()) {
            draft.top.lose(line.used().remark("unknown here; ldirectord refuses the file"));
        }
    }
    target::unknown_interface(&mut draft.top);
    for block in &file.services {
        let service = service::read(block, &globals, input);
        draft.items.push(Item::Service(Box::new(service)));
    }
    for line in globals.iter().filter(|line| !line.is_used()) {
        draft.top.note(line.remark("no virtual service uses it"));
    }
    draft
}

/// Why a key is not converted; `None` if it is.
fn reason(key: &str) -> Option<&'static str> {
    Some(match key {
        "emailalert" | "emailalertfrom" | "emailalertfreq" | "emailalertstatus" | "smtp" => {
            "mail is not sent; use on_change or an alert of your monitoring"
        }
        "logfile" => "the log goes to standard error, which the journal keeps",
        "supervised" => "the director always runs in the foreground",
        "autoreload" | "callback" => "a changed file is read when you run `lvs-tund reload`",
        "execute" => "convert the other file, too, and append its virtual services",
        "fork" => "all checks run at the same time",
        "cleanstop" => "the virtual services end with the director",
        "maintenancedir" => "use `lvs-tund weight REAL_SERVER 0`, and the old weight afterwards",
        "readdquiescent" => "on_down decides what happens to a real server that is down",
        "monitorfile" | "servicename" | "comment" => "a label of ldirectord's, without a counterpart",
        "load" => "checks have no load",
        _ => return None,
    })
}
