//! The state of a director for people: one line for the whole, one for each virtual service, one for each of
//! its real servers.

use std::fmt::Write;
use std::time::Duration;

use super::troubles;
use crate::control::model::{
    AfterDrain, Draining, Persistence, RealServer, Status, Trouble, VirtualService, VirtualServices,
};
use crate::trouble::TroubleKind;

/// ECMA-48 SGR.
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";

/// Renders the state; `has_colours` is set for a terminal.
pub(super) fn render(status: &Status, services: &VirtualServices, has_colours: bool) -> String {
    let screen = Screen { has_colours };
    let mut text = screen.head(status);
    if services.virtual_services.is_empty() {
        text.push_str("\nno virtual services; add one with `lvs-tund ipvsadm -A -t VIP:PORT -s rr`\n");
        return text;
    }
    let rows = services.virtual_services.iter().flat_map(|service| screen.rows(service)).collect::<Vec<_>>();
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let heading = format!(
        "{:<width$} {:>6} {:>9} {:>9} {:>8} {:>9} {:>9}  {}",
        "", "weight", "active", "inactive", "new/s", "packets/s", "bits/s", "state"
    );
    _ = writeln!(text, "\n{}", screen.paint(DIM, &heading));
    for row in rows {
        _ = writeln!(text, "{}", screen.row(&row, width));
        for note in &row.notes {
            _ = writeln!(text, "{}", screen.paint(YELLOW, &format!("    {note}")));
        }
    }
    text
}

struct Screen {
    has_colours: bool,
}

struct ScreenRow {
    name: String,
    /// Empty for a virtual service, which has no weight.
    weight: String,
    active: u64,
    inactive: u64,
    rates: [u64; 3],
    state: String,
    colour: Option<&'static str>,
    /// What is known against a real server, in lines of their own.
    notes: Vec<String>,
}

impl Screen {
    fn head(&self, status: &Status) -> String {
        let Status { version, interfaces, tun, generation, connections, connections_max, templates, .. } =
            status;
        let up = humantime::format_duration(Duration::from_secs(status.uptime));
        let title = self.paint(BOLD, &format!("lvs-tund {version}"));
        let rates = &status.rates;
        let interfaces = interfaces.join(" and ");
        let mut text = format!("{title}, up {up}, on {interfaces} by {tun}, generation {generation}\n");
        _ = write!(
            text,
            "{connections} of {connections_max} connections, {} new/s, {} packets/s, {} bits/s",
            scaled(rates.connections),
            scaled(rates.packets),
            scaled(rates.bytes.saturating_mul(8))
        );
        if *templates > 0 {
            _ = write!(text, ", {templates} persistent clients");
        }
        if status.draining > 0 {
            _ = write!(text, ", {} draining", status.draining);
        }
        text.push('\n');
        for trouble in status.troubles.iter().filter(|trouble| !is_with_its_server(trouble)) {
            let colour = if trouble.stops_packets { RED } else { YELLOW };
            _ = writeln!(text, "{}", self.paint(colour, &troubles::line(trouble)));
        }
        let counts = [troubles::dropped(&status.dropped), troubles::losses(&status.losses)];
        for line in counts.into_iter().flatten() {
            _ = writeln!(text, "{line}");
        }
        text
    }

    fn rows(&self, service: &VirtualService) -> Vec<ScreenRow> {
        let sum =
            |count: fn(&RealServer) -> u32| service.real_servers.iter().map(|s| u64::from(count(s))).sum();
        let is_served = service.real_servers.iter().any(|server| server.weight_now > 0 && !server.overloaded);
        let rates = &service.rates;
        let mut rows = vec![ScreenRow {
            name: service_name(service),
            weight: String::new(),
            active: sum(|server| server.active_connections),
            inactive: sum(|server| server.inactive_connections),
            rates: [rates.connections, rates.packets, rates.bytes],
            state: terms(service, is_served),
            colour: Some(if is_served { BOLD } else { RED }),
            notes: Vec::new(),
        }];
        rows.extend(service.real_servers.iter().map(server_row));
        rows
    }

