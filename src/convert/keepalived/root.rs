//! The top of keepalived.conf: what concerns all virtual servers.

use super::globals::Globals;
use super::group::Target;
use super::tree::Statement;
use super::{value, virtual_server};
use crate::config::consistency::SERVICES_MAX;
use crate::convert::draft::{Block, Draft, Entry, Item, Service, Value};
use crate::convert::target;

/// The words that begin a statement at the top, or the beginning of such words.
const ROOTS: &[&str] = &[
    "global_defs",
    "virtual_server",
    "virtual_server_group",
    "SSL",
    "vrrp_",
    "static_",
    "track_",
    "linkbeat_",
    "garp_group",
    "bfd_instance",
    "include",
    "net_namespace",
    "instance",
    "use_pid_dir",
    "script_user",
    "ssl",
    "~SEQ",
    "~LST",
    "$",
    "@",
];

/// Whether a file that begins with this word is keepalived's.
pub(super) fn is_root(word: &str) -> bool {
    ROOTS.iter().any(|root| word.starts_with(root))
}

/// Converts the statements at the top.
pub(super) fn draft(statements: &[Statement], draft: &mut Draft) {
    let mut globals = Globals::default();
    for statement in statements {
        globals.collect(statement, draft);
    }
    for statement in statements {
        match statement.keyword() {
            "global_defs" | "global_defs_end" => {}
            "virtual_server" => virtual_server(statement, &globals, draft),
            "virtual_server_group" => {}
            word if is_vrrp(word) => draft.lose(statement.remark(VRRP)),
            _ => draft.lose(statement.lost(reason(statement))),
        }
    }
    for (name, group) in &globals.groups {
        let is_used = |statement: &Statement| {
            statement.keyword() == "virtual_server" && statement.argument(2) == Some(name)
        };
        if !statements.iter().any(is_used) {
            draft.lose(group.statement.lost("no virtual_server uses this group"));
        }
    }
    let interfaces = globals.interfaces(draft);
    set_interface(interfaces, draft);
}

const VRRP: &str = "VRRP stays with keepalived; remove the virtual_server blocks from its file";

fn is_vrrp(word: &str) -> bool {
    const BEGINNINGS: [&str; 6] = ["vrrp_", "static_", "linkbeat_", "garp_", "track_process", "track_bfd"];
    BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))
}

/// Why a statement at the top is not converted.
fn reason(statement: &Statement) -> &'static str {
    match statement.keyword() {
        "SSL" => {
            "certificates of checks: https checks have cert_file and key_file, and verify = false as keepalived"
        }
        "track_file" => "use a check of type \"exec\" that reads the file",
        "bfd_instance" => "BFD stays with keepalived",
        "net_namespace" => "start the director in the network namespace: ip netns exec",
        _ => "unknown at the top of the file; keepalived ignores it, and its block",
    }
}

/// Writes the interface; without one, a line that an operator has to change.
fn set_interface(interfaces: Vec<String>, draft: &mut Draft) {
    let value = match interfaces.as_slice() {
        [] => return target::unknown_interface(&mut draft.top),
        [one] => Value::text(one),
        all => Value::texts(all),
    };
    draft.top.set("interface", value);
}

fn virtual_server(statement: &Statement, globals: &Globals, draft: &mut Draft) {
    let targets = match targets(statement, globals) {
        Ok(targets) => targets,
        Err(reason) => {
            draft.lose(statement.remark(reason));
            let inside = statement.statements().iter();
            return inside.for_each(|inner| draft.lose(inner.remark("as its virtual_server")));
        }
    };
    if targets.len() > SERVICES_MAX {
        return draft
            .lose(statement.remark("the group has more addresses than a director can have services"));
    }
    for (index, target) in targets.iter().enumerate() {
        let mut service = virtual_server::service(statement, *target, targets.len(), globals);
        if index > 0 {
            repeated(&mut service);
        }
        draft.items.push(Item::Service(Box::new(service)));
    }
}

/// The remarks and the commands are those of the group's first virtual service.
fn repeated(service: &mut Service) {
    let is_key = |entry: &Entry| matches!(entry, Entry::Key(..));
    let is_kept = |entry: &Entry| match entry {
        Entry::Key(name, ..) => *name != "name",
        Entry::Loss(remark) => service.is_disabled && remark.place == service.origin.place,
        _ => false,
    };
    service.block.entries.retain(is_kept);
    service.hooks.clear();
    service.end = Block::default();
    for server in &mut service.servers {
        let place = &server.origin.place;
        let is_reason = |entry: &Entry| matches!(entry, Entry::Loss(remark) if remark.place == *place);
        server.block.entries.retain(|entry| is_key(entry) || server.is_disabled && is_reason(entry));
        server.hooks.clear();
    }
}

fn targets(statement: &Statement, globals: &Globals) -> Result<Vec<Target>, String> {
    match (statement.argument(1), statement.argument(2)) {
        (Some("fwmark"), mark) => {
            let mark = mark.and_then(value::parsed).filter(|mark| *mark > 0);
            Ok(vec![Target::Mark(mark.ok_or("expected a firewall mark as a number above 0")?)])
        }
        (Some("group"), Some(name)) => match globals.groups.get(name) {
            Some(group) if group.members.is_empty() => Err("its virtual_server_group is empty".to_owned()),
            Some(group) => Ok(group.members.clone()),
            None => {
                Err("there is no such virtual_server_group; keepalived drops the virtual server".to_owned())
            }
        },
        (address, port) => {
            let (vip, port) = value::place(address, port)?;
            Ok(vec![Target::Address(vip, port)])
        }
    }
}
