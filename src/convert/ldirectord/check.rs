//! The checks of a `virtual`.

mod request;

use std::net::IpAddr;
use std::time::Duration;

use super::keys::{At, Keys};
use super::lines::Line;
use crate::control::ipvsadm::names::Names;
use crate::convert::check::{Check, Origin};
use crate::convert::draft::{Block, Value};

/// A number, and the line that sets it. Without a line the default counts.
#[derive(Clone, Copy, Default)]
struct Setting<'a> {
    number: u32,
    line: Option<&'a Line>,
}

impl<'a> Setting<'a> {
    fn of(line: Option<&'a Line>) -> Option<Setting<'a>> {
        line?.value.parse().ok().map(|number| Setting { number, line })
    }

    fn used(&self, default: u32) -> u32 {
        self.line.map_or(default, |line| {
            line.used();
            self.number
        })
    }

    fn seconds(&self, default: u32) -> Duration {
        Duration::from_secs(self.used(default).into())
    }
}

/// The keys for checks.
pub(super) struct Terms<'a> {
    keys: &'a Keys<'a>,
    /// The line of the virtual service.
    head: &'a Line,
    vip: String,
    service_port: u16,
    is_udp: bool,
    kind: String,
    service: String,
    checkport: Option<Setting<'a>>,
    interval: Setting<'a>,
    /// Of a connection, and of a whole exchange.
    timeouts: [Setting<'a>; 2],
    fall: Setting<'a>,
    names: &'a dyn Names,
    /// The line of the real server, if that has a request and an answer of its own.
    real: Option<Line>,
    /// Each difference is reported once for a virtual service.
    is_reported: bool,
}

/// Ports with a service of their own.
const SERVICES: &[(u16, &str)] = &[
    (21, "ftp"),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (110, "pop"),
    (119, "nntp"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (587, "submission"),
    (636, "ldaps"),
    (993, "imaps"),
    (995, "pops"),
    (1521, "oracle"),
    (1812, "radius"),
    (3128, "http_proxy"),
    (3306, "mysql"),
    (5060, "sip"),
    (5432, "pgsql"),
];

impl<'a> Terms<'a> {
    pub(super) fn read(
        head: &'a Line,
        keys: &'a Keys<'a>,
        at: &At,
        names: &'a dyn Names,
        block: &mut Block,
    ) -> Terms<'a> {
        let own = |key| Setting::of(keys.own_unmarked(key));
        let global = |key| Setting::of(keys.global_unmarked(key));
        let both = |first, second| {
            own(first).or(own(second)).or(global(first)).or(global(second)).unwrap_or_default()
        };
        let is_forking = keys.global("fork").is_some_and(|line| line.value == "yes");
        if let Some(line) = keys.own_unmarked("checkinterval").filter(|_| !is_forking) {
            block.lose(line.used().remark("ldirectord ignores it here unless fork = yes"));
        }
        let interval = own("checkinterval").filter(|_| is_forking).or(global("checkinterval"));
        let checkport = own("checkport").filter(|port| port.number < 65_536);
        if let Some(line) = keys.own_unmarked("checkport").filter(|_| checkport.is_none()) {
            block.lose(line.used().remark("expected a port from 1 to 65535; ldirectord refuses the file"));
        }
        let by_port = SERVICES.iter().find(|(port, _)| *port == at.port).map_or("none", |(_, name)| name);
        let service = keys.own_value("service").unwrap_or(by_port).to_owned();
        Terms {
            keys,
            head,
            vip: at.name.clone(),
            service_port: at.port,
            is_udp: at.protocol == "udp",
            kind: keys.own_value("checktype").unwrap_or("negotiate").to_owned(),
            service,
            checkport,
            interval: interval.unwrap_or_default(),
            timeouts: [both("checktimeout", "negotiatetimeout"), both("negotiatetimeout", "checktimeout")],
            fall: own("failurecount").or(global("failurecount")).unwrap_or_default(),
            names,
            real: None,
            is_reported: false,
        }
    }

    /// Whether the real servers never serve.
    pub(super) fn is_off(&self) -> bool {
        self.kind == "off"
    }

    /// The checks of one real server; `texts` are its own request and answer.
    ///
    /// # Errors
    /// There is nothing to check.
    pub(super) fn checks(
        &mut self,
        rip: IpAddr,
        port: u16,
        texts: &[String],
        line: &Line,
        block: &mut Block,
    ) -> Result<Vec<Check>, &'static str> {
        self.real = Some(line.clone()).filter(|_| !texts.is_empty());
        let of_service =
            || SERVICES.iter().find(|(_, name)| *name == self.service).map_or(0, |(port, _)| *port);
        let written = self.checkport.and_then(|port| u16::try_from(port.number).ok());
        let target = written.unwrap_or_else(|| if port == 0 { of_service() } else { port });
        let mut checks = match self.refused() {
            Some(stand_in) => {
                let what = if stand_in == "tcp" { "only a TCP connection" } else { "only a ping" };
                let reason = format!("a line of the check is refused; the check below is {what}");
                self.lose_head(&reason, block);
                vec![self.check(stand_in, 0)]
            }
            None => self.by_type(rip, port, texts, block),
        };
        for check in &mut checks {
            let has_port = !matches!(check.kind, "icmp" | "exec");
            if has_port && let Some(port) = self.checkport {
                port.used(0);
            }
            let written = check.port.unwrap_or(target);
            check.port = Some(written).filter(|port| has_port && *port != self.service_port);
        }
        self.report_unused(block);
        self.is_reported = true;
        if target == 0 && checks.iter().any(|check| !matches!(check.kind, "icmp" | "exec")) {
            return Err("neither the virtual service nor the real server has a port to check");
        }
        Ok(checks)
    }