    fn row(&self, row: &ScreenRow, width: usize) -> String {
        let [new, packets, bytes] = row.rates;
        let line = format!(
            "{:<width$} {:>6} {:>9} {:>9} {:>8} {:>9} {:>9}  {}",
            row.name,
            row.weight,
            row.active,
            row.inactive,
            scaled(new),
            scaled(packets),
            scaled(bytes.saturating_mul(8)),
            row.state
        );
        let line = line.trim_end();
        row.colour.map_or_else(|| line.to_owned(), |colour| self.paint(colour, line))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// "web: tcp 172.25.3.100:80, tcp 172.25.3.100:443", without a default name, which only repeats the address.
fn service_name(service: &VirtualService) -> String {
    let matchers = service.matchers.iter().map(|matcher| {
        let matcher = crate::director::cluster::Matcher::from(*matcher);
        format!("{} {}:{}", matcher.protocol.name(), matcher.vip, matcher.ports)
    });
    let matchers: Vec<String> = matchers.collect();
    let is_default = matchers.len() == 1 && matchers[0].replace([' ', ':'], "-") == service.name;
    if is_default { matchers.join(", ") } else { format!("{}: {}", service.name, matchers.join(", ")) }
}

fn terms(service: &VirtualService, is_served: bool) -> String {
    let mut terms = vec![service.scheduler.clone()];
    if !service.scheduler_flags.is_empty() {
        terms.push(service.scheduler_flags.join(", "));
    }
    if let Some(Persistence { timeout, prefix, .. }) = &service.persistence {
        let by = if *prefix < 32 { format!(" by /{prefix}") } else { String::new() };
        terms.push(format!("persistent {}{by}", humantime::format_duration(timeout.0)));
    }
    if service.one_packet {
        terms.push("one-packet scheduling".to_owned());
    }
    if !is_served {
        terms.push("no real server accepts new connections".to_owned());
    }
    terms.join(", ")
}

fn server_row(server: &RealServer) -> ScreenRow {
    let rip = server.rip.to_string();
    let name = if server.name == rip { rip } else { format!("{} {rip}", server.name) };
    let limit = server.upper_threshold;
    let (state, colour) = match (&server.drain, server.weight) {
        (Some(drain), weight) => (drain_text(drain, weight), Some(YELLOW)),
        (None, 0) => ("quiesced".to_owned(), Some(YELLOW)),
        (None, _) if server.overloaded => {
            (format!("overloaded: its limit is {limit} connections"), Some(YELLOW))
        }
        (None, _) if server.local && server.weight_now == 0 => {
            ("this host, which does not have the VIP".to_owned(), Some(RED))
        }
        (None, _) if server.local => ("this host".to_owned(), None),
        (None, _) => (String::new(), None),
    };
    let rates = &server.rates;
    ScreenRow {
        name: format!("  {name}"),
        weight: server.weight_now.to_string(),
        active: server.active_connections.into(),
        inactive: server.inactive_connections.into(),
        rates: [rates.connections, rates.packets, rates.bytes],
        state,
        colour: if server.troubles.is_empty() { colour } else { Some(YELLOW) },
        notes: server
            .troubles
            .iter()
            .map(troubles::line)
            .chain(troubles::transmit_errors(&server.transmit_errors))
            .collect(),
    }
}

/// Whether it is shown below the row of a real server.
fn is_with_its_server(trouble: &Trouble) -> bool {
    let kind = TroubleKind::ALL.iter().find(|kind| kind.label() == trouble.kind);
    kind.is_some_and(|kind| kind.is_about_real_server())
}

fn drain_text(drain: &Draining, weight: u32) -> String {
    let then = match drain.then {
        AfterDrain::Remove => "then removed",
        AfterDrain::Keep => "then kept",
    };
    match (drain.done, drain.then, drain.deadline_in) {
        (true, AfterDrain::Remove, _) => {
            format!("removed by a drain; `undrain` brings it back with weight {weight}")
        }
        (true, AfterDrain::Keep, _) => format!("quiesced by a drain; `undrain` gives it weight {weight}"),
        (false, _, Some(seconds)) => {
            let left = humantime::format_duration(Duration::from_secs(seconds));
            format!("draining, {left} left, {then}; configured weight {weight}")
        }
        (false, _, None) => format!("draining, {then}; configured weight {weight}"),
    }
}

/// At most four digits and a letter: 950, 12.3k, 123k, 1.2M.
fn scaled(value: u64) -> String {
    const LETTERS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if value < 1_000 {
        return value.to_string();
    }
    let mut tenths = value / 100;
    let mut letters = LETTERS.into_iter();
    let mut letter = letters.next().unwrap_or_default();
    while tenths >= 10_000 {
        tenths /= 1_000;
        letter = letters.next().unwrap_or(letter);
    }
    if tenths >= 1_000 {
        format!("{}{letter}", tenths / 10)
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_four_places() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (12_345, "12.3k"),
            (123_456, "123k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (u64::MAX, "18.4E"),
        ];
        for (value, expected) in cases {
            assert_eq!(scaled(value), expected, "{value}");
        }
    }

    fn model<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    fn server(rip: &str, more: serde_json::Value) -> serde_json::Value {
        let mut server = serde_json::json!({
            "name": rip, "rip": rip, "weight": 1, "weight_now": 1, "upper_threshold": 0, "lower_threshold": 0, "path_mtu": null,
            "path_mtu_now": 1500, "local": false, "encapsulation": "ipip", "active_connections": 12, "inactive_connections": 3,
            "persistent_connections": 0, "overloaded": false, "drain": null, "troubles": [], "transmit_errors": [],
            "statistics": {"connections": 5, "packets": 50, "bytes": 5000},
            "rates": {"connections": 2, "packets": 1500, "bytes": 1_000_000}
        });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server
    }

    fn services() -> VirtualServices {
        let nothing = serde_json::json!({"connections": 0, "packets": 0, "bytes": 0});
        let service = |name: &str, port: u16, servers: Vec<serde_json::Value>| {
            serde_json::json!({
                "name": name, "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": port}], "scheduler": "sh",
                "scheduler_flags": ["sh-port"], "persistence": {"timeout": 600, "prefix": 24}, "one_packet": false,
                "unknown_tcp": "schedule", "on_removed": "reschedule",
                "timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300}, "statistics": nothing, "rates": nothing,
                "real_servers": servers
            })
        };
        let drain = |then: &str, done: bool| {
            let drain = serde_json::json!({"deadline_in": 250, "then": then, "done": done});
            serde_json::json!({"weight": 5, "weight_now": 0, "drain": drain})
        };
        let overloaded = serde_json::json!({"name": "server4", "overloaded": true, "upper_threshold": 15});
        let servers = vec![
            server("172.25.3.2", serde_json::json!({})),
            server("172.25.3.3", drain("keep", false)),
            server("172.25.3.5", drain("keep", true)),
            server("172.25.3.6", drain("remove", true)),
            server("172.25.3.4", overloaded),
            server("172.25.3.1", serde_json::json!({"local": true})),
            server("127.0.0.1", serde_json::json!({"local": true, "weight_now": 0})),
        ];
        let idle = vec![server("172.25.3.2", serde_json::json!({"weight": 0, "weight_now": 0}))];
        model(serde_json::json!({
            "generation": 7,
            "virtual_services": [service("web", 80, servers), service("tcp-172.25.3.100-443", 443, idle)]
        }))
    }

