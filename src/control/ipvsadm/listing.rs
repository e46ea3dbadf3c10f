//! The printed lists, column by column, as ipvsadm.c prints them. Trailing blanks belong to the format.

use std::cmp::Ordering;
use std::fmt::Write;

use super::IpvsadmError;
use super::command::{ListKind, ListTerms};
use super::names::{Names, Numeric, place_text, port_text};
use super::numbers::{large, plain};
use super::order::{compare_addresses, merge_sort};
use super::served::{self, NO_SUCH_SERVICE};
use crate::control::model::{Matcher, Persistence, Port, RealServer, Timeouts, VirtualService};

/// The part of a row that a name can use.
const NAME_MAX: usize = 28;

/// A virtual service as one row: one with several addresses has a row for each.
struct ListRow<'a> {
    matcher: Matcher,
    service: &'a VirtualService,
}

/// The list of virtual services. `connections_max` takes the place of the size of the kernel's table.
///
/// # Errors
/// The requested service does not exist.
pub fn services(
    list: &[VirtualService],
    connections_max: usize,
    terms: &ListTerms,
    names: &dyn Names,
) -> Result<String, IpvsadmError> {
    let names = if terms.is_numeric { &Numeric } else { names };
    let layout = Layout { kind: terms.kind, is_exact: terms.is_exact, names };
    // The kernel inserts new entries at the head of its lists (list_add_rcu() in __ip_vs_update_dest()).
    let rows: Vec<ListRow> = list.iter().rev().flat_map(rows_of).collect();
    let mut text = String::new();
    let rows = match &terms.service {
        None => {
            _ = writeln!(text, "IP Virtual Server version 1.2.1 (size={connections_max})");
            if terms.is_unsorted { rows } else { sorted(rows) }
        }
        Some(address) => {
            let asked = served::matcher(address);
            let rows: Vec<ListRow> = rows.into_iter().filter(|row| Some(row.matcher) == asked).collect();
            if rows.is_empty() {
                return Err(IpvsadmError::list(NO_SUCH_SERVICE));
            }
            rows
        }
    };
    text.push_str(&layout.header());
    for row in rows {
        layout.service(&mut text, &row);
        let servers = match terms.is_unsorted {
            true => servers_of(row.service),
            false => sorted_servers(row.service),
        };
        servers.into_iter().for_each(|server| layout.server(&mut text, &row.matcher, server));
    }
    Ok(text)
}

/// `--timeout`.
pub fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {} {} {}\n", tcp.whole(), tcp_fin.whole(), udp.whole())
}

fn rows_of(service: &VirtualService) -> impl Iterator<Item = ListRow<'_>> {
    service.matchers.iter().map(move |matcher| ListRow { matcher: *matcher, service })
}

/// Virtual services in the order of a list, each once.
pub(super) fn sorted_services(list: &[VirtualService]) -> Vec<&VirtualService> {
    let rows = list.iter().rev().filter_map(|service| rows_of(service).next()).collect();
    sorted(rows).into_iter().map(|row| row.service).collect()
}

/// The real servers that are not removed, the newest first.
fn servers_of(service: &VirtualService) -> Vec<&RealServer> {
    service.real_servers.iter().rev().filter(|server| !server.is_removed()).collect()
}

pub(super) fn sorted_servers(service: &VirtualService) -> Vec<&RealServer> {
    merge_sort(&servers_of(service), &|a, b| compare_addresses(a.rip, b.rip))
}

fn sorted(rows: Vec<ListRow>) -> Vec<ListRow> {
    let compare = |a: &&ListRow, b: &&ListRow| -> Ordering {
        let (a, b) = (&a.matcher, &b.matcher);
        let family = |matcher: &Matcher| matcher.vip.is_ipv6();
        (family(a), a.protocol)
            .cmp(&(family(b), b.protocol))
            .then_with(|| compare_addresses(a.vip, b.vip))
            .then_with(|| (a.port.0.first, a.port.0.last).cmp(&(b.port.0.first, b.port.0.last)))
    };
    let order = merge_sort(&rows.iter().collect::<Vec<_>>(), &compare);
    order.into_iter().map(|row| ListRow { matcher: row.matcher, service: row.service }).collect()
}

struct Layout<'a> {
    kind: ListKind,
    is_exact: bool,
    names: &'a dyn Names,
}

