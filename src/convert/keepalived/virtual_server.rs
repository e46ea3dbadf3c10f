//! `virtual_server`: the keywords of a virtual server, and what follows from them.

use std::time::Duration;

use super::globals::Globals;
use super::group::Target;
use super::keywords::{self, Keywords, surplus};
use super::real_server::{self, Inherited, Method};
use super::timing::{Level, Timing};
use super::tree::Statement;
use super::value::{Wrong, first, mask, number};
use crate::convert::draft::{Block, Entry, Hook, Remark, Server, Service, Value};
use crate::convert::target::{self, Flags, MASQUERADING, TIMEOUT_MAX};

/// The virtual service for one of the targets of a virtual server; `members` is their number.
pub(super) fn service(statement: &Statement, target: Target, members: usize, globals: &Globals) -> Service {
    let origin = statement.remark("");
    let mut block = Block::default();
    surplus(statement, 2, &mut block);
    let protocol = protocol(statement, target, &mut block);
    let mut service = match target {
        Target::Address(vip, port) => target::service(&origin, protocol, vip, port),
        Target::Mark(mark) => target::marked(&origin, &mark.to_string()),
    };
    let mut terms = Terms::new(protocol, target, members, globals);
    keywords::read(&mut terms, statement.statements(), &mut block);
    terms.finish(statement, target, &mut service, &mut block);
    service.block.entries.extend(block.entries);
    let servers = std::mem::take(&mut terms.servers);
    terms.add_servers(&servers, target, &mut service);
    terms.timing.report_unused(&mut service.block);
    if servers.is_empty() {
        service.disable("keepalived drops a virtual server without real servers");
    }
    service
}

/// A protocol in lower case.
fn known_protocol(statement: &Statement) -> Option<&'static str> {
    let word = statement.argument(1).map(str::to_lowercase);
    ["tcp", "udp", "sctp"].into_iter().find(|name| Some(*name) == word.as_deref())
}

/// The last one that is known.
fn protocol(statement: &Statement, target: Target, block: &mut Block) -> &'static str {
    let lines = statement.statements().iter().filter(|inner| inner.keyword() == "protocol");
    let found = lines.clone().filter_map(known_protocol).next_back();
    if lines.count() == 0 && !matches!(target, Target::Mark(_)) {
        block.note(statement.remark("without a protocol, keepalived uses UDP"));
    }
    found.unwrap_or("udp")
}

struct Terms<'a> {
    protocol: &'static str,
    is_marked: bool,
    members: usize,
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
    weight: Option<(u32, &'a Statement)>,
    sorry: Option<&'a Statement>,
    sorry_method: Option<Method>,
    hooks: Vec<Hook>,
    omega: Option<&'a Statement>,
    servers: Vec<&'a Statement>,
}

impl<'a> Terms<'a> {
    fn new(protocol: &'static str, target: Target, members: usize, globals: &'a Globals) -> Terms<'a> {
        Terms {
            protocol,
            is_marked: matches!(target, Target::Mark(_)),
            members,
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
            weight: None,
            sorry: None,
            sorry_method: None,
            hooks: Vec::new(),
            omega: None,
            servers: Vec::new(),
        }
    }
}

impl<'a> Keywords<'a> for Terms<'a> {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        if let Some(taken) = self.timing.set(statement, Level::VirtualServer, block)? {
            return Ok(taken);
        }
        match statement.keyword() {
            "real_server" => {
                self.servers.push(statement);
                return Ok(keywords::ALL);
            }
            "protocol" => {
                known_protocol(statement)
                    .ok_or_else(|| format!("unknown protocol; keepalived uses {}", self.protocol))?;
                if self.is_marked {
                    block.note(statement.remark("a firewall mark has any protocol; name it in match"));
                }
            }
            "lvs_sched" | "lb_algo" => self.set_scheduler(first(statement)?)?,
            flag @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1" | "flag-2"
            | "flag-3") => {
                let scheduler = self.scheduler.as_deref();
                self.flags.set(scheduler.ok_or("without effect before the scheduler's line")?, flag)?;
                return Ok(0);
            }
            "lvs_method" | "lb_kind" => {
                self.method = Some(Method::read(statement, block)?);
                return Ok(keywords::ALL);
            }
            "persistence_timeout" => self.set_persistence(statement, block)?,
            "persistence_granularity" => {
                let mask = mask(first(statement)?).ok_or("expected a mask such as 255.255.255.0")?;
                self.persistence = self.persistence.or(Some(360));
                let prefix = target::prefix(mask);
                self.prefix = Some(prefix.ok_or("the mask has holes, and is not a prefix")?);
            }
            "quorum" => self.quorum = Some((number(statement, 1, i32::MAX as u32)?, statement)),
            "hysteresis" => self.hysteresis = Some((number(statement, 0, i32::MAX as u32)?, statement)),
            "weight" => self.weight = Some((number(statement, 0, i32::MAX as u32)?, statement)),
            "snmp_name" => {
                block.set_from("name", Value::text(first(statement)?), statement.remark(""));
            }
            _ => return self.set_other(statement, block),
        }
        Ok(1)
    }
}