    fn status() -> Status {
        model(serde_json::json!({
            "role": "director", "ready": true, "troubles": [], "dropped": [], "losses": [],
            "version": "0.1.0", "generation": 7, "uptime": 3_720, "interfaces": ["eth0"], "tun": "lvsd0",
            "config_file": null, "virtual_services": 2, "real_servers": 4, "draining": 1, "connections": 60,
            "connections_max": 1_048_576, "templates": 4, "timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300},
            "statistics": {"connections": 0, "packets": 0, "bytes": 0},
            "rates": {"connections": 6, "packets": 12_345, "bytes": 125_000}
        }))
    }

    #[test]
    fn what_is_wrong_stands_where_it_belongs() {
        let trouble = |kind: &str, message: &str, stops_packets: bool| {
            serde_json::json!({"kind": kind, "subject": "172.25.3.2", "message": message, "age": 12,
                               "stops_packets": stops_packets})
        };
        let suspect = trouble("protocol_unreachable", "it answers; start it", false);
        let mut status = status();
        status.troubles = model(serde_json::json!([
            trouble("device_down", "lvsd0 is down", true),
            suspect,
            trouble("setting_missing", "a setting is missing", false)
        ]));
        status.dropped = model(serde_json::json!([{"reason": "no_service", "packets": 3, "age": 5}]));
        let mut services = services();
        let server = &mut services.virtual_services[0].real_servers[0];
        server.troubles = vec![model(suspect)];
        server.transmit_errors = model(serde_json::json!([{"cause": "no_buffer", "packets": 2}]));
        let text = render(&status, &services, false);
        let head: Vec<&str> = text.lines().skip(2).take(4).collect();
        let expected = [
            "not ready: lvsd0 is down (for 12s)",
            "warning: a setting is missing (for 12s)",
            "dropped: 3 no_service (5s ago)",
            "",
        ];
        assert_eq!(head, expected);
        let below: Vec<&str> = text.lines().skip(8).take(3).collect();
        assert!(below[0].starts_with("  172.25.3.2  "), "{text}");
        assert_eq!(below[1], "    warning: it answers; start it (for 12s)");
        assert_eq!(below[2], "    2 packets not sent so far (no_buffer)");
        assert!(render(&status, &services, true).contains("\x1b[31mnot ready: lvsd0 is down"));
    }

