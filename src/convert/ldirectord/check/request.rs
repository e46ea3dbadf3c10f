//! The checks that ask for something: `http`, `https`, `dns` and `simpletcp`.

use std::net::{IpAddr, Ipv4Addr};

use super::Terms;
use crate::control::ipvsadm::options::Transport;
use crate::control::ipvsadm::values;
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};
use crate::convert::{pattern, uri};

impl Terms<'_> {
    /// Sends the request without its first character, which is a slash that ldirectord adds.
    pub(super) fn simple(&self, request: &str, receive: &str, block: &mut Block) -> Check {
        let send = request.strip_prefix('/').unwrap_or(request).replace("\\n", "\n");
        let mut step = Vec::new();
        if !send.is_empty() {
            step.push(("send", Value::text(bytes(&send))));
        }
        let any = r"[\s\S]".to_owned();
        let expect = if receive.is_empty() { any } else { self.pattern(receive, "m", block).unwrap_or(any) };
        step.push(("expect", Value::text(expect)));
        let mut check = self.check("exchange", 1);
        check.options.push(("steps", Value::List(vec![Value::Table(step)])));
        check
    }

    /// What `receive` matches. It is matched against each line (`m`), or the whole body.
    fn pattern(&self, receive: &str, options: &str, block: &mut Block) -> Option<String> {
        pattern::translated(receive, options)
            .map_err(|reason| {
                let stand_in = "the check below makes the same request and accepts any answer";
                self.lose("receive", &format!("receive: {reason}; {stand_in}"), block);
            })
            .ok()
    }

    pub(super) fn web(
        &self,
        rip: IpAddr,
        request: &str,
        receive: &str,
        is_own: bool,
        block: &mut Block,
    ) -> Check {
        let is_tls = self.service == "https";
        let mut check = self.check(if is_tls { "https" } else { "http" }, 1);
        let slash = if request.starts_with('/') { "" } else { "/" };
        let mut path = format!("{slash}{request}");
        let mut wrong = None;
        // Only the request of a real server may name another host; one of the virtual service is a path in any case.
        let scheme = format!("{}://", self.service);
        match path.strip_prefix('/').and_then(|rest| rest.strip_prefix(&scheme)) {
            Some(rest) if is_own => {
                let (host, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let default = if is_tls { 443 } else { 80 };
                match self.elsewhere(host, default) {
                    Some((address, port)) => {
                        check.address = Some(address).filter(|address| *address != rip);
                        check.port = Some(port);
                    }
                    None => wrong = Some(format!("{host} cannot be looked up")),
                }
                path = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
            }
            Some(_) => {
                let reason = format!("ldirectord requests the path {path} from the real server, as here");
                self.keys.own("request").into_iter().for_each(|line| block.note(line.remark(reason.clone())));
            }
            None => {}
        }
        let method = self.keys.own_value("httpmethod").map(str::to_uppercase);
        let host = self.keys.own_value("virtualhost");
        let options = &mut check.options;
        options.push(("path", Value::text(uri::of_perl(&path))));
        options.extend(method.map(|method| ("method", Value::text(method))));
        options.extend(host.map(|host| ("host", Value::text(host))));
        // LWP::UserAgent, max_redirect.
        options.push(("redirects", Value::Number(7)));
        options.push(("status", Value::text("200-299")));
        if !receive.is_empty() {
            let regex = self.pattern(receive, "", block);
            check.options.extend(regex.map(|regex| ("body_regex", Value::text(regex))));
        }
        if is_tls {
            check.options.push(("verify", Value::Flag(false)));
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
        if let Some(reason) = wrong {
            check.stand_in(&format!("request: {reason}"), block);
        }
        check
    }

    /// The host and the port of a URL.
    fn elsewhere(&self, host: &str, default: u16) -> Option<(IpAddr, u16)> {
        let place = values::place(host, Some(Transport::Tcp), self.names)?;
        Some((place.address, if place.port == 0 { default } else { place.port }))
    }

    pub(super) fn dns(&self, request: &str, receive: &str, block: &mut Block) -> Option<Check> {
        let mut check = self.check("dns", 1);
        let request = request.strip_prefix('/').unwrap_or(request);
        let (record, name) = match request.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                ("PTR", format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
            }
            _ => ("A", request.to_owned()),
        };
        // The address of an A record has one form, a name may be matched in part.
        let plain = receive.replace("\\.", ".");
        let whole = plain.trim_start_matches('^').trim_end_matches('$').parse::<Ipv4Addr>().ok();
        let whole = whole.filter(|_| record == "A").map(|address| address.to_string());
        if receive.is_empty() {
            self.lose("service", "without receive, ldirectord regards the real server as down", block);
        } else if whole.is_none() {
            let reason = "an answer is compared as a whole, not by a regular expression: add expect = [\"…\"]; the check below accepts any answer";
            self.lose("receive", reason, block);
        }
        check.options = vec![("record", Value::text(record)), ("name", Value::text(name))];
        check.options.extend(whole.map(|address| ("expect", Value::text(address))));
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
