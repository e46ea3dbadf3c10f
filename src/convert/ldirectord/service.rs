//! A `virtual` of ldirectord with its real servers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::check::{self, Terms};
use super::keys::{self, At, Keys};
use super::lines::{self, Line};
use crate::control::ipvsadm::names::Names;
use crate::control::ipvsadm::options::Transport;
use crate::control::ipvsadm::values;
use crate::convert::Input;
use crate::convert::draft::{Block, Hook, Server, Service, Value};
use crate::convert::target::{self, DIRECT_ROUTING, Flags, MASQUERADING, OTHER_PORT, TIMEOUT_MAX};

/// The most real servers that one line makes.
const RANGE_MAX: u32 = 1_024;

/// Keys of a virtual service, apart from those that have a reason in the door.
const KEYS: &[&str] = &[
    "real",
    "real6",
    "checktype",
    "service",
    "checkport",
    "checkcommand",
    "request",
    "receive",
    "httpmethod",
    "virtualhost",
    "login",
    "passwd",
    "database",
    "secret",
    "scheduler",
    "schedflags",
    "persistent",
    "netmask",
    "protocol",
    "ops",
    "checktimeout",
    "negotiatetimeout",
    "failurecount",
    "checkcount",
    "checkinterval",
    "fallback",
    "fallback6",
    "fallbackcommand",
    "quiescent",
];

/// The virtual service of a block.
pub(super) fn read(block: &lines::Service, globals: &[Line], input: &Input) -> Service {
    let (mut remarks, mut refused) = (Block::default(), Vec::new());
    let own = keys::effective(&block.lines, &["real", "real6"], false, &mut refused, &mut remarks);
    let keys = Keys { own: &own, globals, refused: &refused };
    for line in &own {
        match super::reason(&line.key) {
            Some(reason) => remarks.lose(line.used().remark(reason)),
            None if !KEYS.contains(&line.key.as_str()) => {
                remarks.lose(line.used().remark("unknown here; ldirectord refuses the file"));
            }
            None => {}
        }
    }
    let (mut service, at) = opened(&block.head, &keys, input);
    service.block.entries.extend(remarks.entries);
    service_keys(&keys, &at, &mut service);
    let mut terms = Terms::read(&block.head, &keys, &at, input.names, &mut service.block);
    add_servers(&own, &at, &mut terms, input.names, &mut service);
    if service.servers.iter().any(|server| !server.checks.is_empty()) {
        let is_quiescent = keys.is_yes("quiescent");
        service.block.set("on_down", Value::text(if is_quiescent { "quiesce" } else { "remove" }));
    } else if let Some(line) = keys.line("quiescent") {
        service.block.note(line.remark("without a check, no real server goes down"));
    }
    fallback(&keys, &at, input.names, &mut service);
    fallback_command(&keys, &at, &mut service);
    for line in own.iter().filter(|line| !line.is_used() && !line.key.starts_with("real")) {
        service.block.note(line.remark("this virtual service does not use it"));
    }
    service
}

fn opened(head: &Line, keys: &Keys, input: &Input) -> (Service, At) {
    let origin = head.remark("");
    let written = keys.own_value("protocol").map(str::to_owned);
    let (place_word, surplus) = head.value.split_once([' ', '\t']).unwrap_or((&head.value, ""));
    let port_word = place_word.rsplit_once(':').map_or("", |(_, port)| port);
    let protocol = match written.as_deref() {
        Some("udp") => "udp",
        Some("tcp") => "tcp",
        None if ["53", "domain"].contains(&port_word) => "udp",
        _ => "tcp",
    };
    let transport = if protocol == "udp" { Transport::Udp } else { Transport::Tcp };
    let is_mark = place_word.bytes().all(|byte| byte.is_ascii_digit()) || written.as_deref() == Some("fwm");
    let name = place_word.to_owned();
    if is_mark {
        return (target::marked(&origin, place_word), At { vip: None, name, port: 0, protocol: "fwm" });
    }
    match values::place(place_word, Some(transport), input.names) {
        Some(place) => {
            let mut service = target::service(&origin, protocol, place.address, place.port);
            if !surplus.is_empty() {
                service.block.lose(head.remark(format!("`{surplus}` is ignored, as ldirectord does")));
            }
            if let Some(line) =
                keys.own("protocol").filter(|_| !["tcp", "udp"].contains(&line_word(&written)))
            {
                service.block.lose(line.remark("expected tcp, udp or fwm; tcp is used"));
            }
            let name = place.address.to_string();
            (service, At { vip: Some(place.address), name, port: place.port, protocol })
        }
        None => {
            let keys = vec![("vip", Value::text(&head.value))];
            let mut service = Service::new(origin, crate::convert::draft::Receives::Other(keys));
            service.disable("the host or the port cannot be looked up");
            (service, At { vip: None, name, port: 0, protocol })
        }
    }
}

