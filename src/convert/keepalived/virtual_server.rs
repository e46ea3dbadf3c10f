//! `virtual_server`: the keywords of a virtual server, and what follows from them.

use std::time::Duration;

use super::globals::Globals;
use super::group::Target;
use super::real_server::{self, Inherited, Method};
use super::timing::{Level, Timing, effective, surplus};
use super::tree::Statement;
use super::value::{Wrong, first, mask, number};
use crate::convert::draft::{Block, Entry, Hook, Remark, Server, Service, Value};
use crate::convert::target::{self, Flags, MASQUERADING, TIMEOUT_MAX};

/// Keywords of which each line counts, or only the first.
const REPEATED: &[&str] = &["real_server"];

/// The virtual service for one of the targets of a virtual server.
pub(super) fn service(statement: &Statement, target: Target, globals: &Globals) -> Service {
    let origin = statement.remark("");
    let mut block = Block::default();
    let statements = effective(statement.statements(), REPEATED, &mut block);
    let protocol = protocol(statement, &statements, target, &mut block);
    let mut service = match target {
        Target::Address(vip, port) => target::service(&origin, protocol, vip, port),
        Target::Mark => target::marked(&origin),
    };
    let mut terms = Terms::new(protocol, globals);
    let mut servers = Vec::new();
    for inner in statements {
        match inner.keyword() {
            "real_server" => servers.push(inner),
            "protocol" => {}
            _ => terms.read(inner, &mut block),
        }
    }
    terms.finish(statement, target, &mut service, &mut block);
    service.block.entries.extend(block.entries);
    terms.add_servers(&servers, target, &mut service);
    if servers.is_empty() {
        service.disable("keepalived drops a virtual server without real servers");
    }
    service
}

/// In lower case.
fn protocol(
    statement: &Statement,
    statements: &[&Statement],
    target: Target,
    block: &mut Block,
) -> &'static str {
    let found = statements.iter().find(|inner| inner.keyword() == "protocol");
    let word = found.and_then(|inner| inner.argument(1)).map(str::to_lowercase);
    let known = ["tcp", "udp", "sctp"].into_iter().find(|name| Some(*name) == word.as_deref());
    match (known, found) {
        (Some(protocol), Some(inner)) => {
            surplus(inner, 1, block);
            protocol
        }
        (_, Some(inner)) => {
            block.lose(inner.remark("unknown protocol; keepalived uses UDP"));
            "udp"
        }
        (_, None) => {
            if target != Target::Mark {
                block.note(statement.remark("without a protocol, keepalived uses UDP"));
            }
            "udp"
        }
    }
}

