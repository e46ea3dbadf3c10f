//! `real_server` and `sorry_server`.

use std::net::IpAddr;

use super::checker::{self, Scope};
use super::globals::Globals;
use super::timing::{Level, Timing, effective, surplus};
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
            "TUN" => match statement.argument(3) {
                None | Some("ipip") => {
                    surplus(statement, if statement.words.len() > 2 { 3 } else { 1 }, block);
                    Ok(Method::Tunnel)
                }
                Some(kind) => {
                    block.lose(statement.remark(format!("encapsulation {kind} is not served; only ipip is")));
                    Ok(Method::OtherTunnel(kind.to_owned()))
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
    pub(super) weight: u32,
    pub(super) inhibits: bool,
    pub(super) globals: &'a Globals,
}

/// A real server.
pub(super) struct Found {
    pub(super) server: Server,
    pub(super) place: (IpAddr, u16),
    pub(super) inhibits: bool,
}

/// Reads a real server.
pub(super) fn read(statement: &Statement, inherited: &Inherited) -> Result<Found, Wrong> {
    let (rip, port) = place(statement.argument(1), statement.argument(2))?;
    let mut server = Server::new(statement.remark(""), rip);
    surplus(statement, 2, &mut server.block);
    let mut terms = Terms {
        timing: Timing::default(),
        weight: inherited.weight,
        inhibits: inherited.inhibits,
        method: None,
        upper: 0,
        checkers: Vec::new(),
    };
    for inner in effective(statement.statements(), &[], &mut server.block) {
        terms.read(inner, inherited, &mut server);
    }
    if terms.weight != 1 {
        server.block.set("weight", Value::Number(terms.weight.into()));
    }
    let scope = Scope {
        vip: inherited.vip,
        rip,
        port,
        service_port: inherited.service_port,
        timing: terms.timing.or(inherited.timing),
        service_interval: inherited.timing.interval(),
        script_user: inherited.globals.script_user.as_ref(),
    };
    for checker in terms.checkers {
        let checks = checker::read(checker, &scope, &mut server.block);
        server.checks.extend(checks);
    }
    let method = terms.method.as_ref().unwrap_or(inherited.method);
    settle_port(&mut server, method, port, inherited);
    settle_thresholds(&mut server);
    Ok(Found { server, place: (rip, port), inhibits: terms.inhibits })
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
    timing: Timing,
    weight: u32,
    inhibits: bool,
    method: Option<Method>,
    upper: u32,
    checkers: Vec<&'a Statement>,
}

impl<'a> Terms<'a> {
    fn read(&mut self, statement: &'a Statement, inherited: &Inherited, server: &mut Server) {
        if checker::is_checker(statement.keyword()) {
            return self.checkers.push(statement);
        }
        if self.timing.read(statement, Level::RealServer, &mut server.block) {
            return;
        }
        if let Err(reason) = self.set(statement, inherited, server) {
            server.block.lose(statement.lost(reason));
        }
    }

    fn set(
        &mut self,
        statement: &Statement,
        inherited: &Inherited,
        server: &mut Server,
    ) -> Result<(), Wrong> {
        let block = &mut server.block;
        let mut taken = 1;
        let mut key =
            |name, value: u32| block.set_from(name, Value::Number(value.into()), statement.remark(""));
        match statement.keyword() {
            "weight" => self.weight = number(statement, 0, i32::MAX as u32)?,
            "uthreshold" => {
                self.upper = number(statement, 0, i32::MAX as u32)?;
                key("upper_threshold", self.upper);
            }
            "lthreshold" => key("lower_threshold", number(statement, 0, i32::MAX as u32)?),
            "lvs_method" => {
                taken = usize::MAX - 1;
                self.method = Some(Method::read(statement, block)?);
            }
            "inhibit_on_failure" => self.inhibits = flag(statement)?,
            word @ ("notify_up" | "notify_down") => {
                let when = if word == "notify_up" { "real_server_up" } else { "real_server_down" };
                if server.hooks.iter().any(|hook| hook.when == when) {
                    return Err("keepalived uses only the first".to_owned());
                }
                server.hooks.push(hook(statement, when, inherited.globals, block)?);
                return Ok(());
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
        surplus(statement, taken, &mut server.block);
        Ok(())
    }
}

/// The command of `notify_up`, `quorum_up` and others; the words behind it are user and group.
pub(super) fn hook(
    statement: &Statement,
    when: &'static str,
    globals: &Globals,
    block: &mut Block,
) -> Result<Hook, Wrong> {
    let script = script(statement)?;
    let group = script.group.or_else(|| {
        globals.script_user.as_ref().filter(|_| script.user.is_none()).and_then(|(_, group)| group.clone())
    });
    if let Some(group) = group {
        block.lose(statement.remark(format!("group {group}: the command runs with the groups of its user")));
    }
    let user = script.user.or_else(|| globals.script_user.as_ref().map(|(user, _)| user.clone()));
    Ok(Hook { origin: statement.remark(""), when, command: script.command, user, at_stop: false })
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
