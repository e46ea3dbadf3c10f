//! The series of virtual services and real servers as Prometheus text, made one piece at a time: with 32,000 virtual services the
//! text is longer than the memory that a scrape may use.
//!
//! [`Series::take`] copies the numbers once, so that all pieces show the same moment, and a piece can be made as often
//! as it is needed.

mod health;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::counters::{DirectorCounters, PathCounters};
use super::ledger::Ledger;
use super::names::{self, Kind, find};
use super::totals::Totals;
use crate::director::cluster::{Cluster, VirtualService};
use crate::director::path_errors::{Kind as PathErrorKind, Outcome};
use crate::director::real_server::RealServer;
use crate::director::server_errors::ServerErrors;
use crate::health::durations::Durations;
use crate::health::{Load, View};
use crate::time::Moment;

/// A piece is finished with the row that reaches this length.
const PIECE: usize = 64 << 10;

/// The numbers of all virtual services and real servers at one moment.
#[derive(Default)]
pub struct Series {
    services: Vec<ServiceRow>,
    servers: Vec<ServerRow>,
    unassigned: Unassigned,
    /// `None` where nothing is checked.
    load: Option<Load>,
}

/// The errors that concern no real server, by cause, and by kind and outcome.
#[derive(Default)]
pub struct Unassigned {
    transmit: BTreeMap<&'static str, u64>,
    path: Vec<(PathErrorKind, Outcome, u64)>,
}

impl Unassigned {
    /// Reads all of them.
    pub fn take(workers: &[Arc<DirectorCounters>], paths: &PathCounters) -> Unassigned {
        let mut transmit = BTreeMap::new();
        let read = workers.iter().flat_map(|worker| worker.errors.read());
        for (cause, count) in read.chain(paths.errors.read()) {
            *transmit.entry(cause.label()).or_default() += count;
        }
        let outcomes = |kind: &PathErrorKind| {
            let kind = *kind;
            Outcome::ALL.iter().map(move |outcome| (kind, *outcome))
        };
        let path = PathErrorKind::ALL.iter().flat_map(outcomes);
        Unassigned {
            transmit,
            path: path.map(|(kind, outcome)| (kind, outcome, paths.read(kind, outcome))).collect(),
        }
    }
}

struct ServiceRow {
    service: Arc<VirtualService>,
    total: Totals,
    health: Option<health::OfService>,
}

struct ServerRow {
    /// Index in [`Series::services`].
    service: usize,
    server: Arc<RealServer>,
    total: Totals,
    weight: u32,
    path_mtu: u16,
    is_suspect: bool,
    is_overloaded: bool,
    templates: u32,
    active: u32,
    inactive: u32,
    health: Option<health::OfServer>,
}

/// Where a piece begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    family: usize,
    row: usize,
    /// The family's `# HELP` and `# TYPE` are in an earlier piece.
    has_head: bool,
}

/// One metric of every virtual service, or of every real server.
struct Family {
    name: &'static str,
    samples: Samples,
}

enum Samples {
    /// One sample for each virtual service.
    Service(fn(&ServiceRow) -> u64),
    /// Any number of them, with more labels.
    ServiceLines(fn(&mut Lines, &ServiceRow)),
    /// One sample for each real server.
    Server(fn(&ServerRow) -> u64),
    /// Any number of them, with more labels.
    ServerLines(fn(&mut Lines, &ServiceRow, &ServerRow)),
    /// The same, behind those of no real server.
    ErrorLines(fn(&mut Lines, &Unassigned), fn(&mut Lines, &ServiceRow, &ServerRow)),
    /// Any number of them, which belong to no virtual service.
    LoadLines(fn(&mut Lines, &Load)),
}

const fn family(name: &'static str, samples: Samples) -> Family {
    Family { name, samples }
}