struct Terms<'a> {
    protocol: &'static str,
    globals: &'a Globals,
    timing: Timing,
    scheduler: Option<String>,
    flags: Flags,
    method: Option<Method>,
    persistence: Option<u32>,
    prefix: Option<u32>,
    quorum: Option<(u32, &'a Statement)>,
    hysteresis: Option<(u32, &'a Statement)>,
    inhibits: bool,
    weight: u32,
    sorry: Option<&'a Statement>,
    sorry_method: Option<Method>,
    hooks: Vec<Hook>,
    omega: Option<&'a Statement>,
}

impl<'a> Terms<'a> {
    fn new(protocol: &'static str, globals: &'a Globals) -> Terms<'a> {
        Terms {
            protocol,
            globals,
            timing: Timing::default(),
            scheduler: None,
            flags: Flags::default(),
            method: None,
            persistence: None,
            prefix: None,
            quorum: None,
            hysteresis: None,
            inhibits: false,
            weight: 1,
            sorry: None,
            sorry_method: None,
            hooks: Vec::new(),
            omega: None,
        }
    }

    fn read(&mut self, statement: &'a Statement, block: &mut Block) {
        if self.timing.read(statement, Level::VirtualServer, block) {
            return;
        }
        if let Err(reason) = self.set(statement, block) {
            block.lose(statement.lost(reason));
        }
    }

    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<(), Wrong> {
        let mut taken = 1;
        match statement.keyword() {
            "lvs_sched" | "lb_algo" => self.set_scheduler(first(statement)?)?,
            flag @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1" | "flag-2"
            | "flag-3") => {
                taken = 0;
                let scheduler = self.scheduler.as_deref();
                self.flags.set(scheduler.ok_or("without effect before the scheduler's line")?, flag)?;
            }
            "lvs_method" | "lb_kind" => {
                taken = usize::MAX - 1;
                self.method = Some(Method::read(statement, block)?);
            }
            "persistence_timeout" => self.set_persistence(statement, block)?,
            "persistence_granularity" => {
                let mask = mask(first(statement)?).ok_or("expected a mask such as 255.255.255.0")?;
                self.persistence = self.persistence.or(Some(360));
                let prefix = target::prefix(mask);
                self.prefix = Some(prefix.ok_or("the mask has holes, and is not a prefix")?);
            }
            "persistence_engine" => return Err("there are no persistence engines".to_owned()),
            "ops" if self.protocol == "udp" => {
                taken = 0;
                block.set_from("one_packet", Value::Flag(true), statement.remark(""));
            }
            "ops" => return Err("it is only for UDP, and keepalived resets it".to_owned()),
            "hashed" => {
                taken = 0;
                block.note(statement.remark("it has no effect in keepalived either"));
            }
            "omega" => {
                taken = 0;
                self.omega = Some(statement);
            }
            "quorum" => self.quorum = Some((number(statement, 1, i32::MAX as u32)?, statement)),
            "hysteresis" => self.hysteresis = Some((number(statement, 0, i32::MAX as u32)?, statement)),
            "quorum_up" => return self.hook(statement, "quorum_gained", block),
            "quorum_down" => return self.hook(statement, "quorum_lost", block),
            "sorry_server" if self.sorry.is_some() => {
                return Err("keepalived has one sorry server".to_owned());
            }
            "sorry_server" => {
                taken = 2;
                self.sorry = Some(statement);
            }
            "sorry_server_inhibit" => {
                taken = 0;
                block.note(
                    statement.remark("a sorry server stays in the table anyway, without new connections"),
                );
            }
            "sorry_server_lvs_method" => {
                taken = usize::MAX - 1;
                self.sorry_method = Some(Method::read(statement, block)?);
            }
            "inhibit_on_failure" => {
                taken = 0;
                self.inhibits = true;
            }
            "weight" => self.weight = number(statement, 0, i32::MAX as u32)?,
            "snmp_name" => {
                block.set_from("name", Value::text(first(statement)?), statement.remark(""));
            }
            other => return Err(without_counterpart(other).to_owned()),
        }
        surplus(statement, taken, block);
        Ok(())
    }

    fn set_scheduler(&mut self, name: &str) -> Result<(), Wrong> {
        let is_known = target::is_scheduler(name);
        self.scheduler = Some(if is_known { name } else { "wlc" }.to_owned());
        if is_known { Ok(()) } else { Err("keepalived has no such scheduler, and uses wlc".to_owned()) }
    }

    fn set_persistence(&mut self, statement: &Statement, block: &mut Block) -> Result<(), Wrong> {
        match statement.argument(1) {
            None => self.persistence = Some(360),
            Some("0") => block.note(statement.remark("keepalived refuses 0, so persistence is off")),
            Some(_) => self.persistence = Some(number(statement, 1, TIMEOUT_MAX)?),
        }
        Ok(())
    }

    fn hook(&mut self, statement: &Statement, when: &'static str, block: &mut Block) -> Result<(), Wrong> {
        if self.hooks.iter().any(|hook| hook.when == when) {
            return Err("keepalived uses only the first".to_owned());
        }
        self.hooks.push(real_server::hook(statement, when, self.globals, block)?);
        Ok(())
    }

    /// Writes what depends on several keywords.
    fn finish(&mut self, statement: &Statement, target: Target, service: &mut Service, block: &mut Block) {
        if let Some(scheduler) = &self.scheduler {
            block.set("scheduler", Value::text(scheduler));
            self.flags.write(scheduler, block);
        }
        let is_all_ports = matches!(target, Target::Address(_, 0));
        if is_all_ports && self.persistence.is_none() {
            self.persistence = Some(360);
            let reason = "keepalived sets a persistence of 360 s for all ports";
            block.note(statement.remark(reason));
        }
        if let Some(seconds) = self.persistence {
            block.set("persistence.timeout", Value::Duration(Duration::from_secs(seconds.into())));
            block.entries.extend(
                self.prefix
                    .map(|prefix| Entry::Key("persistence.prefix", Value::Number(prefix.into()), None)),
            );
        }
        if self.method.is_none() {
            self.method = Some(Method::Masquerading);
            block.lose(
                statement.remark(format!("without lvs_method, keepalived masquerades (NAT); {MASQUERADING}")),
            );
        }
        service.hooks.append(&mut self.hooks);
    }

    fn add_servers(&mut self, statements: &[&Statement], target: Target, service: &mut Service) {
        let (vip, port) = match target {
            Target::Address(vip, port) => (Some(vip), port),
            Target::Mark => (None, 0),
        };
        let inherited = Inherited {
            vip,
            service_port: port,
            timing: &self.timing,
            method: self.method.as_ref().unwrap_or(&Method::Masquerading),
            weight: self.weight,
            inhibits: self.inhibits,
            globals: self.globals,
        };
        let mut inhibiting = Vec::new();
        let mut places = Vec::new();
        for statement in statements {
            match real_server::read(statement, &inherited) {
                Ok(found) if places.contains(&found.place) => {
                    service.end.lose(
                        statement.remark("this address and port are there already; keepalived drops it"),
                    );
                }
                Ok(found) => {
                    places.push(found.place);
                    inhibiting.push(found.inhibits);
                    service.servers.push(found.server);
                }
                Err(reason) => service.end.lose(statement.remark(reason)),
            }
        }
        self.set_on_down(&inhibiting, service);
        self.set_quorum(service);
        self.set_omega(service);
        if let Some(sorry) = self.sorry {
            let method = self.sorry_method.as_ref().unwrap_or(inherited.method);
            match real_server::sorry(sorry, &Inherited { method, ..inherited }) {
                Ok(server) => service.servers.push(server),
                Err(reason) => service.end.lose(sorry.remark(reason)),
            }
        }
    }

    fn set_on_down(&self, inhibiting: &[bool], service: &mut Service) {
        if service.servers.iter().all(|server| server.checks.is_empty()) {
            if self.inhibits {
                service.block.set("on_down", Value::text("quiesce"));
            }
            return;
        }
        let is_kept = inhibiting.iter().all(|inhibits| *inhibits);
        service.block.set("on_down", Value::text(if is_kept { "quiesce" } else { "remove" }));
        for (server, inhibits) in service.servers.iter_mut().zip(inhibiting) {
            if *inhibits != is_kept {
                let reason = "on_down is for the whole virtual service, whose other real servers are removed on failure";
                let origin = server.origin.clone();
                server.block.lose(Remark { reason: reason.to_owned(), ..origin });
            }
        }
    }

    /// At its end, keepalived runs the commands for what is up then.
    fn set_omega(&self, service: &mut Service) {
        let Some(omega) = self.omega else { return };
        let of_servers = service.servers.iter_mut().flat_map(|server| &mut server.hooks);
        let mut has_any = false;
        for hook in service.hooks.iter_mut().chain(of_servers) {
            hook.at_stop = matches!(hook.when, "quorum_lost" | "real_server_down");
            has_any |= hook.at_stop;
        }
        service.block.note(omega.remark(if has_any {
            "quorum_down and notify_down run at the end, too (at_stop)"
        } else {
            "it runs quorum_down and notify_down at the end, but there are none"
        }));
    }

    /// Within the bounds that keepalived sets.
    fn set_quorum(&self, service: &mut Service) {
        let weight = |server: &Server| match server.block.value("weight") {
            Some(Value::Number(weight)) => *weight,
            _ => 1,
        };
        let sum = service.servers.iter().map(weight).sum::<u64>().max(1);
        let mut quorum = 1;
        if let Some((written, statement)) = self.quorum {
            quorum = u64::from(written).min(sum);
            if quorum < u64::from(written) {
                let reason = format!("keepalived lowers it to the sum of the weights, {quorum}");
                service.block.note(statement.remark(reason));
            }
            service.block.set_from("quorum", Value::Number(quorum), statement.remark(""));
        }
        if let Some((written, statement)) = self.hysteresis {
            let hysteresis = u64::from(written).min(quorum - 1);
            if hysteresis < u64::from(written) {
                let reason = format!("it must be less than the quorum; keepalived lowers it to {hysteresis}");
                service.block.note(statement.remark(reason));
            }
            service.block.set_from("hysteresis", Value::Number(hysteresis), statement.remark(""));
        }
    }
}

/// Why a keyword of a virtual server is not converted.
fn without_counterpart(keyword: &str) -> &'static str {
    match keyword {
        "ha_suspend" => "checks always run; they do not depend on where the VIP is",
        "smtp_alert" => "mail is not sent; use on_change or an alert of your monitoring",
        "ip_family" => "the family follows from the addresses",
        "nat_mask" => "it has had no effect since Linux 2.4",
        "syn_proxy"
        | "laddr_group_name"
        | "local_address_group"
        | "daddr_group_name"
        | "nb_sock_retry"
        | "real_server_group" => "a word of another program; keepalived ignores it",
        _ => "unknown; keepalived ignores it, and if it has a block, the rest of this virtual_server, too",
    }
}