impl Layout<'_> {
    fn header(&self) -> String {
        let of_rows = |kind: &str| format!("Prot LocalAddress:Port {kind}\n  -> RemoteAddress:Port");
        let place = "Prot LocalAddress:Port";
        let numbers = |words: [&str; 5]| {
            let [a, b, c, d, e] = words;
            format!("{place:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n  -> RemoteAddress:Port\n")
        };
        match self.kind {
            ListKind::Statistics => numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
            ListKind::Rates => numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
            ListKind::Thresholds => format!(
                "{place:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            ),
            ListKind::PersistentConnections => format!(
                "{place:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Weight", "PersistConn", "ActiveConn", "InActConn"
            ),
            ListKind::TunnelInfo => {
                of_rows("Scheduler Flags") + "           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            }
            _ => of_rows("Scheduler Flags") + "           Forward Weight ActiveConn InActConn\n",
        }
    }

    fn service(&self, text: &mut String, row: &ListRow) {
        let protocol = protocol_text(&row.matcher);
        let name = self.name(&row.matcher, row.matcher.vip);
        let (statistics, rates) = (&row.service.statistics, &row.service.rates);
        // Replies do not pass through a director in tunnel mode, so the columns for the other direction are
        // 0.
        let numbers = match self.kind {
            ListKind::Statistics => [statistics.connections, statistics.packets, 0, statistics.bytes, 0],
            ListKind::Rates => [rates.connections, rates.packets, 0, rates.bytes, 0],
            _ => {
                _ = writeln!(text, "{protocol:<4} {name} {}", terms_text(row.service));
                return;
            }
        };
        let numbers = numbers.map(|number| large(number, self.is_exact)).concat();
        _ = writeln!(text, "{:<33}{numbers}", format!("{protocol:<4} {name}"));
    }

    fn server(&self, text: &mut String, matcher: &Matcher, server: &RealServer) {
        let name = self.name(matcher, server.rip);
        let (weight, active, inactive) =
            (server.weight_now, server.active_connections, server.inactive_connections);
        let large = |number| large(number, self.is_exact);
        let columns = match self.kind {
            ListKind::Statistics => {
                let s = &server.statistics;
                [s.connections, s.packets, 0, s.bytes, 0].map(large).concat()
            }
            ListKind::Rates => {
                let r = &server.rates;
                [plain(r.connections), plain(r.packets), plain(0), large(r.bytes), large(0)].concat()
            }
            ListKind::Thresholds => {
                let (upper, lower) = (server.upper_threshold, server.lower_threshold);
                format!(" {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            ListKind::PersistentConnections => {
                let persistent = server.persistent_connections;
                format!(" {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
            }
            ListKind::TunnelInfo => {
                let tunnel = &server.encapsulation;
                format!(" {:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}", "Tunnel")
            }
            _ => format!(" {:<7} {weight:<6} {active:<10} {inactive:<10}", "Tunnel"),
        };
        _ = writeln!(text, "  -> {name:<28}{columns}");
    }

    /// An address in a row, truncated if a name is too long.
    fn name(&self, matcher: &Matcher, address: std::net::IpAddr) -> String {
        let transport = served::transport_of(matcher.protocol);
        let port = match matcher.port {
            Port::ALL => "0".to_owned(),
            Port(ports) if ports.is_one() => port_text(ports.first, transport, self.names),
            Port(ports) => ports.to_string(),
        };
        let name = place_text(address, &port, self.names);
        if address.is_ipv4() { name.chars().take(NAME_MAX).collect() } else { name }
    }
}

fn protocol_text(matcher: &Matcher) -> &'static str {
    match matcher.protocol {
        crate::control::model::Protocol::Tcp => "TCP",
        crate::control::model::Protocol::Udp => "UDP",
    }
}

/// Scheduler, flags, persistence, one-packet: the text after a service's address.
fn terms_text(service: &VirtualService) -> String {
    let mut text = service.scheduler.clone();
    if !service.scheduler_flags.is_empty() {
        _ = write!(text, " ({})", flags_text(service));
    }
    if let Some(persistence) = &service.persistence {
        _ = write!(text, " persistent {}", persistence.timeout.whole());
        if let Some(mask) = mask_text(persistence) {
            _ = write!(text, " mask {mask}");
        }
    }
    if served::has_ops(service) {
        text.push_str(" ops");
    }
    text
}

/// In the order of their bits.
pub(super) fn flags_text(service: &VirtualService) -> String {
    let mut flags: Vec<&str> = service.scheduler_flags.iter().map(String::as_str).collect();
    flags.sort_by_key(|flag| flag.ends_with("-port"));
    flags.join(",")
}

/// The mask of a prefix; `None` if every client counts by itself.
pub(super) fn mask_text(persistence: &Persistence) -> Option<String> {
    let prefix = u32::from(persistence.prefix);
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
    (prefix < 32).then(|| std::net::Ipv4Addr::from(mask).to_string())
}