const FAMILIES: &[Family] = &[
    family(names::TRANSMIT_ERRORS, Samples::ErrorLines(transmit_errors, server_transmit_errors)),
    family(names::PATH_ERRORS, Samples::ErrorLines(path_errors, server_path_errors)),
    family(names::SERVICE_INFO, Samples::ServiceLines(service_info)),
    family(names::SERVICE_FINGERPRINT, Samples::ServiceLines(fingerprint)),
    family(names::SERVICE_CONNECTIONS, Samples::Service(|service| service.total.connections)),
    family(names::SERVICE_PACKETS, Samples::Service(|service| service.total.packets)),
    family(names::SERVICE_BYTES, Samples::Service(|service| service.total.bytes)),
    family(names::SERVER_INFO, Samples::ServerLines(server_info)),
    family(names::SERVER_WEIGHT, Samples::Server(|server| server.weight.into())),
    family(names::SERVER_MTU, Samples::Server(|server| server.path_mtu.into())),
    family(names::SERVER_SUSPECT, Samples::Server(|server| server.is_suspect.into())),
    family(names::SERVER_CONNECTIONS, Samples::Server(|server| server.total.connections)),
    family(names::SERVER_TEMPLATES, Samples::Server(|server| server.templates.into())),
    family(names::SERVER_OVERLOADED, Samples::Server(|server| server.is_overloaded.into())),
    family(names::SERVER_CONNECTIONS_NOW, Samples::ServerLines(connections_now)),
    family(names::SERVER_PACKETS, Samples::Server(|server| server.total.packets)),
    family(names::SERVER_BYTES, Samples::Server(|server| server.total.bytes)),
];

fn service_info(lines: &mut Lines, row: &ServiceRow) {
    let config = &row.service.config;
    for matcher in &config.matchers {
        let (vip, port) = (matcher.vip.to_string(), matcher.ports.to_string());
        let labels = [
            ("protocol", matcher.protocol.name()),
            ("vip", &vip),
            ("port", &port),
            ("scheduler", config.scheduler.name),
        ];
        lines.add(&labels, row, None, 1);
    }
}

fn fingerprint(lines: &mut Lines, row: &ServiceRow) {
    if let Some(fingerprint) = row.service.scheduler.fingerprint() {
        // 48 bits, which the floating-point value of a sample represents exactly.
        lines.add(&[], row, None, fingerprint >> 16);
    }
}

fn server_info(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    let rip = server.server.rip;
    lines.add(&[("rip", &rip.to_string())], service, Some(server), 1);
}

fn connections_now(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    for (state, count) in [("active", server.active), ("inactive", server.inactive)] {
        lines.add(&[("state", state)], service, Some(server), count.into());
    }
}

fn transmit_errors(lines: &mut Lines, unassigned: &Unassigned) {
    for (cause, count) in &unassigned.transmit {
        lines.add_to_none(&[("cause", cause)], *count);
    }
}

fn server_transmit_errors(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    for (cause, count) in server.server.live.errors_so_far().into_iter().flat_map(ServerErrors::transmit) {
        lines.add(&[("cause", cause.label())], service, Some(server), count);
    }
}

fn path_errors(lines: &mut Lines, unassigned: &Unassigned) {
    for (kind, outcome, count) in &unassigned.path {
        lines.add_to_none(&[("kind", kind.label()), ("outcome", outcome.label())], *count);
    }
}

fn server_path_errors(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    for (kind, outcome, count) in server.server.live.errors_so_far().into_iter().flat_map(ServerErrors::path)
    {
        let labels = [("kind", kind.label()), ("outcome", outcome.label())];
        lines.add(&labels, service, Some(server), count);
    }
}

impl Series {
    /// Reads all numbers; `ledger` is locked for no longer than one virtual service takes.
    pub fn take(
        cluster: &Cluster,
        workers: &[Arc<DirectorCounters>],
        ledger: &Mutex<Ledger>,
        unassigned: Unassigned,
        now: Moment,
    ) -> Series {
        let mut series = Series { unassigned, ..Series::default() };
        for service in cluster.virtual_services() {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            for server in &service.real_servers {
                let total = ledger.server(server, workers).total;
                series.servers.push(ServerRow::of(series.services.len(), server, total, now));
            }
            let total = ledger.service(service, workers).total;
            series.services.push(ServiceRow { service: service.clone(), total, health: None });
        }
        series
    }

    /// The same with what the checks have found.
    pub fn with_health(mut self, view: &View, now: Moment) -> Series {
        self.load = Some(view.load.clone());
        for server in &mut self.servers {
            let name = &self.services[server.service].service.config.name;
            let seen = view.real_server(name, server.server.config.rip);
            server.health = seen.and_then(|seen| health::OfServer::of(seen, now));
        }
        for service in &mut self.services {
            service.health = view.service(&service.service.config.name).map(Into::into);
        }
        self
    }

