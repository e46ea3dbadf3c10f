//! The checkers of a real server.

mod http;
mod misc;

use std::net::IpAddr;
use std::time::Duration;

use super::keywords::{self, Keywords, surplus};
use super::timing::{Level, Timing};
use super::tree::Statement;
use super::value::{Wrong, first, number, parsed};
use crate::convert::check::{Check, Origin};
use crate::convert::draft::{Block, Value};

/// What a checker inherits.
pub(super) struct Scope<'a> {
    /// The VIP, unless a firewall mark selects the packets.
    pub(super) vip: Option<IpAddr>,
    pub(super) rip: IpAddr,
    /// The port of the real server as written; 0: none.
    pub(super) port: u16,
    /// The port of the virtual server; 0: all.
    pub(super) service_port: u16,
    /// From the real server and the virtual server.
    pub(super) timing: Timing,
    /// From the virtual server, whose pause is the default of `misc_timeout`.
    pub(super) service_timing: &'a Timing,
    /// How many virtual services the virtual server makes.
    pub(super) members: usize,
    /// `script_user` and its group.
    pub(super) script_user: Option<&'a (String, Option<String>)>,
}

/// The checks that replace a checker.
pub(super) fn read(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    surplus(statement, 0, block);
    if statement.block.is_none() {
        let reason =
            "without { }, keepalived loses the keywords that follow it; it counts as an empty block here";
        block.lose(statement.remark(reason));
    }
    match statement.keyword() {
        "TCP_CHECK" => simple(statement, scope, block, "tcp"),
        "PING_CHECK" => simple(statement, scope, block, "icmp"),
        "HTTP_GET" | "SSL_GET" => http::read(statement, scope, block),
        "SMTP_CHECK" => smtp(statement, scope, block),
        "DNS_CHECK" => dns(statement, scope, block),
        "UDP_CHECK" => udp(statement, scope, block),
        "MISC_CHECK" => misc::read(statement, scope, block),
        "FILE_CHECK" => {
            block.lose(statement.remark("use a check of type \"exec\" that reads the file"));
            lose_all(statement.statements(), "as FILE_CHECK", block)
        }
        _ => {
            block.lose(
                statement.remark("there is no check by BFD; use \"tcp\" or \"icmp\" with a short interval"),
            );
            lose_all(statement.statements(), "as BFD_CHECK", block)
        }
    }
}

fn lose_all(statements: &[Statement], reason: &str, block: &mut Block) -> Vec<Check> {
    statements.iter().for_each(|statement| block.lose(statement.remark(reason)));
    Vec::new()
}

/// The keywords of most checkers.
#[derive(Clone, Default)]
struct Common {
    timing: Timing,
    address: Option<IpAddr>,
    port: Option<u16>,
    is_marked: bool,
}

impl<'a> Keywords<'a> for Common {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        if statement.keyword() == "nb_get_retry" {
            let reason = "keepalived accepts it only in HTTP_GET and SSL_GET, and ignores it here";
            return Err(reason.to_owned());
        }
        self.set_common(statement, block)
    }
}

impl Common {
    /// Reads a keyword that most checkers have; one that none has is an error.
    fn set_common(&mut self, statement: &Statement, block: &mut Block) -> Result<usize, Wrong> {
        if let Some(taken) = self.timing.set(statement, Level::Checker, block)? {
            return Ok(taken);
        }
        match statement.keyword() {
            "connect_ip" => {
                let address = parsed(first(statement)?);
                self.address =
                    Some(address.ok_or("expected a numeric address; keepalived ignores the line")?);
            }
            "connect_port" => {
                self.port = Some(u16::try_from(number(statement, 1, 65_535)?).unwrap_or_default());
            }
            "fwmark" => {
                self.is_marked = number(statement, 0, u32::MAX)? != 0;
                let reason = "a mark leads checks through the tunnel; `via` does that here";
                block.note(statement.remark(reason));
            }
            "bindto" | "bind_port" | "bind_if" => {
                return Err("the source of a check cannot be chosen; it follows the route".to_owned());
            }
            "log_all_failures" => {
                return Err("the log has each change of state, and metrics count failures".to_owned());
            }
            _ => return Err("unknown here; keepalived ignores it".to_owned()),
        }
        Ok(1)
    }

    /// The check, with the defaults for retries and the pause before them.
    fn check(
        &self,
        kind: &'static str,
        statement: &Statement,
        scope: &Scope,
        (retries, pause): (u32, Option<Duration>),
    ) -> Result<Check, Wrong> {
        let timing = self.timing.or(&scope.timing);
        let is_vip = self.address.is_some() && self.address == scope.vip;
        let via = if self.is_marked || is_vip { "tunnel" } else { "direct" };
        let address = self.address.filter(|address| *address != scope.rip && !is_vip);
        let address = address.filter(|_| via == "direct");
        let written = self.port.or(Some(scope.port).filter(|port| *port != 0));
        let has_port = !matches!(kind, "icmp" | "exec");
        if has_port && written.is_none() && scope.service_port == 0 {
            return Err("neither the virtual server nor the real server has a port to check".to_owned());
        }
        let retries = timing.retry().unwrap_or(retries);
        let interval = timing.interval();
        let written_pause = timing.delay_before_retry();
        let pause = written_pause.or(pause).filter(|pause| *pause != interval);
        let default_timeout = Duration::from_secs(5);
        Ok(Check {
            origin: Origin(statement.lost("")),
            kind,
            options: Vec::new(),
            via: Some(via),
            address,
            port: written.filter(|port| has_port && *port != scope.service_port),
            interval,
            fast_interval: pause.filter(|_| retries > 0 || written_pause.is_some()),
            timeout: if kind == "exec" {
                default_timeout
            } else {
                timing.connect_timeout().unwrap_or(default_timeout)
            },
            fall: retries.saturating_add(1),
            starts_down: timing.is_alpha(),
        })
    }