    /// The kind of the check that stands in for one whose lines are refused.
    fn refused(&self) -> Option<&'static str> {
        let is_refused = |key: &str| self.keys.refused.iter().any(|line| line.key == key);
        let is_elsewhere = ["checktype", "service", "checkport", "checkcommand"].into_iter().any(is_refused)
            || self.checkport.is_none() && self.keys.own_unmarked("checkport").is_some();
        match ["request", "httpmethod", "virtualhost"].into_iter().any(is_refused) {
            _ if is_elsewhere => Some("icmp"),
            true if self.is_udp || self.service == "dns" => Some("icmp"),
            true => Some("tcp"),
            false => None,
        }
    }

    fn by_type(&mut self, rip: IpAddr, port: u16, texts: &[String], block: &mut Block) -> Vec<Check> {
        match self.kind.as_str() {
            "on" | "off" => Vec::new(),
            "connect" if self.is_udp => vec![self.check("icmp", 0)],
            "connect" => vec![self.check("tcp", 0)],
            "ping" => vec![self.check("icmp", 0)],
            "external" => vec![self.external(rip, port, block)],
            "external-perl" => {
                let reason = "there is no Perl here; run the file by a check of type \"exec\". The check below is only a ping";
                self.lose("checktype", reason, block);
                vec![self.check("icmp", 0)]
            }
            "negotiate" => self.negotiate(rip, texts, block).into_iter().collect(),
            number => match number.parse::<u32>() {
                Ok(0) => self.negotiate(rip, texts, block).into_iter().collect(),
                // N connects, then one negotiate.
                Ok(count) => {
                    let mut whole: Vec<Check> = self.negotiate(rip, texts, block).into_iter().collect();
                    whole.iter_mut().for_each(|check| check.interval *= count.saturating_add(1).min(1_000));
                    std::iter::once(self.check("tcp", 0)).chain(whole).collect()
                }
                Err(_) => {
                    let reason = "unknown; ldirectord refuses the file. The check below is only a ping";
                    self.lose("checktype", reason, block);
                    vec![self.check("icmp", 0)]
                }
            },
        }
    }

    /// A remark about the virtual service as a whole, once.
    fn lose_head(&self, reason: &str, block: &mut Block) {
        if !self.is_reported {
            block.lose(self.head.remark(reason));
        }
    }

    fn check(&self, kind: &'static str, timeout: usize) -> Check {
        Check {
            origin: Origin(self.head.remark("")),
            kind,
            options: Vec::new(),
            via: Some("direct"),
            address: None,
            port: None,
            interval: self.interval.seconds(10),
            fast_interval: None,
            timeout: self.timeouts[timeout].seconds([5, 30][timeout]),
            fall: self.fall.used(1),
            starts_down: true,
        }
    }

    /// A remark about a line of the block, once for each virtual service. A service may follow from the port.
    fn lose(&self, key: &str, reason: &str, block: &mut Block) {
        let own = self.real.as_ref().filter(|_| ["request", "receive"].contains(&key));
        if let Some(line) = own {
            return block.lose(line.remark(reason));
        }
        let line = self.keys.line(key).or_else(|| Some(self.head).filter(|_| key == "service"));
        if let Some(line) = line.filter(|_| !self.is_reported) {
            block.lose(line.remark(reason));
        }
    }

    /// Reports what this kind of check does not use.
    fn report_unused(&self, block: &mut Block) {
        let is_negotiate = self.kind == "negotiate" || self.kind.parse::<u32>().is_ok();
        let is_http = is_negotiate && matches!(self.service.as_str(), "http" | "https");
        let is_external = matches!(self.kind.as_str(), "external" | "external-perl");
        let has_texts = is_http || is_negotiate && matches!(self.service.as_str(), "dns" | "simpletcp");
        let unused = [
            ("request", has_texts),
            ("receive", has_texts),
            ("httpmethod", is_http),
            ("virtualhost", is_http),
            ("service", is_negotiate),
            ("checkcommand", is_external),
        ];
        for (key, is_used) in unused {
            if !is_used && self.keys.own_unmarked(key).is_some() {
                self.lose(key, "this check does not use it", block);
            }
        }
        for key in ["login", "passwd", "database", "secret"] {
            if self.keys.own(key).is_some() {
                self.lose(key, "checks do not log in", block);
            }
        }
        if self.keys.value("checkcount").is_some_and(|count| count != "1") {
            self.lose("checkcount", "a check sends one request; failurecount is what decides", block);
        }
    }

    fn external(&self, rip: IpAddr, port: u16, block: &mut Block) -> Check {
        let mut check = self.check("exec", 0);
        check.via = None;
        let program = self.keys.own_value("checkcommand").unwrap_or("/bin/true");
        let mut command: Vec<String> = program.split_whitespace().map(str::to_owned).collect();
        if command.len() > 1 {
            let reason = "ldirectord takes it for the name of a program, blanks included; here its words are arguments";
            self.lose("checkcommand", reason, block);
        }
        if command.is_empty() {
            command.push("/bin/true".to_owned());
        }
        let numbers = [self.vip.clone(), self.service_port.to_string(), rip.to_string(), port.to_string()];
        command.extend(numbers);
        check.options.push(("command", Value::texts(&command)));
        check
    }

    fn negotiate(&self, rip: IpAddr, texts: &[String], block: &mut Block) -> Option<Check> {
        let own = |index: usize, key: &str, default: &'static str| {
            let text = texts.get(index).map(String::as_str);
            text.or_else(|| self.keys.own_value(key)).unwrap_or(default).to_owned()
        };
        if !["http", "https", "dns", "simpletcp"].contains(&self.service.as_str()) {
            return self.greeting(block);
        }
        let (request, receive) = (own(0, "request", "/"), own(1, "receive", ""));
        match self.service.as_str() {
            "dns" => self.dns(&request, &receive, block),
            "simpletcp" => Some(self.simple(&request, &receive, block)),
            _ => Some(self.web(rip, &request, &receive, !texts.is_empty(), block)),
        }
    }

    /// Services whose checks ask for nothing in particular.
    fn greeting(&self, block: &mut Block) -> Option<Check> {
        match self.service.as_str() {
            "ftp" => {
                self.lose("service", "the check does not log in, as ldirectord does", block);
                Some(self.check("ftp", 1))
            }
            "smtp" | "submission" => Some(self.check("smtp", 1)),
            "pop" => Some(self.check("pop3", 1)),
            "imap" => Some(self.check("imap", 1)),
            "nntp" => Some(self.check("nntp", 1)),
            "pops" => Some(self.over_tls("pop3")),
            "imaps" => Some(self.over_tls("imap")),
            "ldaps" => {
                let mut check = self.check("tls", 1);
                check.options.push(("verify", Value::Flag(false)));
                self.lose("service", "only the TLS handshake is checked", block);
                Some(check)
            }
            "mysql" | "pgsql" => {
                self.lose("service", "only the greeting is checked, without a query", block);
                Some(self.check(if self.service == "mysql" { "mysql" } else { "postgres" }, 1))
            }
            "none" => {
                self.lose("service", "ldirectord does not check it, and it is always up", block);
                None
            }
            "radius" => {
                self.lose("service", "there is no such check; it is a ping instead", block);
                Some(self.check("icmp", 0))
            }
            "sip" if self.is_udp => {
                self.lose("service", "there is no such check; it is a ping instead", block);
                Some(self.check("icmp", 0))
            }
            "http_proxy" | "ldap" | "oracle" | "sip" => {
                self.lose("service", "there is no such check; it is a TCP connection instead", block);
                Some(self.check("tcp", 0))
            }
            _ => {
                let reason = "unknown; ldirectord refuses the file. The check below is only a ping";
                self.lose("service", reason, block);
                Some(self.check("icmp", 0))
            }
        }
    }

    fn over_tls(&self, kind: &'static str) -> Check {
        let mut check = self.check(kind, 1);
        check.options = vec![("tls", Value::Flag(true)), ("verify", Value::Flag(false))];
        check
    }
}

/// Words and texts in quotes, which a comma may separate; true: in quotes.
pub(super) fn words(text: &str) -> Vec<(String, bool)> {
    let (mut words, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, behind, is_quoted) = match rest.strip_prefix('"') {
            _ if rest.is_empty() => return words,
            Some(quoted) => {
                let (word, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
                (word, behind, true)
            }
            None => {
                let end = rest.find([' ', '\t', ',', '"']).unwrap_or(rest.len());
                (&rest[..end], &rest[end..], false)
            }
        };
        words.push((word.to_owned(), is_quoted));
        rest = behind;
    }
}