impl<'a> Terms<'a> {
    /// Sorry servers, commands, and words that stand alone.
    fn set_other(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        const NO_SORRY: &str = "without effect before sorry_server";
        match statement.keyword() {
            "ops" if self.protocol == "udp" => {
                block.set_from("one_packet", Value::Flag(true), statement.remark(""));
            }
            "ops" => return Err("it is only for UDP, and keepalived resets it".to_owned()),
            "hashed" => block.note(statement.remark("it has no effect in keepalived either")),
            word @ ("quorum_up" | "quorum_down") => {
                let when = if word == "quorum_up" { "quorum_gained" } else { "quorum_lost" };
                real_server::add_hook(&mut self.hooks, statement, when, self.globals, block)?;
                return Ok(keywords::ALL);
            }
            "omega" => {
                self.omega = Some(statement);
                return Ok(0);
            }
            "sorry_server" if self.sorry.is_some() => {
                return Err("keepalived has one sorry server".to_owned());
            }
            "sorry_server" => {
                self.sorry = Some(statement);
                return Ok(2);
            }
            "sorry_server_inhibit" | "sorry_server_lvs_method" if self.sorry.is_none() => {
                return Err(NO_SORRY.to_owned());
            }
            "sorry_server_inhibit" => {
                let reason = "a sorry server stays in the table anyway, without new connections";
                block.note(statement.remark(reason));
            }
            "sorry_server_lvs_method" => {
                self.sorry_method = Some(Method::read(statement, block)?);
                return Ok(keywords::ALL);
            }
            "inhibit_on_failure" => self.inhibits = true,
            other => return Err(without_counterpart(other).to_owned()),
        }
        Ok(0)
    }

    fn set_scheduler(&mut self, name: &str) -> Result<(), Wrong> {
        let is_known = target::is_scheduler(name);
        self.scheduler = Some(if is_known { name } else { "wlc" }.to_owned());
        if is_known { Ok(()) } else { Err("keepalived has no such scheduler, and uses wlc".to_owned()) }
    }

    fn set_persistence(&mut self, statement: &Statement, block: &mut Block) -> Result<(), Wrong> {
        match statement.argument(1) {
            None => self.persistence = Some(360),
            Some("0") if self.persistence.is_some() => {
                return Err("keepalived refuses 0, and what was set before stays".to_owned());
            }
            Some("0") => block.note(statement.remark("keepalived refuses 0, so persistence is off")),
            Some(_) => self.persistence = Some(number(statement, 1, TIMEOUT_MAX)?),
        }
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
            Target::Mark(_) => (None, 0),
        };
        let inherited = Inherited {
            vip,
            service_port: port,
            timing: &self.timing,
            method: self.method.as_ref().unwrap_or(&Method::Masquerading),
            members: self.members,
            weight: self.weight.map_or(1, |(weight, _)| weight),
            inhibits: self.inhibits,
            globals: self.globals,
        };
        let (mut inhibiting, mut places, mut has_own_weights) = (Vec::new(), Vec::new(), true);
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
                    has_own_weights &= found.has_weight;
                    service.servers.push(found.server);
                }
                Err(reason) => service.end.lose(statement.remark(reason)),
            }
        }
        if let Some((_, statement)) = self.weight.filter(|_| has_own_weights) {
            service.block.note(statement.remark("each real server has a weight of its own"));
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
            for (server, inhibits) in service.servers.iter_mut().zip(inhibiting) {
                if *inhibits != self.inhibits {
                    let reason = "inhibit_on_failure: without a check, no real server goes down".to_owned();
                    let origin = server.origin.clone();
                    server.block.note(Remark { reason, ..origin });
                }
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
        "persistence_engine" => "there are no persistence engines",
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
