//! The checkers of a real server.

mod http;
mod misc;

use std::net::IpAddr;
use std::time::Duration;

use super::timing::{Level, Timing, effective, surplus};
use super::tree::Statement;
use super::value::{Wrong, first, number, parsed};
use crate::convert::check::Check;
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
    /// The pause that the virtual server sets, the default of `misc_timeout`.
    pub(super) service_interval: Duration,
    /// `script_user` and its group.
    pub(super) script_user: Option<&'a (String, Option<String>)>,
}

/// The kinds of checkers.
pub(super) fn is_checker(keyword: &str) -> bool {
    matches!(
        keyword,
        "TCP_CHECK"
            | "HTTP_GET"
            | "SSL_GET"
            | "SMTP_CHECK"
            | "DNS_CHECK"
            | "UDP_CHECK"
            | "PING_CHECK"
            | "MISC_CHECK"
            | "FILE_CHECK"
            | "BFD_CHECK"
    )
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
struct Common {
    timing: Timing,
    address: Option<IpAddr>,
    port: Option<u16>,
    is_marked: bool,
}

impl Common {
    fn new() -> Common {
        Common { timing: Timing::default(), address: None, port: None, is_marked: false }
    }

    /// Reads a statement, or reports it as unknown.
    fn read(&mut self, statement: &Statement, block: &mut Block) {
        if self.timing.read(statement, Level::Checker, block) {
            return;
        }
        if let Err(reason) = self.set(statement) {
            return block.lose(statement.lost(reason));
        }
        surplus(statement, 1, block);
    }

    fn set(&mut self, statement: &Statement) -> Result<(), Wrong> {
        match statement.keyword() {
            "connect_ip" => {
                let address = parsed(first(statement)?);
                self.address =
                    Some(address.ok_or("expected a numeric address; keepalived ignores the line")?);
            }
            "connect_port" => {
                self.port = Some(u16::try_from(number(statement, 1, 65_535)?).unwrap_or_default());
            }
            "fwmark" => self.is_marked = number(statement, 0, u32::MAX)? != 0,
            "bindto" | "bind_port" | "bind_if" => {
                return Err("the source of a check cannot be chosen; it follows the route".to_owned());
            }
            "log_all_failures" => {
                return Err("the log has each change of state, and metrics count failures".to_owned());
            }
            "nb_get_retry" => {
                return Err(
                    "keepalived accepts it only in HTTP_GET and SSL_GET, and ignores it here".to_owned()
                );
            }
            _ => return Err("unknown here; keepalived ignores it".to_owned()),
        }
        Ok(())
    }

    /// The check, with the defaults for retries and the pause before them.
    fn check(
        &self,
        kind: &'static str,
        scope: &Scope,
        (retries, pause): (u32, Option<Duration>),
    ) -> Result<Check, Wrong> {
        let timing = self.timing.or(&scope.timing);
        let is_vip = self.address.is_some() && self.address == scope.vip;
        let via = if self.is_marked || is_vip { "tunnel" } else { "direct" };
        let address = self.address.filter(|address| *address != scope.rip && !is_vip);
        let address = address.filter(|_| via == "direct");
        if address.is_some_and(|address| address.is_ipv6()) {
            return Err("connect_ip is an IPv6 address, and checks use IPv4".to_owned());
        }
        let written = self.port.or(Some(scope.port).filter(|port| *port != 0));
        let has_port = !matches!(kind, "icmp" | "exec");
        if has_port && written.is_none() && scope.service_port == 0 {
            return Err("neither the virtual server nor the real server has a port to check".to_owned());
        }
        let retries = timing.retry.unwrap_or(retries);
        let interval = timing.interval();
        let pause = timing.delay_before_retry.or(pause).filter(|pause| *pause != interval);
        let is_written = timing.delay_before_retry.is_some();
        Ok(Check {
            kind,
            options: Vec::new(),
            via: Some(via),
            address,
            port: written.filter(|port| has_port && *port != scope.service_port),
            interval,
            fast_interval: pause.filter(|_| retries > 0 || is_written),
            timeout: timing.connect_timeout.unwrap_or(Duration::from_secs(5)),
            fall: retries.saturating_add(1),
            starts_down: timing.is_alpha.unwrap_or(false),
        })
    }
}

/// Retries by default, and seconds before them.
const RETRIES: (u32, Option<Duration>) = (1, Some(Duration::from_secs(1)));

fn made(check: Result<Check, Wrong>, statement: &Statement, block: &mut Block) -> Vec<Check> {
    match check {
        Ok(check) => vec![check],
        Err(reason) => {
            block.lose(statement.remark(reason));
            Vec::new()
        }
    }
}

fn simple(statement: &Statement, scope: &Scope, block: &mut Block, kind: &'static str) -> Vec<Check> {
    let mut common = Common::new();
    for inner in effective(statement.statements(), &[], block) {
        common.read(inner, block);
    }
    made(common.check(kind, scope, RETRIES), statement, block)
}

fn smtp(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let (mut common, mut name, mut hosts) = (Common::new(), None, Vec::new());
    for inner in effective(statement.statements(), &[], block) {
        match inner.keyword() {
            "helo_name" => {
                name = inner.argument(1).map(str::to_owned);
                surplus(inner, 1, block);
            }
            "host" => hosts.push(inner),
            _ => common.read(inner, block),
        }
    }
    let mut checks = Vec::new();
    if hosts.is_empty() {
        checks.extend(made(common.check("smtp", scope, RETRIES), statement, block));
    }
    for host in hosts {
        let mut own = Common { timing: common.timing.clone(), ..Common::new() };
        for inner in effective(host.statements(), &[], block) {
            own.read(inner, block);
        }
        checks.extend(made(own.check("smtp", scope, RETRIES), host, block));
    }
    for check in &mut checks {
        check.options.extend(name.as_ref().map(|name| ("helo", Value::text(name))));
    }
    checks
}

fn dns(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    const RECORDS: [&str; 8] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "PTR"];
    let (mut common, mut record, mut name) = (Common::new(), "SOA".to_owned(), ".".to_owned());
    for inner in effective(statement.statements(), &[], block) {
        match (inner.keyword(), inner.argument(1)) {
            ("type", Some(word)) if RECORDS.contains(&word) => record = word.to_owned(),
            ("type", _) => block.lose(inner.remark("unknown record; keepalived uses SOA")),
            ("name", Some(word)) => name = word.to_owned(),
            ("name", None) => block.lose(inner.remark("a name is missing; keepalived uses \".\"")),
            _ => common.read(inner, block),
        }
    }
    let mut checks = made(common.check("dns", scope, (3, None)), statement, block);
    for check in &mut checks {
        check.options = vec![("record", Value::text(&record)), ("name", Value::text(&name))];
    }
    checks
}

