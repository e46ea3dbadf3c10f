//! Makes a draft valid: what the director would reject becomes a comment.

use std::collections::HashSet;
use std::net::IpAddr;

use super::check::Check;
use super::draft::{Block, Draft, Entry, Hook, Receives, Remark, Server, Service, Value};
use super::write::{self, Source, Written};
use crate::config::consistency::SERVICES_MAX;
use crate::config::kinds::{GROUP, LABEL, Word};
use crate::config::{self, ConfigError, plan};

/// Settles conflicts between virtual services and real servers; the first of two stays.
pub(super) fn draft(draft: &mut Draft) {
    let (mut seen, mut names, mut count) = (HashSet::new(), HashSet::new(), 0);
    for service in draft.services_mut().filter(|service| !service.is_disabled) {
        let Receives::Packets(matcher) = &service.receives else { continue };
        let key = (matcher.protocol, matcher.vip, matcher.ports.first, matcher.ports.last);
        if !seen.insert(key) {
            service.disable("another virtual service receives the same packets");
            continue;
        }
        if count == SERVICES_MAX {
            service.disable(config::consistency::too_many_services());
            continue;
        }
        count += 1;
        unique_name(service, &mut names);
    }
    hooks(draft);
    let vips: HashSet<IpAddr> = draft.services().filter_map(vip).collect();
    for service in draft.services_mut() {
        servers(service, &vips);
    }
}

/// The most commands of `on_change`.
const HOOKS_MAX: usize = 4096;
/// The most checks of one real server.
const CHECKS_MAX: usize = 16;

/// Removes commands that the director would refuse, and those that are too many.
fn hooks(draft: &mut Draft) {
    let mut count = 0;
    for service in draft.services_mut().filter(|service| !service.is_disabled) {
        let mut lost = Vec::new();
        let mut keep = |hook: &Hook| {
            let reason = wrong(hook);
            let is_kept = reason.is_none();
            lost.extend(reason.map(|reason| Remark { reason, ..hook.origin.clone() }));
            is_kept
        };
        service.hooks.retain(&mut keep);
        service.servers.iter_mut().for_each(|server| server.hooks.retain(&mut keep));
        if count + write::hooks(service).len() > HOOKS_MAX {
            let servers = service.servers.iter_mut().flat_map(|server| server.hooks.drain(..));
            let reason =
                format!("on_change has at most {HOOKS_MAX} commands; let one of them do the work of several");
            let all = service.hooks.drain(..).chain(servers);
            lost.extend(all.map(|hook| Remark { reason: reason.clone(), ..hook.origin }));
        }
        count += write::hooks(service).len();
        lost.into_iter().for_each(|remark| service.end.lose(remark));
    }
}

/// What the director does not accept in a command.
fn wrong(hook: &Hook) -> Option<String> {
    if hook.command.first().is_none_or(|program| !program.starts_with('/')) {
        return Some("name the program by its path, from \"/\" on".to_owned());
    }
    if hook.command.iter().any(|word| word.contains('\0')) {
        return Some("a word contains a NUL".to_owned());
    }
    let is_user = |user: &String| GROUP.parse("user", user).is_ok();
    hook.user.as_ref().filter(|user| !is_user(user)).map(|user| format!("{user} is no name of a user"))
}

fn vip(service: &Service) -> Option<IpAddr> {
    match &service.receives {
        Receives::Packets(matcher) if !service.is_disabled => Some(matcher.vip),
        _ => None,
    }
}

/// A written name that is invalid or taken becomes a remark.
fn unique_name(service: &mut Service, names: &mut HashSet<String>) {
    drop_name(&mut service.block, |name| {
        LABEL.parse("name", name)?;
        if names.contains(name) { Err("another virtual service has this name".to_owned()) } else { Ok(()) }
    });
    names.insert(write::service_name(service));
}

fn drop_name(block: &mut Block, check: impl Fn(&str) -> Result<(), String>) {
    for entry in &mut block.entries {
        if let Entry::Key("name", Value::Text(name), Some(origin)) = entry
            && let Err(reason) = check(name)
        {
            *entry = Entry::Loss(Remark { reason, ..origin.clone() });
        }
    }
}

