//! The checks of a `virtual`.

use std::net::IpAddr;
use std::time::Duration;

use super::keys::{At, Keys, leading_number};
use super::lines::Line;
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};

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
    checkport: Option<u16>,
    interval: Duration,
    /// Of a connection, and of a whole exchange.
    timeouts: [Duration; 2],
    fall: u32,
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
    pub(super) fn read(head: &'a Line, keys: &'a Keys<'a>, at: &At, block: &mut Block) -> Terms<'a> {
        let mut seconds = |key: &str| -> Option<Duration> {
            let line = keys.line(key)?;
            let number = leading_number(&line.value).filter(|number| *number > 0);
            if number.is_none() {
                block.lose(line.remark("expected a number of seconds"));
            }
            number.map(|number| Duration::from_secs(number.into()))
        };
        let (connect, negotiate) = (seconds("checktimeout"), seconds("negotiatetimeout"));
        let own = |key: &str| keys.own(key).and_then(|line| leading_number(&line.value));
        let own = |key: &str| own(key).map(|number| Duration::from_secs(number.into()));
        let (own_connect, own_negotiate) = (own("checktimeout"), own("negotiatetimeout"));
        let timeouts = [
            own_connect.or(own_negotiate).or(connect).or(negotiate).unwrap_or(Duration::from_secs(5)),
            own_negotiate.or(own_connect).or(negotiate).or(connect).unwrap_or(Duration::from_secs(30)),
        ];
        let interval = seconds("checkinterval").unwrap_or(Duration::from_secs(10));
        let fall = keys.value("failurecount").and_then(leading_number).filter(|fall| *fall > 0).unwrap_or(1);
        let checkport =
            keys.own("checkport").and_then(|line| line.value.parse().ok()).filter(|port| *port != 0);
        let by_port = SERVICES.iter().find(|(port, _)| *port == at.port).map_or("none", |(_, name)| name);
        let service = keys.own("service").map_or(by_port, Line::unquoted).to_owned();
        Terms {
            keys,
            head,
            vip: at.name.clone(),
            service_port: at.port,
            is_udp: at.protocol == "udp",
            kind: keys.own("checktype").map_or("negotiate", Line::unquoted).to_owned(),
            service,
            checkport,
            interval,
            timeouts,
            fall,
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
        block: &mut Block,
    ) -> Result<Vec<Check>, &'static str> {
        let target = self.checkport.unwrap_or(if port == 0 { self.service_port } else { port });
        let mut checks = match self.kind.as_str() {
            "on" | "off" => Vec::new(),
            "connect" if self.is_udp => vec![self.check("icmp", 0)],
            "connect" => vec![self.check("tcp", 0)],
            "ping" => vec![self.check("icmp", 0)],
            "external" => vec![self.external(rip, target)],
            "external-perl" => {
                self.lose("checktype", "use checktype = external, or a check of type \"exec\"", block);
                Vec::new()
            }
            "negotiate" => self.negotiate(texts, block).into_iter().collect(),
            number => match number.parse::<u32>() {
                // N connects, then one negotiate.
                Ok(count) if count > 0 => {
                    let mut whole: Vec<Check> = self.negotiate(texts, block).into_iter().collect();
                    whole.iter_mut().for_each(|check| check.interval *= count.saturating_add(1).min(1_000));
                    std::iter::once(self.check("tcp", 0)).chain(whole).collect()
                }
                _ => {
                    self.lose("checktype", "unknown; ldirectord refuses the file", block);
                    Vec::new()
                }
            },
        };
        for check in &mut checks {
            let has_port = !matches!(check.kind, "icmp" | "exec");
            check.port = Some(target).filter(|port| has_port && *port != self.service_port);
        }
        self.report_unused(block);
        self.is_reported = true;
        if target == 0 && checks.iter().any(|check| !matches!(check.kind, "icmp" | "exec")) {
            return Err("neither the virtual service nor the real server has a port to check");
        }
        Ok(checks)
    }

    fn check(&self, kind: &'static str, timeout: usize) -> Check {
        Check {
            kind,
            options: Vec::new(),
            via: Some("direct"),
            address: None,
            port: None,
            interval: self.interval,
            fast_interval: None,
            timeout: self.timeouts[timeout],
            fall: self.fall,
            starts_down: true,
        }
    }

    /// A remark about a line of the block, once for each virtual service. A service may follow from the port.
    fn lose(&self, key: &str, reason: &str, block: &mut Block) {
        let line = self.keys.line(key).or_else(|| Some(self.head).filter(|_| key == "service"));
        if let Some(line) = line.filter(|_| !self.is_reported) {
            block.lose(line.remark(reason));
        }
    }

    /// Reports what this kind of check does not use.
    fn report_unused(&self, block: &mut Block) {
        let is_negotiate = self.kind == "negotiate" || self.kind.parse::<u32>().is_ok();
        let is_http = is_negotiate && matches!(self.service.as_str(), "http" | "https");
        let has_texts = is_http || is_negotiate && matches!(self.service.as_str(), "dns" | "simpletcp");
        let unused = [
            ("request", has_texts),
            ("receive", has_texts),
            ("httpmethod", is_http),
            ("virtualhost", is_http),
            ("service", is_negotiate),
            ("checkcommand", self.kind == "external"),
        ];
        for (key, is_used) in unused {
            if !is_used && self.keys.own(key).is_some() {
                self.lose(key, "this check does not use it", block);
            }
        }
        for key in ["login", "passwd", "database", "secret"] {
            self.lose(key, "checks do not log in", block);
        }
        if self.keys.value("checkcount").is_some_and(|count| count != "1") {
            self.lose("checkcount", "a check sends one request; failurecount is what decides", block);
        }
    }

    fn external(&self, rip: IpAddr, port: u16) -> Check {
        let mut check = self.check("exec", 0);
        check.via = None;
        let program = self.keys.own("checkcommand").map_or("/bin/true", Line::unquoted);
        let mut command: Vec<String> = program.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            command.push("/bin/true".to_owned());
        }
        let numbers = [self.vip.clone(), self.service_port.to_string(), rip.to_string(), port.to_string()];
        command.extend(numbers);
        check.options.push(("command", Value::texts(&command)));
        check
    }

    fn negotiate(&self, texts: &[String], block: &mut Block) -> Option<Check> {
        let own = |index: usize, key: &str| {
            texts
                .get(index)
                .map(String::as_str)
                .or_else(|| self.keys.own(key).map(Line::unquoted))
                .unwrap_or_default()
        };
        let (request, receive) = (own(0, "request"), own(1, "receive"));
        match self.service.as_str() {
            "http" | "https" => self.web(request, receive, block),
            "dns" => self.dns(request, receive, block),
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
            "simpletcp" => Some(self.simple(request, receive)),
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
                self.lose("service", "unknown; ldirectord refuses the file", block);
                None
            }
        }
    }

    fn over_tls(&self, kind: &'static str) -> Check {
        let mut check = self.check(kind, 1);
        check.options = vec![("tls", Value::Flag(true)), ("verify", Value::Flag(false))];
        check
    }

    /// Sends the request without its first character.
    fn simple(&self, request: &str, receive: &str) -> Check {
        let mut chars = request.chars();
        chars.next();
        let send = chars.as_str().replace("\\n", "\n");
        let mut step = Vec::new();
        if !send.is_empty() {
            step.push(("send", Value::text(bytes(&send))));
        }
        // Each line is matched alone.
        let receive =
            if receive.contains(['^', '$']) { format!("(?m){receive}") } else { receive.to_owned() };
        step.push(("expect", Value::text(if receive.is_empty() { ".".to_owned() } else { receive })));
        let mut check = self.check("exchange", 1);
        check.options.push(("steps", Value::List(vec![Value::Table(step)])));
        check
    }

    fn web(&self, request: &str, receive: &str, block: &mut Block) -> Option<Check> {
        let is_tls = self.service == "https";
        let mut check = self.check(if is_tls { "https" } else { "http" }, 1);
        if request.starts_with(&format!("{}:", self.service)) {
            self.lose("request", "a request to another host; use a check of type \"exec\"", block);
            return None;
        }
        let slash = if request.starts_with('/') { "" } else { "/" };
        let method = self.keys.own("httpmethod").map(|line| line.unquoted().to_uppercase());
        let host = self.keys.own("virtualhost").map(Line::unquoted);
        let options = &mut check.options;
        options.push(("path", Value::text(format!("{slash}{request}"))));
        options.extend(method.map(|method| ("method", Value::text(method))));
        options.extend(host.map(|host| ("host", Value::text(host))));
        // LWP::UserAgent, max_redirect.
        options.push(("redirects", Value::Number(7)));
        options.push(("status", Value::text("200-299")));
        options.extend(Some(("body_regex", Value::text(receive))).filter(|_| !receive.is_empty()));
        if is_tls {
            options.push(("verify", Value::Flag(false)));
        }
        if let Some(line) =
            self.keys.own("service").or_else(|| self.keys.own("request")).filter(|_| !self.is_reported)
        {
            block.note(
                line.remark(
                    "a redirect to another host or scheme is not followed; name the page that answers",
                ),
            );
        }
        Some(check)
    }

    fn dns(&self, request: &str, receive: &str, block: &mut Block) -> Option<Check> {
        let mut check = self.check("dns", 1);
        let (record, name) = match request.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                ("PTR", format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
            }
            _ => ("A", request.to_owned()),
        };
        let plain = receive.replace("\\.", ".");
        let is_plain = plain.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        if receive.is_empty() {
            self.lose("service", "without receive, ldirectord regards the real server as down", block);
        } else if !is_plain {
            self.lose("receive", "an answer is compared as a whole, not by a regular expression", block);
        }
        check.options = vec![("record", Value::text(record)), ("name", Value::text(name))];
        if is_plain && !receive.is_empty() {
            check.options.push(("expect", Value::text(plain)));
        }
        if !self.is_udp {
            check.options.push(("transport", Value::text("tcp")));
        }
        Some(check)
    }
}

/// Text as the option `send` has it: with escapes.
fn bytes(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    escaped.strip_prefix("hex:").map(|rest| format!("\\x68ex:{rest}")).unwrap_or(escaped)
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
