//! Writes a draft as `director.toml`.

use std::net::IpAddr;
use std::time::Duration;

use super::draft::{Block, Draft, Entry, Hook, Item, Receives, Server, Service, Value};
use crate::config::kinds::is_misleading;
use crate::config::types::default_service_name;
use crate::director::cluster::{Matcher, Ports};

/// Which entry a line of the text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An entry at the top.
    Top(usize),
    /// An entry of a virtual service, both by their index.
    Service(usize, usize),
    /// A virtual service as a whole.
    WholeService(usize),
    /// An entry of a real server: virtual service, real server, entry.
    Server(usize, usize, usize),
    /// A real server as a whole.
    WholeServer(usize, usize),
}

/// The text, and where each of its lines comes from.
#[derive(Debug, Default)]
pub struct Written {
    /// The file.
    pub text: String,
    /// One for each line.
    pub sources: Vec<Option<Source>>,
}

impl Written {
    fn push(&mut self, line: &str, is_comment: bool, source: Option<Source>) {
        for part in line.split('\n') {
            if is_comment {
                self.text.push_str(if part.is_empty() { "#" } else { "# " });
            }
            self.text.push_str(part);
            self.text.push('\n');
            self.sources.push(source);
        }
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.push("", false, None);
        }
    }

    fn block(&mut self, block: &Block, is_comment: bool, source: impl Fn(usize) -> Source) {
        for (index, entry) in block.entries.iter().enumerate() {
            let source = Some(source(index));
            match entry {
                Entry::Key(name, value, _) => self.push(&key_line(name, value), is_comment, source),
                Entry::Loss(remark) => self.push(&format!("not converted: {remark}"), true, source),
                Entry::Note(remark) => self.push(&format!("note: {remark}"), true, source),
                Entry::Comment(text) => self.push(text, true, source),
            }
        }
    }
}

/// The text of the file.
pub fn draft(draft: &Draft, heading: &[String]) -> Written {
    let mut written = Written::default();
    for line in heading {
        written.push(line, true, None);
    }
    written.blank();
    written.block(&draft.top, false, Source::Top);
    let hooks: Vec<Value> = draft.services().filter(|service| !service.is_disabled).flat_map(hooks).collect();
    if !hooks.is_empty() {
        written.push(&key_line("on_change", &Value::List(hooks)), false, None);
    }
    let mut index = 0;
    for item in &draft.items {
        match item {
            Item::Remarks(block) => {
                written.blank();
                written.block(block, false, Source::Top);
            }
            Item::Service(service) => {
                write_service(&mut written, service, index);
                index += 1;
            }
        }
    }
    written
}

fn write_service(written: &mut Written, service: &Service, index: usize) {
    let is_comment = service.is_disabled;
    let whole = Some(Source::WholeService(index));
    written.blank();
    written.push("[[virtual_service]]", is_comment, whole);
    let keys = match &service.receives {
        Receives::Packets(matcher) => matcher_keys(matcher),
        Receives::Other(keys) => keys.clone(),
    };
    for (name, value) in &keys {
        written.push(&key_line(name, value), is_comment, whole);
    }
    written.block(&service.block, is_comment, |entry| Source::Service(index, entry));
    let shared = shared_checks(service);
    if let Some(server) = shared {
        written.push(&key_line("check", &checks(server)), is_comment, whole);
    }
    if is_comment {
        let hooks = hooks(service);
        if !hooks.is_empty() {
            written.push(&key_line("on_change", &Value::List(hooks)), true, whole);
        }
    }
    for (number, server) in service.servers.iter().enumerate() {
        let is_comment = is_comment || server.is_disabled;
        let whole = Some(Source::WholeServer(index, number));
        written.blank();
        written.push("[[virtual_service.real_server]]", is_comment, whole);
        written.push(&key_line("rip", &Value::text(server.rip.to_string())), is_comment, whole);
        written.block(&server.block, is_comment, |entry| Source::Server(index, number, entry));
        let is_shared = shared.map_or(server.checks.is_empty(), |shared| shared.checks == server.checks);
        match server.checks.is_empty() {
            _ if is_shared => {}
            true => written.push("check = \"none\"", is_comment, whole),
            false => written.push(&key_line("check", &checks(server)), is_comment, whole),
        }
    }
    written.block(&service.end, is_comment, |_| Source::WholeService(index));
}