    /// The text from `place` on, some ten thousand bytes of it, and where the next piece begins.
    pub fn piece(&self, mut place: Place) -> (String, Option<Place>) {
        let mut text = String::with_capacity(PIECE + PIECE / 4);
        while let Some(family) = FAMILIES.iter().chain(health::FAMILIES).nth(place.family) {
            let mut lines = Lines { text: &mut text, name: family.name, has_head: place.has_head };
            let rows = match family.samples {
                Samples::Service(_) | Samples::ServiceLines(_) => self.services.len(),
                Samples::Server(_) | Samples::ServerLines(_) => self.servers.len(),
                Samples::ErrorLines(..) => 1 + self.servers.len(),
                Samples::LoadLines(_) => 1,
            };
            while place.row < rows && lines.text.len() < PIECE {
                self.add_row(&mut lines, &family.samples, place.row);
                place.row += 1;
            }
            place.has_head = lines.has_head;
            if place.row < rows {
                return (text, Some(place));
            }
            if place.has_head {
                text.push('\n');
            }
            place = Place { family: place.family + 1, ..Place::default() };
        }
        (text, None)
    }

    fn add_row(&self, lines: &mut Lines, samples: &Samples, row: usize) {
        let of_server = |row: usize| {
            let server = &self.servers[row];
            (&self.services[server.service], server)
        };
        match samples {
            Samples::Service(value) => {
                let service = &self.services[row];
                lines.add(&[], service, None, value(service));
            }
            Samples::ServiceLines(add) => add(lines, &self.services[row]),
            Samples::Server(value) => {
                let (service, server) = of_server(row);
                lines.add(&[], service, Some(server), value(server));
            }
            Samples::ServerLines(add) => {
                let (service, server) = of_server(row);
                add(lines, service, server);
            }
            Samples::LoadLines(add) => self.load.iter().for_each(|load| add(lines, load)),
            Samples::ErrorLines(add, _) if row == 0 => add(lines, &self.unassigned),
            Samples::ErrorLines(_, add) => {
                let (service, server) = of_server(row - 1);
                add(lines, service, server);
            }
        }
    }
}

impl ServerRow {
    fn of(service: usize, server: &Arc<RealServer>, total: Totals, now: Moment) -> ServerRow {
        let live = &server.live;
        ServerRow {
            service,
            server: server.clone(),
            total,
            weight: server.weight(),
            path_mtu: server.path_mtu(now),
            is_suspect: server.soft.is_suspect(now),
            is_overloaded: live.is_overloaded.load(Ordering::Relaxed),
            templates: live.persistent(),
            active: live.active(),
            inactive: live.inactive(),
            health: None,
        }
    }
}

/// Adds the lines of one family.
struct Lines<'a> {
    text: &'a mut String,
    name: &'static str,
    has_head: bool,
}

impl Lines<'_> {
    /// The labels of a virtual service or, with `server`, of a real server, and more of them.
    fn add(&mut self, more: &[(&str, &str)], service: &ServiceRow, server: Option<&ServerRow>, value: u64) {
        self.begin("");
        self.label("virtual_service", &service.service.config.name);
        if let Some(server) = server {
            self.label("real_server", &server.server.config.name);
        }
        self.finish(more, value);
    }

    /// The series of a histogram.
    fn add_histogram(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        let mut add = |part: &str, bound: Option<&str>, value: &dyn std::fmt::Display| {
            self.begin(part);
            labels.iter().for_each(|(name, value)| self.label(name, value));
            self.finish(&bound.map(|bound| ("le", bound)).into_iter().collect::<Vec<_>>(), value);
        };
        for (bound, count) in durations.cumulative() {
            add("_bucket", Some(&bound.as_secs_f64().to_string()), &count);
        }
        add("_bucket", Some("+Inf"), &durations.count());
        add("_sum", None, &durations.sum().as_secs_f64());
        add("_count", None, &durations.count());
    }

    /// The labels of what belongs to no real server: Prometheus regards an empty label as absent.
    fn add_to_none(&mut self, more: &[(&str, &str)], value: u64) {
        self.begin("");
        self.label("virtual_service", "");
        self.label("real_server", "");
        self.finish(more, value);
    }

    /// `part` follows the name of the family.
    fn begin(&mut self, part: &str) {
        if !self.has_head {
            self.has_head = true;
            let kind = find(self.name).map_or("untyped", |entry| match entry.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            });
            let help = find(self.name).map_or("", |entry| entry.help);
            // Writing to a string does not fail.
            let _ = write!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}\n", self.name);
        }
        self.text.push_str(self.name);
        self.text.push_str(part);
        self.text.push('{');
    }

    fn finish(&mut self, more: &[(&str, &str)], value: impl std::fmt::Display) {
        for (name, value) in more {
            self.label(name, value);
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn label(&mut self, name: &str, value: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.push_str(name);
        self.text.push_str("=\"");
        // The text format escapes these three.
        if value.contains(['\\', '"', '\n']) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.text.push_str(&value);
        } else {
            self.text.push_str(value);
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests;