    /// Remarks about what the check does not use.
    fn report_unused(&self, kind: &str, statement: &Statement, block: &mut Block) {
        self.timing.report_unused(block);
        let is_unused = |keyword: &str| match keyword {
            "connect_port" => kind == "icmp",
            "connect_ip" => self.is_marked,
            _ => false,
        };
        for line in statement.statements().iter().filter(|line| is_unused(line.keyword())) {
            block.note(line.remark("no check uses it"));
        }
    }
}

/// Retries by default, and seconds before them.
const RETRIES: (u32, Option<Duration>) = (1, Some(Duration::from_secs(1)));

fn made(check: Result<Check, Wrong>, statement: &Statement, block: &mut Block) -> Vec<Check> {
    match check {
        Ok(check) => vec![check],
        Err(reason) => {
            block.lose(statement.lost(reason));
            Vec::new()
        }
    }
}

fn simple(statement: &Statement, scope: &Scope, block: &mut Block, kind: &'static str) -> Vec<Check> {
    let mut common = Common::default();
    keywords::read(&mut common, statement.statements(), block);
    let checks = made(common.check(kind, statement, scope, RETRIES), statement, block);
    common.report_unused(kind, statement, block);
    checks
}

#[derive(Default)]
struct Smtp<'a> {
    common: Common,
    name: Option<String>,
    hosts: Vec<&'a Statement>,
}

impl<'a> Keywords<'a> for Smtp<'a> {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        match statement.keyword() {
            "helo_name" => self.name = Some(first(statement)?.to_owned()),
            "host" => {
                self.hosts.push(statement);
                return Ok(0);
            }
            _ => return self.common.set(statement, block),
        }
        Ok(1)
    }
}

fn smtp(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut smtp = Smtp::default();
    keywords::read(&mut smtp, statement.statements(), block);
    let Smtp { common, name, hosts } = smtp;
    let mut checks = Vec::new();
    if hosts.is_empty() {
        checks.extend(made(common.check("smtp", statement, scope, RETRIES), statement, block));
    }
    for host in hosts {
        let mut own = common.clone();
        keywords::read(&mut own, host.statements(), block);
        checks.extend(made(own.check("smtp", host, scope, RETRIES), host, block));
        own.report_unused("smtp", host, block);
    }
    common.report_unused("smtp", statement, block);
    for check in &mut checks {
        check.options.extend(name.as_ref().map(|name| ("helo", Value::text(name))));
    }
    checks
}

struct Dns {
    common: Common,
    record: String,
    name: String,
}

impl<'a> Keywords<'a> for Dns {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        const RECORDS: [&str; 8] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "PTR"];
        match (statement.keyword(), statement.argument(1)) {
            ("type", Some(word)) if RECORDS.contains(&word) => self.record = word.to_owned(),
            ("type", _) => return Err(format!("unknown record; keepalived uses {}", self.record)),
            ("name", Some(word)) => self.name = word.to_owned(),
            ("name", None) => return Err(format!("a name is missing; keepalived uses {:?}", self.name)),
            _ => return self.common.set(statement, block),
        }
        Ok(1)
    }
}

fn dns(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut dns = Dns { common: Common::default(), record: "SOA".to_owned(), name: ".".to_owned() };
    keywords::read(&mut dns, statement.statements(), block);
    let mut checks = made(dns.common.check("dns", statement, scope, (3, None)), statement, block);
    dns.common.report_unused("dns", statement, block);
    for check in &mut checks {
        check.options = vec![("record", Value::text(&dns.record)), ("name", Value::text(&dns.name))];
    }
    checks
}

#[derive(Default)]
struct Udp {
    common: Common,
    payload: Option<String>,
    has_reply: bool,
    expect: Option<String>,
}

impl<'a> Keywords<'a> for Udp {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        match (statement.keyword(), statement.argument(1)) {
            ("payload", Some(word)) if is_hex(word, "") => self.payload = Some(word.to_lowercase()),
            ("payload", _) => return Err("expected an even number of hexadecimal digits".to_owned()),
            ("require_reply", Some(word)) if !is_hex(word, "xX") => {
                self.has_reply = true;
                let reason = "expected an even number of hexadecimal digits or x; any reply is accepted";
                return Err(reason.to_owned());
            }
            ("require_reply", word) => {
                self.has_reply = true;
                self.expect = word.map(str::to_lowercase);
            }
            ("min_reply_length" | "max_reply_length", _) => {
                return Err("the length of a reply is not checked".to_owned());
            }
            _ => return self.common.set(statement, block),
        }
        Ok(1)
    }
}

fn udp(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut udp = Udp::default();
    keywords::read(&mut udp, statement.statements(), block);
    let Udp { common, payload, has_reply, expect } = udp;
    let mut checks = made(common.check("udp", statement, scope, RETRIES), statement, block);
    common.report_unused("udp", statement, block);
    if payload.is_none() {
        block.note(statement.remark("keepalived sends 32 random bytes; this sends 32 zero bytes"));
    }
    let payload = payload.unwrap_or_else(|| "00".repeat(32));
    for check in &mut checks {
        check.options = vec![("send", Value::text(format!("hex:{payload}")))];
        check.options.extend(expect.as_ref().map(|expect| ("expect", Value::text(format!("hex:{expect}")))));
        check.options.push(("reply", Value::text(if has_reply { "required" } else { "no-error" })));
    }
    checks
}

fn is_hex(word: &str, others: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_hexdigit() || others.contains(c);
    !word.is_empty() && word.len().is_multiple_of(2) && word.chars().all(is_digit)
}
