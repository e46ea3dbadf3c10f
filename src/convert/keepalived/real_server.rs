//! `real_server` and `sorry_server`.

use std::net::IpAddr;

use super::checker::{self, Scope};
use super::globals::Globals;
use super::keywords::{self, Keywords, surplus, surplus_words};
use super::timing::{Level, Timing};
use super::tree::Statement;
use super::value::{Wrong, first, flag, number, place, script};
use crate::convert::draft::{Block, Entry, Hook, Remark, Server, Value};
use crate::convert::target::{DIRECT_ROUTING, MASQUERADING, OTHER_PORT};

/// How packets reach a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Masquerading,
    DirectRouting,
    Tunnel,
    /// A tunnel that this program does not have.
    OtherTunnel(String),
}

impl Method {
    /// Reads the method, and notes what differs.
    pub(super) fn read(statement: &Statement, block: &mut Block) -> Result<Method, Wrong> {
        match first(statement)? {
            "TUN" => match (statement.argument(2), statement.argument(3)) {
                (Some("type"), Some("ipip")) => {
                    surplus(statement, 3, block);
                    Ok(Method::Tunnel)
                }
                (Some("type"), Some(kind)) => {
                    block.lose(statement.remark(format!("encapsulation {kind} is not served; only ipip is")));
                    Ok(Method::OtherTunnel(kind.to_owned()))
                }
                _ => {
                    surplus(statement, 1, block);
                    Ok(Method::Tunnel)
                }
            },
            "DR" => {
                surplus(statement, 1, block);
                block.lose(statement.remark(DIRECT_ROUTING));
                Ok(Method::DirectRouting)
            }
            "NAT" => {
                surplus(statement, 1, block);
                block.lose(statement.remark(MASQUERADING));
                Ok(Method::Masquerading)
            }
            _ => Err("keepalived accepts NAT, DR and TUN in upper case, and ignores the line".to_owned()),
        }
    }
}

/// What a real server has from its virtual server.
#[derive(Clone, Copy)]
pub(super) struct Inherited<'a> {
    pub(super) vip: Option<IpAddr>,
    /// 0: all.
    pub(super) service_port: u16,
    pub(super) timing: &'a Timing,
    pub(super) method: &'a Method,
    /// How many virtual services the virtual server makes.
    pub(super) members: usize,
    pub(super) weight: u32,
    pub(super) inhibits: bool,
    pub(super) globals: &'a Globals,
}

/// A real server.
pub(super) struct Found {
    pub(super) server: Server,
    pub(super) place: (IpAddr, u16),
    pub(super) inhibits: bool,
    /// It has a weight of its own.
    pub(super) has_weight: bool,
}

/// Reads a real server.
pub(super) fn read(statement: &Statement, inherited: &Inherited) -> Result<Found, Wrong> {
    let (rip, port) = place(statement.argument(1), statement.argument(2))?;
    let mut server = Server::new(statement.remark(""), rip);
    surplus(statement, 2, &mut server.block);
    let mut terms = Terms {
        globals: inherited.globals,
        timing: Timing::default(),
        weight: None,
        inhibits: inherited.inhibits,
        method: None,
        hooks: Vec::new(),
        checkers: Vec::new(),
    };
    keywords::read(&mut terms, statement.statements(), &mut server.block);
    server.hooks = std::mem::take(&mut terms.hooks);
    let weight = terms.weight.unwrap_or(inherited.weight);
    if weight != 1 {
        server.block.set("weight", Value::Number(weight.into()));
    }
    let scope = Scope {
        vip: inherited.vip,
        rip,
        port,
        service_port: inherited.service_port,
        timing: terms.timing.or(inherited.timing),
        service_timing: inherited.timing,
        members: inherited.members,
        script_user: inherited.globals.script_user.as_ref(),
    };
    for checker in &terms.checkers {
        let checks = checker::read(checker, &scope, &mut server.block);
        server.checks.extend(checks);
    }
    terms.timing.report_unused(&mut server.block);
    let method = terms.method.as_ref().unwrap_or(inherited.method);
    settle_port(&mut server, method, port, inherited);
    settle_thresholds(&mut server);
    let has_weight = terms.weight.is_some();
    Ok(Found { server, place: (rip, port), inhibits: terms.inhibits, has_weight })
}

/// Reads a sorry server, which has neither a block nor checks.
pub(super) fn sorry(statement: &Statement, inherited: &Inherited) -> Result<Server, Wrong> {
    let (rip, port) = place(statement.argument(1), statement.argument(2))?;
    let mut server = Server::new(statement.remark(""), rip);
    server.is_sorry = true;
    server.block.set("sorry", Value::Flag(true));
    if rip.is_loopback() {
        let reason =
            "this host serves; the VIP must be an address of it, and the port that of the virtual service";
        server.block.note(statement.remark(reason));
    }
    settle_port(&mut server, inherited.method, port, inherited);
    Ok(server)
}