fn servers(service: &mut Service, vips: &HashSet<IpAddr>) {
    let (mut rips, mut names) = (HashSet::new(), HashSet::new());
    for server in &mut service.servers {
        let reason = match server.rip {
            _ if server.is_disabled => continue,
            rip if vips.contains(&rip) => "this is a VIP; use the real server's own address".to_owned(),
            rip => match super::target::check_rip(rip) {
                Ok(()) if rips.insert(rip) => {
                    settle_server(server, &mut names);
                    continue;
                }
                Ok(()) => "this address is listed twice in this virtual service".to_owned(),
                Err(reason) => reason,
            },
        };
        server.disable(reason);
    }
}

fn settle_server(server: &mut Server, names: &mut HashSet<String>) {
    drop_name(&mut server.block, |name| {
        LABEL.parse("name", name)?;
        if names.contains(name) { Err("another real server has this name".to_owned()) } else { Ok(()) }
    });
    let name = match server.block.value("name") {
        Some(Value::Text(name)) => name.clone(),
        _ => server.rip.to_string(),
    };
    names.insert(name);
    let (block, origin) = (&mut server.block, &server.origin);
    server.checks.iter_mut().for_each(|check| check.settle(block));
    let mut kept: Vec<Check> = Vec::new();
    for check in server.checks.drain(..) {
        if kept.contains(&check) {
            block.note(Remark {
                reason: "two of its checks are the same, and one is enough".to_owned(),
                ..origin.clone()
            });
        } else if kept.len() == CHECKS_MAX {
            let reason = format!("a real server has at most {CHECKS_MAX} checks");
            block.lose(Remark { reason, ..origin.clone() });
        } else {
            kept.push(check);
        }
    }
    server.checks = kept;
}

/// The text of the draft. A key that the director's own reader rejects becomes a comment.
pub(super) fn valid(draft: &mut Draft, heading: &[String]) -> String {
    /// One round finds all wrong keys; a conflict between keys shows only in the next.
    const ROUNDS_MAX: usize = 16;
    for _ in 0..ROUNDS_MAX {
        let written = write::draft(draft, heading);
        let source = config::Source { name: "director.toml", text: &written.text };
        let Err(errors) = plan::check_director(&source, None) else { return written.text };
        let mut wrong: Vec<(Source, String)> =
            errors.into_iter().filter_map(|error| place(&written, error)).collect();
        wrong.dedup_by_key(|(source, _)| *source);
        if wrong.is_empty() {
            return written.text;
        }
        for (source, reason) in wrong {
            comment_out(draft, source, reason);
        }
    }
    write::draft(draft, heading).text
}

fn place(written: &Written, error: ConfigError) -> Option<(Source, String)> {
    let source = written.sources.get(error.line?.checked_sub(1)?)?;
    source.map(|source| (source, error.message))
}

fn comment_out(draft: &mut Draft, source: Source, reason: String) {
    let entry = match source {
        Source::Top(entry) => draft.top.entries.get_mut(entry),
        Source::Service(service, entry) => {
            draft.services_mut().nth(service).and_then(|service| service.block.entries.get_mut(entry))
        }
        Source::Server(service, server, entry) => {
            let service = draft.services_mut().nth(service);
            let server = service.and_then(|service| service.servers.get_mut(server));
            server.and_then(|server| server.block.entries.get_mut(entry))
        }
        Source::WholeService(service) => {
            return draft.services_mut().nth(service).into_iter().for_each(|found| found.disable(&*reason));
        }
        Source::WholeServer(service, server) => {
            let service = draft.services_mut().nth(service);
            let server = service.and_then(|service| service.servers.get_mut(server));
            return server.into_iter().for_each(|found| found.disable(&*reason));
        }
    };
    if let Some(entry) = entry
        && let Entry::Key(name, _, origin) = entry
    {
        *entry = match origin {
            Some(origin) => Entry::Loss(Remark { reason, ..origin.clone() }),
            None => Entry::Comment(format!("{name}: {reason}")),
        };
    }
}