fn line_word(written: &Option<String>) -> &str {
    written.as_deref().unwrap_or_default()
}

fn service_keys(keys: &Keys, at: &At, service: &mut Service) {
    let block = &mut service.block;
    let scheduler = keys.own_value("scheduler").unwrap_or("wrr");
    if target::is_scheduler(scheduler) {
        block.set("scheduler", Value::text(scheduler));
    } else if let Some(line) = keys.own("scheduler") {
        block.lose(line.remark("there is no such scheduler; the default is wlc"));
    }
    let mut flags = Flags::default();
    if let Some(line) = keys.own("schedflags") {
        for flag in line.value.split(',').map(str::trim) {
            if let Err(reason) = flags.set(scheduler, flag) {
                block.lose(line.remark(format!("{flag}: {reason}")));
            }
        }
    }
    flags.write(scheduler, block);
    persistence(keys, block);
    if let Some(line) = keys.own("ops").filter(|line| line.value == "yes") {
        if at.protocol == "udp" {
            block.set_from("one_packet", Value::Flag(true), line.remark(""));
        } else {
            block.lose(line.remark("it is only for UDP"));
        }
    }
}

fn persistence(keys: &Keys, block: &mut Block) {
    let Some(line) = keys.own("persistent") else {
        if let Some(line) = keys.own("netmask") {
            block.lose(line.remark("without effect unless persistent is set"));
        }
        return;
    };
    match line.value.parse::<u32>().ok().filter(|seconds| (1..=TIMEOUT_MAX).contains(seconds)) {
        Some(seconds) => {
            let time = Duration::from_secs(seconds.into());
            block.set_from("persistence.timeout", Value::Duration(time), line.remark(""));
        }
        None => return block.lose(line.remark(format!("expected seconds from 1 to {TIMEOUT_MAX}"))),
    }
    if let Some(line) = keys.own("netmask") {
        match line.value.parse::<Ipv4Addr>().ok().and_then(target::prefix) {
            Some(prefix) => {
                block.set_from("persistence.prefix", Value::Number(prefix.into()), line.remark(""));
            }
            None => block.lose(line.remark("expected a mask without holes, such as 255.255.255.0")),
        }
    }
}

fn add_servers(lines: &[Line], at: &At, terms: &mut Terms, names: &dyn Names, service: &mut Service) {
    let mut said: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line.key == "real" || line.key == "real6") {
        let real = match Real::read(line, at, names) {
            Ok(real) => real,
            Err(reason) => {
                service.end.lose(line.remark(reason));
                continue;
            }
        };
        for rip in real.addresses.clone() {
            let mut server = Server::new(line.remark(""), rip);
            if !said.contains(&real.method) {
                said.push(real.method.clone());
                method_remark(&real.method, line, &mut server.block);
            }
            real.write(line, at, &mut server);
            match terms.checks(rip, real.port, &real.texts, line, &mut server.block) {
                Ok(checks) => server.checks = checks,
                Err(reason) => server.block.lose(line.remark(reason)),
            }
            if terms.is_off() {
                server.disable("checktype = off: it never serves");
            }
            service.servers.push(server);
        }
    }
}

fn method_remark(method: &str, line: &Line, block: &mut Block) {
    match method {
        "gate" => block.lose(line.remark(DIRECT_ROUTING)),
        "masq" => block.lose(line.remark(MASQUERADING)),
        _ => {}
    }
}

/// `IP[->LAST][:PORT] METHOD [WEIGHT] ["REQUEST", "RECEIVE"] [l:N] [u:N]`.
struct Real {
    addresses: Vec<IpAddr>,
    /// 0: none.
    port: u16,
    method: String,
    weight: u32,
    /// Request and answer of its own.
    texts: Vec<String>,
    lower: u32,
    upper: u32,
    rest: Vec<String>,
}