/// A port that differs from the virtual server's is not reached.
fn settle_port(server: &mut Server, method: &Method, port: u16, inherited: &Inherited) {
    let service_port = inherited.service_port;
    match method {
        Method::OtherTunnel(kind) => server.disable(format!("encapsulation {kind} is not served")),
        _ if port == 0 || port == service_port => {}
        Method::Masquerading => server.disable(OTHER_PORT),
        Method::DirectRouting | Method::Tunnel => {
            let to = match service_port {
                0 => "the port of the packet".to_owned(),
                _ => service_port.to_string(),
            };
            let reason = format!(
                "packets keep their port, so keepalived resets {port} to {to}; only checks use {port}"
            );
            let remark = Remark { reason, ..server.origin.clone() };
            server.block.note(remark);
        }
    }
}

struct Terms<'a> {
    globals: &'a Globals,
    timing: Timing,
    weight: Option<u32>,
    inhibits: bool,
    method: Option<Method>,
    hooks: Vec<Hook>,
    checkers: Vec<&'a Statement>,
}

impl<'a> Keywords<'a> for Terms<'a> {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        if keywords::is_checker(statement.keyword()) {
            self.checkers.push(statement);
            return Ok(keywords::ALL);
        }
        if let Some(taken) = self.timing.set(statement, Level::RealServer, block)? {
            return Ok(taken);
        }
        match statement.keyword() {
            "weight" => self.weight = Some(number(statement, 0, i32::MAX as u32)?),
            word @ ("uthreshold" | "lthreshold") => {
                let key = if word == "uthreshold" { "upper_threshold" } else { "lower_threshold" };
                let threshold = number(statement, 0, i32::MAX as u32)?;
                block.set_from(key, Value::Number(threshold.into()), statement.remark(""));
            }
            "lvs_method" => {
                self.method = Some(Method::read(statement, block)?);
                return Ok(keywords::ALL);
            }
            "inhibit_on_failure" => self.inhibits = flag(statement)?,
            word @ ("notify_up" | "notify_down") => {
                let when = if word == "notify_up" { "real_server_up" } else { "real_server_down" };
                add_hook(&mut self.hooks, statement, when, self.globals, block)?;
                return Ok(keywords::ALL);
            }
            "snmp_name" => block.set_from("name", Value::text(first(statement)?), statement.remark("")),
            "smtp_alert" => {
                return Err("mail is not sent; use on_change or an alert of your monitoring".to_owned());
            }
            "lb_kind" => {
                return Err("keepalived accepts only lvs_method here, and ignores the line".to_owned());
            }
            _ => {
                let reason = "unknown; keepalived ignores it, and if it has a block, the rest of this real_server, too";
                return Err(reason.to_owned());
            }
        }
        Ok(1)
    }
}

/// The command of `notify_up`, `quorum_up` and others; the words behind it are user and group.
pub(super) fn add_hook(
    hooks: &mut Vec<Hook>,
    statement: &Statement,
    when: &'static str,
    globals: &Globals,
    block: &mut Block,
) -> Result<(), Wrong> {
    if hooks.iter().any(|hook| hook.when == when) {
        return Err("keepalived uses only the first".to_owned());
    }
    let script = script(statement)?;
    surplus_words(statement, &script.rest, block);
    let group = script.group.or_else(|| {
        globals.script_user.as_ref().filter(|_| script.user.is_none()).and_then(|(_, group)| group.clone())
    });
    if let Some(group) = group {
        block.lose(statement.remark(format!("group {group}: the command runs with the groups of its user")));
    }
    let user = script.user.or_else(|| globals.script_user.as_ref().map(|(user, _)| user.clone()));
    hooks.push(Hook { origin: statement.remark(""), when, command: script.command, user, at_stop: false });
    Ok(())
}

/// Whether `lower_threshold` fits; a lower one above the upper one is refused by the director.
fn settle_thresholds(server: &mut Server) {
    let of = |name| match server.block.value(name) {
        Some(Value::Number(number)) => *number,
        _ => 0,
    };
    if of("lower_threshold") <= of("upper_threshold") {
        return;
    }
    for entry in &mut server.block.entries {
        if let Entry::Key("lower_threshold", _, Some(origin)) = entry {
            let reason = "it must not be above uthreshold".to_owned();
            *entry = Entry::Loss(Remark { reason, ..origin.clone() });
        }
    }
}