/// The real server whose checks are those of all, apart from sorry servers, which have none.
fn shared_checks(service: &Service) -> Option<&Server> {
    let is_counted = |server: &&Server| !server.is_sorry && (service.is_disabled || !server.is_disabled);
    let mut counted = service.servers.iter().filter(is_counted);
    let first = counted.next().filter(|server| !server.checks.is_empty())?;
    let others: Vec<&Server> = counted.collect();
    (!others.is_empty() && others.iter().all(|server| server.checks == first.checks)).then_some(first)
}

fn checks(server: &Server) -> Value {
    match server.checks.as_slice() {
        [one] => one.value(),
        all => Value::List(all.iter().map(super::check::Check::value).collect()),
    }
}

fn matcher_keys(matcher: &Matcher) -> Vec<(&'static str, Value)> {
    let Matcher { protocol, vip, ports } = matcher;
    let port = match *ports {
        Ports { first, last } if first == last => Value::Number(first.into()),
        Ports::ALL => Value::text("all"),
        Ports { first, last } => Value::text(format!("{first}-{last}")),
    };
    vec![("protocol", Value::text(protocol.name())), ("vip", Value::text(vip.to_string())), ("port", port)]
}

/// The name of a virtual service, written or not.
pub fn service_name(service: &Service) -> String {
    match (service.block.value("name"), &service.receives) {
        (Some(Value::Text(name)), _) => name.clone(),
        (_, Receives::Packets(matcher)) => default_service_name(matcher),
        (_, Receives::Other(_)) => String::new(),
    }
}

/// The commands of a service. One that all of its real servers have is one entry.
pub fn hooks(service: &Service) -> Vec<Value> {
    let name = service_name(service);
    let is_served = |server: &&Server| !server.is_sorry && (service.is_disabled || !server.is_disabled);
    let servers: Vec<&Server> = service.servers.iter().filter(is_served).collect();
    let is_shared =
        |hook: &Hook| servers.len() > 1 && servers.iter().all(|server| server.hooks.contains(hook));
    let mut all: Vec<(&Hook, Option<IpAddr>)> = service.hooks.iter().map(|hook| (hook, None)).collect();
    for (index, server) in servers.iter().enumerate() {
        for hook in &server.hooks {
            match is_shared(hook) {
                true if index == 0 => all.push((hook, None)),
                true => {}
                false => all.push((hook, Some(server.rip))),
            }
        }
    }
    let table = move |(hook, rip): (&Hook, Option<IpAddr>)| {
        let Hook { when, command, user, at_stop, .. } = hook;
        let mut table = vec![("when", Value::text(*when)), ("command", Value::texts(command))];
        table.extend(user.as_ref().map(|user| ("user", Value::text(user))));
        table.extend(at_stop.then_some(("at_stop", Value::Flag(true))));
        table.push(("virtual_service", Value::text(&name)));
        table.extend(rip.map(|rip| ("real_server", Value::text(rip.to_string()))));
        Value::Table(table)
    };
    all.into_iter().map(table).collect()
}

/// A key with its value: on one line, unless it is a list of tables.
fn key_line(name: &str, value: &Value) -> String {
    match value {
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Table(_))) => {
            let items: String = items.iter().map(|item| format!("    {},\n", text(item))).collect();
            format!("{name} = [\n{items}]")
        }
        _ => format!("{name} = {}", text(value)),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Duration(time) => quoted(&duration(*time)),
        Value::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Table(keys) => {
            let keys: Vec<String> =
                keys.iter().map(|(name, value)| format!("{name} = {}", text(value))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
    }
}

/// A duration in the largest unit that divides it, up to seconds.
pub fn duration(time: Duration) -> String {
    match (time.as_secs(), time.subsec_nanos()) {
        (seconds, 0) => format!("{seconds}s"),
        (_, nanoseconds) if nanoseconds % 1_000_000 == 0 => format!("{}ms", time.as_millis()),
        _ => format!("{}us", time.as_micros()),
    }
}

/// A basic string of TOML on one line, whatever it contains.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || is_misleading(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back_as_it_was() {
        for written in ["", "a", "a\"b\\c", "é\u{202e}\u{1}\r\n\t\u{7f}", "'", "#{}"] {
            let line = format!("key = {}", quoted(written));
            assert_eq!(line.lines().count(), 1);
            let read: toml::Table = line.parse().unwrap();
            assert_eq!(read["key"].as_str(), Some(written));
        }
    }

    #[test]
    fn durations_have_the_largest_unit_that_divides_them() {
        let cases = [(2_000_000, "2s"), (200_000, "200ms"), (1_500_000, "1500ms"), (1, "1us"), (0, "0s")];
        for (microseconds, expected) in cases {
            assert_eq!(duration(Duration::from_micros(microseconds)), expected);
        }
    }
}