impl Real {
    fn read(line: &Line, at: &At, names: &dyn Names) -> Result<Real, String> {
        let (place, behind) = line.value.split_once([' ', '\t']).unwrap_or((&line.value, ""));
        let (first, last) = place.split_once("->").unwrap_or((place, place));
        let transport = if at.protocol == "udp" { Transport::Udp } else { Transport::Tcp };
        let wrong = "the host or the port cannot be looked up";
        let (first, last) =
            (values::place(first, Some(transport), names), values::place(last, Some(transport), names));
        let (first, last) = (first.ok_or(wrong)?, last.ok_or(wrong)?);
        let mut real = Real {
            addresses: range(first.address, last.address)?,
            port: last.port,
            method: String::new(),
            weight: 1,
            texts: Vec::new(),
            lower: 0,
            upper: 0,
            rest: Vec::new(),
        };
        let mut words = check::words(behind).into_iter();
        match words.next() {
            Some((word, false)) if ["gate", "masq", "ipip"].contains(&word.as_str()) => real.method = word,
            _ => return Err("expected gate, masq or ipip; ldirectord refuses the file".to_owned()),
        }
        let mut has_weight = false;
        for (word, is_quoted) in words {
            let number =
                |text: &str| text.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok());
            match (word.split_once(':'), number(&word)) {
                _ if is_quoted && real.texts.len() < 2 => real.texts.push(word),
                (_, Some(weight)) if !is_quoted && !has_weight => {
                    real.weight = weight;
                    has_weight = true;
                }
                (Some(("l", value)), _) if !is_quoted && real.lower == 0 && number(value).is_some() => {
                    real.lower = number(value).unwrap_or_default()
                }
                (Some(("u", value)), _) if !is_quoted && real.upper == 0 && number(value).is_some() => {
                    real.upper = number(value).unwrap_or_default()
                }
                _ => real.rest.push(word),
            }
        }
        if real.texts.len() == 1 {
            real.rest.append(&mut real.texts);
        }
        Ok(real)
    }

    fn write(&self, line: &Line, at: &At, server: &mut Server) {
        let block = &mut server.block;
        if self.weight != 1 {
            block.set("weight", Value::Number(self.weight.into()));
        }
        if self.upper > 0 {
            block.set_from("upper_threshold", Value::Number(self.upper.into()), line.remark(""));
        }
        if self.lower > self.upper {
            block.lose(line.remark("l: must not be above u:"));
        } else if self.lower > 0 {
            block.set_from("lower_threshold", Value::Number(self.lower.into()), line.remark(""));
        }
        if !self.rest.is_empty() {
            block.lose(line.remark(format!("`{}` is not understood", self.rest.join(" "))));
        }
        if self.port != 0 && self.port != at.port && at.vip.is_some() {
            if self.method == "masq" {
                return server.disable(OTHER_PORT);
            }
            let reason = format!("packets keep their port; only checks use {}", self.port);
            block.note(line.remark(reason));
        }
    }
}

fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            match last.checked_sub(first) {
                Some(more) if more < RANGE_MAX => {
                    Ok((first..=last).map(|address| Ipv4Addr::from(address).into()).collect())
                }
                _ => Err(format!("expected a range of at most {RANGE_MAX} addresses")),
            }
        }
        (first, last) if first == last => Ok(vec![first]),
        _ => Err("ranges are for IPv4 addresses".to_owned()),
    }
}

fn fallback(keys: &Keys, at: &At, names: &dyn Names, service: &mut Service) {
    let Some(line) = keys.line("fallback").or_else(|| keys.line("fallback6")) else { return };
    if keys.own_value("checktype") == Some("off") {
        return service.end.lose(line.remark("checktype = off: it never serves"));
    }
    let mut words = line.value.split_whitespace();
    let surplus = line.value.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    if !surplus.is_empty() {
        service.end.lose(line.remark(format!("`{surplus}` is not understood; ldirectord refuses the file")));
    }
    let transport = if at.protocol == "udp" { Transport::Udp } else { Transport::Tcp };
    let place = words.next().and_then(|word| values::place(word, Some(transport), names));
    let Some(place) = place else {
        return service.end.lose(line.remark("the host or the port cannot be looked up"));
    };
    let method = words.next().unwrap_or("gate");
    if !["gate", "masq", "ipip"].contains(&method) {
        let reason = "expected gate, masq or ipip; ldirectord refuses the file";
        service.end.lose(line.remark(reason));
    }
    let mut server = Server::new(line.remark(""), place.address);
    server.is_sorry = true;
    server.block.set("sorry", Value::Flag(true));
    if place.address.is_loopback() {
        let reason =
            "this host serves; the VIP must be an address of it, and the port that of the virtual service";
        server.block.note(line.remark(reason));
    } else {
        method_remark(method, line, &mut server.block);
    }
    if place.port != 0 && place.port != at.port {
        if method == "masq" {
            server.disable(OTHER_PORT);
        } else {
            server.block.note(line.remark("packets keep their port, so ldirectord's port has no effect"));
        }
    }
    service.servers.push(server);
}

/// `CMD start|stop VIP:PORT PROTOCOL`, when the last real server goes down or the first comes up.
fn fallback_command(keys: &Keys, at: &At, service: &mut Service) {
    let Some(line) = keys.line("fallbackcommand") else { return };
    let place = if at.vip.is_some() { format!("{}:{}", at.name, at.port) } else { at.name.clone() };
    for (when, word) in [("quorum_lost", "start"), ("quorum_gained", "stop")] {
        let arguments = [word, &place, at.protocol];
        // ldirectord gives the whole line to a shell.
        let command = if line.value.contains(|c: char| "\"'\\$`|&;<>()*?[]{}~#!".contains(c)) {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("{} {}", line.value, arguments.join(" "))]
        } else {
            line.value.split_whitespace().chain(arguments).map(str::to_owned).collect()
        };
        service.hooks.push(Hook { origin: line.remark(""), when, command, user: None, at_stop: false });
    }
}
