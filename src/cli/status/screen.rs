//! The state of a director for people: one line for the whole, one for each virtual service, one for each of
//! its real servers.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::troubles;
use crate::control::model::{
    AfterDrain, Draining, Persistence, RealServer, ServerState, ServiceState, Status, Trouble,
    VirtualService, VirtualServices,
};
use crate::trouble::TroubleKind;

/// ECMA-48 SGR.
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";

/// Renders the state; `has_colours` is set for a terminal.
pub(super) fn render(
    status: &Status,
    services: &VirtualServices,
    has_colours: bool,
    now: SystemTime,
) -> String {
    let screen = Screen { has_colours, now };
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
    /// When the answer came.
    now: SystemTime,
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
        rows.extend(service.real_servers.iter().map(|server| self.server_row(server)));
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

    fn server_row(&self, server: &RealServer) -> ScreenRow {
        let rip = server.rip.to_string();
        let name = if server.name == rip { rip } else { format!("{} {rip}", server.name) };
        let limit = server.upper_threshold;
        let down = server.health.as_ref().filter(|health| health.state == "down");
        let (state, colour) = match (&server.drain, server.weight) {
            (Some(drain), weight) => (drain_text(drain, weight), Some(YELLOW)),
            _ if !server.enabled => ("disabled; `enable` gives it new connections".to_owned(), Some(YELLOW)),
            _ if down.is_some() => (String::new(), Some(RED)),
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
        let health = server.health.as_ref().and_then(|health| self.health_text(server, health));
        let state = [Some(state), health].into_iter().flatten().filter(|part| !part.is_empty());
        let state = state.collect::<Vec<_>>().join(", ");
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
                .filter(|trouble| trouble.kind != TroubleKind::RealServerDown.label())
                .map(troubles::line)
                .chain(troubles::transmit_errors(&server.transmit_errors))
                .collect(),
        }
    }

    /// "down: connection refused by 172.25.3.2 through the tunnel, 3 of 3, since 12:04:10"; of one that is up, what its
    /// checks have changed.
    fn health_text(&self, server: &RealServer, health: &ServerState) -> Option<String> {
        if health.state == "down" {
            let why = health.why.as_deref().unwrap_or("no probe has succeeded yet");
            return Some(format!("down: {why}, since {}", self.clock_time(health.age)));
        }
        let asked = health.weight_from_check.filter(|_| server.weight > 0);
        let asked = asked.map(|weight| format!("weight {weight} by its check, configured {}", server.weight));
        let slow =
            (health.share < 1000).then(|| format!("slow start: {} % of its weight", health.share / 10));
        let parts: Vec<String> = asked.into_iter().chain(slow).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The time of day so many seconds ago, in UTC as in the log; with the date if that was a day ago or more.
    fn clock_time(&self, age: u64) -> String {
        const DAY: u64 = 86_400;
        let then = self.now.checked_sub(Duration::from_secs(age)).unwrap_or(SystemTime::UNIX_EPOCH);
        let text = humantime::format_rfc3339_seconds(then).to_string();
        match text.split_once('T') {
            Some((_, time)) if age < DAY => time.to_owned(),
            _ => text,
        }
    }
}

/// What the checks mean for a virtual service that is not as it should be.
fn quorum(health: &ServiceState) -> Option<String> {
    let ServiceState { has_quorum, fails_open, uses_sorry, up, down } = health;
    let all = up + down;
    match (fails_open, uses_sorry, has_quorum) {
        (true, ..) => Some(format!("{up} of {all} up: too few, so that all count as up")),
        (_, true, _) => Some(format!("{up} of {all} up, quorum lost: sorry servers serve")),
        (_, _, false) => Some(format!("{up} of {all} up, quorum lost")),
        (_, _, true) if *down > 0 => Some(format!("{up} of {all} up")),
        _ => None,
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
    terms.extend(service.health.as_ref().and_then(quorum));
    if !is_served {
        terms.push("no real server accepts new connections".to_owned());
    }
    terms.join(", ")
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
mod tests;
