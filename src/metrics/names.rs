//! Every metric's name, kind and help, in one place. Labels use the words of the glossary; no label contains
//! a client's address.

use metrics::Unit;

/// The types of the text format that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases while the daemon runs.
    Counter,
    /// May decrease.
    Gauge,
    /// Series with `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// With its prefix `lvs_tund_`, and `_total` for a counter.
    pub name: &'static str,
    /// Printed in the `# TYPE` line.
    pub kind: Kind,
    /// The unit in the name, if any.
    pub unit: Option<Unit>,
    /// Keys that every series of the family has.
    pub labels: &'static [&'static str],
    /// One sentence for the `# HELP` line.
    pub help: &'static str,
}

macro_rules! names {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $($unit:ident)? : $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: &str = $name;
        )+

        /// The table.
        pub const NAMES: &[Name] = &[$(Name {
            name: $name,
            kind: Kind::$kind,
            unit: names!(@unit $($unit)?),
            labels: &[$($label),*],
            help: $help,
        },)+];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
}

names! {
    BUILD_INFO = Gauge "lvs_tund_build_info" ["version", "role"]:
        "Always 1; the labels describe the running program.";
    HOST_CHANGES = Gauge "lvs_tund_host_changes" []:
        "Applied changes to the host's addresses, routes, rules and settings; undone on exit.";
    LOG_LINES_LOST = Counter "lvs_tund_log_lines_lost_total" []:
        "Log lines that could not be written because standard error was closed, full or stalled.";

    KERNEL_DROPPED = Counter "lvs_tund_kernel_dropped_total" ["device", "cause"]:
        "Packets that the kernel dropped on the daemon's device and sockets, and on the interface, since the daemon started.";

    RECEIVED_PACKETS = Counter "lvs_tund_director_packets_received_total" []:
        "Packets read from the TUN device; each is transmitted, replied to, passed, held or dropped.";
    RECEIVED_BYTES = Counter "lvs_tund_director_received_bytes_total" [] Bytes:
        "IP length of the packets read from the TUN device.";
    TRANSMITTED_PACKETS = Counter "lvs_tund_director_packets_transmitted_total" []:
        "Packets sent to a real server: encapsulated, or handed to this host's own stack if that is the real server.";
    PASSED_PACKETS = Counter "lvs_tund_director_packets_passed_total" []:
        "Packets handed to this host's own stack, because their VIP is an address of this host and they belong to no virtual service.";
    STATELESS_PACKETS = Counter "lvs_tund_director_packets_stateless_total" []:
        "Packets forwarded by hash or one by one, without an entry in the connection table.";
    FLOOD_PACKETS = Counter "lvs_tund_director_packets_flood_total" []:
        "Packets forwarded without an entry because of a flood: too many new connections, or too many of one packet.";
    PROBE_PACKETS = Counter "lvs_tund_director_packets_probe_total" []:
        "Packets of checks, sent through the tunnel to the real server under test; part of the transmitted ones.";
    REPLIED_PACKETS = Counter "lvs_tund_director_packets_replied_total" ["kind"]:
        "Packets answered by the director itself.";
    HELD_PACKETS = Gauge "lvs_tund_director_packets_held" []:
        "Packets held until another one arrives.";
    DROPPED_PACKETS = Counter "lvs_tund_director_packets_dropped_total" ["reason"]:
        "Packets dropped by the director, by reason.";
    STRAY_PACKETS = Counter "lvs_tund_director_packets_stray_total" ["interface"]:
        "Packets for virtual services seen on interfaces where nothing captures them; of many packets at once only some are seen.";
    TRANSMIT_ERRORS = Counter "lvs_tund_director_transmit_errors_total" ["virtual_service", "real_server", "cause"]:
        "Packets that the kernel refused to send, by cause; one read from the TUN device also counts as dropped with reason send_error.";
    PATH_ERRORS = Counter "lvs_tund_director_path_errors_total" ["virtual_service", "real_server", "kind", "outcome"]:
        "ICMP errors about the director's own outer packets, by kind and outcome.";
    PATH_ERRORS_TOLD = Counter "lvs_tund_director_path_errors_told_total" []:
        "Errors from the path that were sent to clients late, because the original error quoted too little of the packet.";
    VIP_CLAIMS = Counter "lvs_tund_director_vip_claims_total" ["vip"]:
        "ARP messages of other hosts that had a VIP as their sender while this host answered for it.";
    CONNECTIONS = Gauge "lvs_tund_director_connections" []:
        "Entries in the connection table.";
    CONNECTIONS_UNCONFIRMED = Gauge "lvs_tund_director_connections_unconfirmed" []:
        "Of the entries, those of flows that sent a SYN or a single datagram; at most half of the table.";
    CONNECTIONS_MAX = Gauge "lvs_tund_director_connections_max" []:
        "Maximum number of entries in the connection table.";
    CONNECTIONS_CREATED = Counter "lvs_tund_director_connections_created_total" []:
        "Entries added to the connection table.";
    CONNECTIONS_REMOVED = Counter "lvs_tund_director_connections_removed_total" []:
        "Entries that expired or were replaced.";
    TEMPLATES = Gauge "lvs_tund_director_templates" []:
        "Persistence templates.";
    SERVICE_FINGERPRINT = Gauge "lvs_tund_director_virtual_service_fingerprint" ["virtual_service"]:
        "Fingerprint of the scheduler's hash table; two directors with different values send the same client to different real servers.";
    SERVICE_INFO = Gauge "lvs_tund_director_virtual_service_info"
        ["virtual_service", "protocol", "vip", "port", "scheduler"]:
        "Always 1; the labels describe a virtual service.";
    SERVICE_CONNECTIONS = Counter "lvs_tund_director_virtual_service_connections_total" ["virtual_service"]:
        "Connections scheduled.";
    SERVICE_PACKETS = Counter "lvs_tund_director_virtual_service_packets_total" ["virtual_service"]:
        "Packets forwarded for a virtual service.";
    SERVICE_BYTES = Counter "lvs_tund_director_virtual_service_bytes_total" ["virtual_service"] Bytes:
        "IP length of the packets forwarded for a virtual service, without the outer header.";
    SERVER_INFO = Gauge "lvs_tund_director_real_server_info" ["virtual_service", "real_server", "rip"]:
        "Always 1; the labels describe a real server.";
    SERVER_WEIGHT = Gauge "lvs_tund_director_real_server_weight" ["virtual_service", "real_server"]:
        "Share of new connections; 0 is quiesced.";
    SERVER_CONNECTIONS = Counter "lvs_tund_director_real_server_connections_total"
        ["virtual_service", "real_server"]:
        "Connections given to a real server.";
    SERVER_CONNECTIONS_NOW = Gauge "lvs_tund_director_real_server_connections"
        ["virtual_service", "real_server", "state"]:
        "Current connections of a real server, active or inactive as IPVS counts them.";
    SERVER_TEMPLATES = Gauge "lvs_tund_director_real_server_templates" ["virtual_service", "real_server"]:
        "Persistence templates of a real server.";
    SERVER_OVERLOADED = Gauge "lvs_tund_director_real_server_overloaded" ["virtual_service", "real_server"]:
        "1 while the upper threshold keeps new connections away.";
    SERVER_PACKETS = Counter "lvs_tund_director_real_server_packets_total" ["virtual_service", "real_server"]:
        "Packets forwarded to a real server.";
    SERVER_BYTES = Counter "lvs_tund_director_real_server_bytes_total"
        ["virtual_service", "real_server"] Bytes:
        "IP length of the packets forwarded to a real server, without the outer header.";
    SERVER_MTU = Gauge "lvs_tund_director_real_server_path_mtu_bytes" ["virtual_service", "real_server"] Bytes:
        "MTU of the path to a real server, outer header included.";
    SERVER_SUSPECT = Gauge "lvs_tund_director_real_server_suspect" ["virtual_service", "real_server"]:
        "1 for half a minute after its host has answered that no program there receives encapsulated packets.";

    SERVER_UP = Gauge "lvs_tund_director_real_server_up" ["virtual_service", "real_server"]:
        "1 while the checks of a real server find that it serves, otherwise 0; only real servers with checks have it.";
    SERVER_STATE_AGE = Gauge "lvs_tund_director_real_server_state_age_seconds" ["virtual_service", "real_server"]:
        "Seconds since a real server went up or down.";
    SERVER_PROBES = Counter "lvs_tund_director_real_server_probes_total"
        ["virtual_service", "real_server", "check", "outcome"]:
        "Probes by kind of check and outcome: success, or the class of the failure.";
    SERVER_PROBE_DURATION = Histogram "lvs_tund_director_real_server_probe_duration_seconds"
        ["virtual_service", "real_server", "check"]:
        "How long probes took.";
    PROBES_RUNNING = Gauge "lvs_tund_director_probes_running" ["kind"]:
        "Probes that run, over sockets (network) or with a program.";
    PROBES_MAX = Gauge "lvs_tund_director_probes_running_max" ["kind"]:
        "How many probes may run at once; more wait.";
    PROBE_DELAY = Histogram "lvs_tund_director_probe_delay_seconds" ["kind"]:
        "How much later than due probes began.";
    SERVER_PATH_MTU_FOUND = Gauge "lvs_tund_director_real_server_path_mtu_found_bytes"
        ["virtual_service", "real_server"] Bytes:
        "The largest outer packet that check mtu has brought to a real server.";
    SERVER_CHECK_WARNING = Gauge "lvs_tund_director_real_server_check_warning"
        ["virtual_service", "real_server", "check"]:
        "1 while a check succeeds with a warning, such as a certificate that expires soon.";
    SERVICE_QUORUM = Gauge "lvs_tund_director_virtual_service_quorum" ["virtual_service"]:
        "1 while enough real servers are up, otherwise 0; only virtual services with checks have it.";
    SERVICE_FAILS_OPEN = Gauge "lvs_tund_director_virtual_service_fails_open" ["virtual_service"]:
        "1 while so few real servers are up that all count as up.";
    SERVICE_USES_SORRY = Gauge "lvs_tund_director_virtual_service_uses_sorry" ["virtual_service"]:
        "1 while the sorry servers serve instead of the others.";

    ENCAPSULATED_PACKETS = Counter "lvs_tund_realserver_packets_received_total" []:
        "Encapsulated packets received; each is delivered or dropped.";
    ENCAPSULATED_BYTES = Counter "lvs_tund_realserver_received_bytes_total" [] Bytes:
        "IP length of the encapsulated packets received, outer header included.";
    DELIVERED_PACKETS = Counter "lvs_tund_realserver_packets_delivered_total" ["vip"]:
        "Packets unwrapped and delivered to the host.";
    DELIVERED_BYTES = Counter "lvs_tund_realserver_delivered_bytes_total" ["vip"] Bytes:
        "IP length of the packets delivered to the host, without the outer header.";
    REFUSED_PACKETS = Counter "lvs_tund_realserver_packets_dropped_total" ["reason"]:
        "Packets dropped by the real server, by reason.";
    DELIVER_ERRORS = Counter "lvs_tund_realserver_transmit_errors_total" ["cause"]:
        "Packets that the kernel refused to accept, by cause; each also counts as dropped with reason send_error.";
    MSS = Gauge "lvs_tund_realserver_mss_bytes" [] Bytes:
        "Maximum segment size announced to the VIPs' clients; 0 if it is the host's own.";
    SURPRISING_ECN = Counter "lvs_tund_realserver_ecn_surprising_total" []:
        "Packets whose inner and outer ECN marks form a combination that RFC 6040 calls currently unused.";
}

/// The table's entry for a name.
pub fn find(name: &str) -> Option<&'static Name> {
    NAMES.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for entry in NAMES {
            assert_eq!(NAMES.iter().filter(|other| other.name == entry.name).count(), 1, "{}", entry.name);
            assert!(entry.name.starts_with("lvs_tund_"), "{}", entry.name);
            assert_eq!(entry.name.ends_with("_total"), entry.kind == Kind::Counter, "{}", entry.name);
            assert_eq!(entry.unit == Some(Unit::Bytes), entry.name.contains("_bytes"), "{}", entry.name);
            assert!(entry.help.ends_with('.'), "{}", entry.name);
        }
    }
}