fn udp(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let (mut common, mut payload, mut reply, mut expect) = (Common::new(), None, "no-error", None);
    for inner in effective(statement.statements(), &[], block) {
        match (inner.keyword(), inner.argument(1)) {
            ("payload", Some(word)) if is_hex(word, "") => payload = Some(word.to_lowercase()),
            ("payload", _) => block.lose(inner.remark("expected an even number of hexadecimal digits")),
            ("require_reply", word) => {
                reply = "required";
                match word {
                    Some(word) if !is_hex(word, "xX") => {
                        block.lose(inner.remark("expected an even number of hexadecimal digits or x"));
                    }
                    word => expect = word.map(str::to_lowercase),
                }
            }
            ("min_reply_length" | "max_reply_length", _) => {
                block.lose(inner.remark("the length of a reply is not checked"));
            }
            _ => common.read(inner, block),
        }
    }
    let mut checks = made(common.check("udp", scope, RETRIES), statement, block);
    if payload.is_none() {
        block.note(statement.remark("keepalived sends 32 random bytes; this sends 32 zero bytes"));
    }
    for check in &mut checks {
        check.options = vec![(
            "send",
            Value::text(format!("hex:{}", payload.clone().unwrap_or_else(|| "00".repeat(32)))),
        )];
        check.options.extend(expect.as_ref().map(|expect| ("expect", Value::text(format!("hex:{expect}")))));
        check.options.push(("reply", Value::text(reply)));
    }
    checks
}

fn is_hex(word: &str, others: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_hexdigit() || others.contains(c);
    !word.is_empty() && word.len().is_multiple_of(2) && word.chars().all(is_digit)
}