    #[test]
    fn the_screen() {
        let expected = "\
lvs-tund 0.1.0, up 1h 2m, on eth0 by lvsd0, generation 7
60 of 1048576 connections, 6 new/s, 12.3k packets/s, 1.0M bits/s, 4 persistent clients, 1 draining

                         weight    active  inactive    new/s packets/s    bits/s  state
web: tcp 172.25.3.100:80               84        21        0         0         0  sh, sh-port, persistent 10m by /24
  172.25.3.2                  1        12         3        2      1.5k      8.0M
  172.25.3.3                  0        12         3        2      1.5k      8.0M  draining, 4m 10s left, then kept; configured weight 5
  172.25.3.5                  0        12         3        2      1.5k      8.0M  quiesced by a drain; `undrain` gives it weight 5
  172.25.3.6                  0        12         3        2      1.5k      8.0M  removed by a drain; `undrain` brings it back with weight 5
  server4 172.25.3.4          1        12         3        2      1.5k      8.0M  overloaded: its limit is 15 connections
  172.25.3.1                  1        12         3        2      1.5k      8.0M  this host
  127.0.0.1                   0        12         3        2      1.5k      8.0M  this host, which does not have the VIP
tcp 172.25.3.100:443                   12         3        0         0         0  sh, sh-port, persistent 10m by /24, no real server accepts new connections
  172.25.3.2                  0        12         3        2      1.5k      8.0M  quiesced
";
        assert_eq!(render(&status(), &services(), false), expected);
        let coloured = render(&status(), &services(), true);
        assert!(coloured.contains("\x1b[31mtcp 172.25.3.100:443"), "{coloured}");
        let empty = VirtualServices { generation: 1, virtual_services: Vec::new() };
        assert!(render(&status(), &empty, false).ends_with("`lvs-tund ipvsadm -A -t VIP:PORT -s rr`\n"));
    }
}
