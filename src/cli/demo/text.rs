//! The demo's output for people.

use std::io::{IsTerminal, stdout};

use super::super::output::print_on;
use super::report::{DemoAnswer, DemoReport, own_samples, series_name};
use crate::lab::{Cluster, Host, HostRole, Lab, Scrape, TopologyKind};

/// Standard output, in colours if it is a terminal and `NO_COLOR` is not set.
pub(super) struct TextOutput {
    colours: bool,
}

// ECMA-48 SGR
const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";

/// Metrics that the table shows and the list of counters therefore leaves out.
const SERVICE_CONNECTIONS: &str = "lvs_tund_director_virtual_service_connections_total";
const CONNECTIONS: &str = "lvs_tund_director_real_server_connections_total";
const CONNECTIONS_NOW: &str = "lvs_tund_director_real_server_connections";
const PACKETS: &str = "lvs_tund_director_real_server_packets_total";

impl TextOutput {
    pub(super) fn for_standard_output() -> Self {
        // no-color.org: the variable is present and not empty
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        TextOutput { colours: stdout().is_terminal() && !refused }
    }

    pub(super) fn topology(&self, lab: &Lab) {
        let count = lab.real_servers.len();
        let servers = if count == 1 { "1 real server".into() } else { format!("{count} real servers") };
        let place = match lab.kind {
            TopologyKind::SameSubnet => "in the director's subnet",
            TopologyKind::Routed => "in their own subnets, behind a router",
        };
        self.heading(&format!("{servers} {place}"));
        print_line(format!("  {}", lab.middle.name()));
        let last = lab.hosts().count() - 1;
        for (position, host) in lab.hosts().enumerate() {
            let branch = if position == last { "└─" } else { "├─" };
            let address = format!("{}/{}", host.address, host.prefix_length);
            print_line(format!(
                "  {branch} {:9} {address:16} {}",
                host.name,
                self.paint(DIM, &purpose(lab, host))
            ));
        }
    }

    pub(super) fn requests_begin(&self, lab: &Lab) {
        self.heading(&format!("GET http://{}/ from the client", lab.vip));
    }

    pub(super) fn request(&self, number: u64, answer: &DemoAnswer) {
        match answer {
            Ok(name) => print_line(format!("  {number:>3}  {name}")),
            Err(reason) => {
                print_line(format!("  {number:>3}  {}", self.paint(RED, &format!("no answer: {reason}"))))
            }
        }
    }

    pub(super) fn report(&self, lab: &Lab, report: &DemoReport) {
        let answered = report.per_server();
        let counts: Vec<_> = lab
            .real_servers
            .iter()
            .map(|host| format!("{} {}", host.name, answered.get(host.name.as_str()).unwrap_or(&0)))
            .collect();
        print_line(format!(
            "\n  {}: {}",
            self.verdict(report.is_round_robin(), "round robin"),
            counts.join(", ")
        ));
        self.heading("the director's table");
        self.table(lab, &report.director);
        self.heading("the director's counters (other than 0)");
        print_counters(&report.director);
        self.heading("direct return");
        print_line(format!(
            "  {}: {} bytes of replies passed through the director; the client received {} bytes directly",
            self.verdict(report.reply_bytes_through_director == 0, "proof"),
            report.reply_bytes_through_director,
            report.bytes_to_client
        ));
    }

    fn table(&self, lab: &Lab, metrics: &Scrape) {
        let total = count(metrics, SERVICE_CONNECTIONS, &[("virtual_service", "web")]);
        print_line(format!("  TCP {}:80 rr, connections {total}", lab.vip));
        for host in &lab.real_servers {
            let of = |name, state: &[(&'static str, &'static str)]| {
                count(metrics, name, &[&[("real_server", host.name.as_str())], state].concat())
            };
            print_line(format!(
                "   -> {:9} {:14} connections {} (active {}, inactive {}), packets {}",
                host.name,
                host.address,
                of(CONNECTIONS, &[]),
                of(CONNECTIONS_NOW, &[("state", "active")]),
                of(CONNECTIONS_NOW, &[("state", "inactive")]),
                of(PACKETS, &[])
            ));
        }
    }

    fn heading(&self, text: &str) {
        print_line(format!("\n{}\n", self.paint(BOLD, text)));
    }

    fn verdict(&self, good: bool, what: &str) -> String {
        match good {
            true => self.paint(GREEN, &format!("✓ {what}")),
            false => self.paint(RED, &format!("✗ {what}")),
        }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        match self.colours && !text.is_empty() {
            true => format!("\u{1b}[{style}m{text}\u{1b}[0m"),
            false => text.into(),
        }
    }
}

/// How to query and change the director, and how to enter the namespaces, while the demo is held.
pub(super) fn commands_to_try(lab: &Lab) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "lvs-tund".into(), |path| path.display().to_string());
    let server = &lab.real_servers[0].name;
    let mut text = String::from("\nquery and change the director, in another terminal:\n\n");
    text.push_str(&format!("  export LVS_TUND_CONTROL={}\n", Cluster::control_path(lab).display()));
    for command in [
        "status --watch".to_owned(),
        "connections".to_owned(),
        "ipvsadm -Ln".to_owned(),
        format!("weight {server} 5"),
        format!("drain {server} --then keep"),
        format!("undrain {server}"),
    ] {
        text.push_str(&format!("  {program} {command}\n"));
    }
    text + &commands_to_enter(lab)
}

fn commands_to_enter(lab: &Lab) -> String {
    let namespaces = lab.hosts().map(|host| &host.namespace).chain([&lab.middle]);
    let mut text = String::from("\nrunning until Ctrl-C; enter a namespace with\n\n");
    for namespace in namespaces {
        text.push_str(&format!("  {:9} {}\n", namespace.name(), namespace.command_to_enter()));
    }
    text
}

fn purpose(lab: &Lab, host: &Host) -> String {
    match host.role {
        HostRole::Director => format!("receives packets for the VIP {}", lab.vip),
        HostRole::RealServer => "holds the VIP, serves on port 80".into(),
        HostRole::Client | HostRole::Stranger => String::new(),
    }
}

/// Prints one line. If nothing reads it (`lvs-tund demo | head`), the demo still continues to its end.
pub(super) fn print_line(line: impl AsRef<str>) {
    print_on(&format!("{}\n", line.as_ref().trim_end_matches(' ')));
}

fn print_counters(metrics: &Scrape) {
    let in_table = [SERVICE_CONNECTIONS, CONNECTIONS, CONNECTIONS_NOW, PACKETS];
    let shown = own_samples(metrics)
        .filter(|sample| sample.value != 0.0 && !in_table.contains(&sample.name.as_str()))
        .filter(|sample| sample.name.starts_with("lvs_tund_director_"));
    for sample in shown {
        print_line(format!("  {} {}", series_name(sample), sample.value));
    }
}

fn count(metrics: &Scrape, name: &str, labels: &[(&str, &str)]) -> String {
    metrics.sum(name, labels).map_or_else(|| "–".into(), |value| value.to_string())
}
