//! Keeps connection tracking away from the clients' packets: it never sees the real servers' replies, so that it would
//! regard every packet of a TCP client after the first as `invalid`, which most stateful firewalls drop.
//!
//! ```text
//! table ip lvs-tund-lvsd0 {
//!     set services { type ipv4_addr . inet_proto . inet_service }
//!     chain prerouting { type filter hook prerouting priority raw; … @services notrack }
//!     chain output     { type filter hook output priority raw;     … @services notrack }
//! }
//! ```
//! Only packets of virtual services are exempt, and ICMP errors about them: the rest of a VIP that is an address of the
//! host stays tracked. Fragments have been reassembled before (NF_IP_PRI_CONNTRACK_DEFRAG). The table belongs to the
//! daemon's socket and disappears with it; another program cannot change or flush it.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use nix::errno::Errno;

use super::changes::HostChanges;
use super::nftables::{Batch, Comparison, Header, Socket, Step};

/// There as long as the kernel's connection tracking is (nf_conntrack_standalone.c).
const CONNTRACK: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

const SET: &str = "services";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
/// NF_IP_PRI_RAW: before connection tracking.
const PRIORITY: i32 = -300;
/// ipv4_addr, inet_proto and inet_service of the program nft, six bits each.
const KEY_TYPE: u32 = 7 << 12 | 12 << 6 | 13;
const KEY_LENGTH: u32 = 12;

const ICMP: u8 = 1;
/// In the IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const PROTOCOL: u32 = 9;
const HEADER: u32 = 20;
/// The packet that an ICMP error is about, behind the error's own header.
const QUOTED: u32 = 8;

/// Ports of a VIP whose packets are not tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UntrackedPorts {
    /// TCP or UDP.
    pub protocol: u8,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The first port.
    pub first: u16,
    /// The last port, which is part of the range.
    pub last: u16,
}

/// What the daemon does about connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotrackMode {
    /// Turned off in the configuration.
    Off,
    /// Exempts the clients' packets.
    Make,
    /// Only returns the commands for it.
    Print,
}

/// The exemption of a running director. Dropping it without [`Notrack::stop`] removes the table as well, since Linux 5.12.
pub struct Notrack {
    table: String,
    mode: NotrackMode,
    wanted: BTreeSet<UntrackedPorts>,
    /// Owns the table while that is in place.
    socket: Option<Socket>,
    /// Whether the host's failure has been logged.
    has_complained: bool,
}

impl Notrack {
    /// Nothing is exempt yet. `tun` makes the table's name unique; a character
    /// that the program nft rejects becomes `_`.
    pub fn new(tun: &str, mode: NotrackMode) -> Notrack {
        let is_word = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let table = format!("lvs-tund-{}", tun.chars().map(is_word).collect::<String>());
        Notrack { table, mode, wanted: BTreeSet::new(), socket: None, has_complained: false }
    }

    /// From [`HostChanges`] and the configuration key `notrack`.
    pub fn mode(changes: HostChanges, is_wanted: bool) -> NotrackMode {
        match changes {
            _ if !is_wanted => NotrackMode::Off,
            HostChanges::Make => NotrackMode::Make,
            HostChanges::Print => NotrackMode::Print,
        }
    }

    /// Exempts the packets for exactly these ports from now on. A failure is logged, and tried again by
    /// [`Notrack::audit`].
    pub fn set(&mut self, ports: impl IntoIterator<Item = UntrackedPorts>) {
        let wanted = ports.into_iter().collect();
        if self.wanted != wanted {
            self.wanted = wanted;
            self.settle();
        }
    }

    /// Makes the table if it is missing: another program may have removed it, or the kernel begun to track connections.
    pub fn audit(&mut self) {
        let is_missing = match &self.socket {
            None => !self.wanted.is_empty(),
            Some(socket) => {
                // Changes nothing, and fails without the table.
                let mut batch = Batch::new(&self.table);
                batch.add_set(SET, KEY_TYPE, KEY_LENGTH);
                socket.apply(batch).is_err()
            }
        };
        if is_missing {
            self.settle();
        }
    }

    /// Whether the exemption is active.
    pub fn is_in_force(&self) -> bool {
        self.socket.is_some()
    }

    /// The same by hand.
    pub fn commands(&self) -> Vec<String> {
        if self.mode != NotrackMode::Print || self.wanted.is_empty() {
            return Vec::new();
        }
        let table = &self.table;
        let mut commands = vec![
            format!("nft add table ip {table}"),
            format!(
                "nft 'add chain ip {table} {PREROUTING} {{ type filter hook prerouting priority raw; }}'"
            ),
            format!("nft 'add chain ip {table} {OUTPUT} {{ type filter hook output priority raw; }}'"),
        ];
        for UntrackedPorts { protocol, vip, first, last } in &self.wanted {
            let word = if *protocol == 6 { "tcp" } else { "udp" };
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let rules = [
                (PREROUTING, format!("ip daddr {vip} {word} dport {ports}")),
                (OUTPUT, format!("ip saddr {vip} {word} sport {ports}")),
            ];
            commands.extend(
                rules.map(|(chain, packets)| format!("nft add rule ip {table} {chain} {packets} notrack")),
            );
        }
        commands
    }

    /// Removes the table.
    pub fn stop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        let mut batch = Batch::new(&self.table);
        batch.delete_table();
        match socket.apply(batch) {
            Ok(()) => {
                tracing::info!(kind = "leftover_removed", "host: removed nftables table ip {}", self.table)
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
                tracing::info!("host: nftables table ip {} was already gone", self.table);
            }
            Err(error) => tracing::warn!("host: could not remove nftables table ip {}: {error}", self.table),
        }
    }

    fn settle(&mut self) {
        if self.mode != NotrackMode::Make {
            return;
        }
        if self.wanted.is_empty() {
            return self.stop();
        }
        if !Path::new(CONNTRACK).exists() {
            return;
        }
        match self.make() {
            Ok(()) => self.has_complained = false,
            Err(error) if !self.has_complained => {
                self.has_complained = true;
                tracing::warn!(
                    "host: cannot exempt the VIPs' packets from connection tracking: nf_tables: {error}; if a firewall \
                     here drops packets in state invalid, connections hang: see docs/firewall.md, or set notrack = false"
                );
            }
            Err(_) => {}
        }
    }

    fn make(&mut self) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && socket.apply(rules_of(&self.table, &self.wanted, true)).is_ok()
        {
            return Ok(());
        }
        let was_in_force = self.socket.take().is_some();
        let socket = Socket::open()?;
        // Left by a killed daemon on a kernel without owners of tables.
        let mut leftover = Batch::new(&self.table);
        leftover.delete_table();
        let _ = socket.apply(leftover);
        let owned = socket.apply(rules_of(&self.table, &self.wanted, true));
        match owned {
            Err(error) if is_unknown(&error) => socket.apply(rules_of(&self.table, &self.wanted, false))?,
            owned => owned?,
        }
        self.socket = Some(socket);
        match was_in_force {
            true => tracing::warn!(
                "host: nftables table ip {} was removed by another program; restored",
                self.table
            ),
            false => tracing::info!(
                "host: added nftables table ip {}: connection tracking leaves the VIPs' packets alone",
                self.table
            ),
        }
        Ok(())
    }
}

/// A kernel before 5.12 has no owners of tables.
fn is_unknown(error: &io::Error) -> bool {
    [Errno::EINVAL, Errno::EOPNOTSUPP].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// The whole table.
fn rules_of<'a>(table: &'a str, wanted: &BTreeSet<UntrackedPorts>, has_owner: bool) -> Batch<'a> {
    let mut batch = Batch::new(table);
    batch.add_table(has_owner);
    batch.add_set(SET, KEY_TYPE, KEY_LENGTH);
    batch.renew_chain(PREROUTING, HOOK_PREROUTING, PRIORITY);
    batch.renew_chain(OUTPUT, HOOK_OUTPUT, PRIORITY);
    let (single, ranges): (Vec<_>, Vec<_>) = wanted.iter().partition(|ports| ports.first == ports.last);
    batch.fill_set(SET, &single.into_iter().map(key).collect::<Vec<_>>());
    let in_set = || vec![Step::Find { register: 0, set: SET }];
    for (chain, view) in [(PREROUTING, CLIENTS), (PREROUTING, ERRORS), (OUTPUT, REPLIES)] {
        batch.add_rule(chain, &view.rule(in_set()));
        for range in &ranges {
            batch.add_rule(chain, &view.rule(in_range(range)));
        }
    }
    batch
}

/// Each part of a key is padded to the four bytes of a register.
fn key(ports: &UntrackedPorts) -> Vec<u8> {
    let [high, low] = ports.first.to_be_bytes();
    [&ports.vip.octets()[..], &[ports.protocol, 0, 0, 0], &[high, low, 0, 0]].concat()
}

fn in_range(ports: &UntrackedPorts) -> Vec<Step> {
    let compare = |register, with, value: &[u8]| Step::Compare { register, with, value: value.to_vec() };
    vec![
        compare(0, Comparison::Equal, &ports.vip.octets()),
        compare(1, Comparison::Equal, &[ports.protocol]),
        compare(2, Comparison::AtLeast, &ports.first.to_be_bytes()),
        compare(2, Comparison::AtMost, &ports.last.to_be_bytes()),
    ]
}

/// Where a packet has VIP, protocol and port.
#[derive(Clone, Copy)]
enum View {
    /// In its own headers, the port at this offset.
    Own { vip: u32, port: u32 },
    /// In the packet that an ICMP error quotes; options in its header would hide the port.
    Quoted,
}

const CLIENTS: View = View::Own { vip: DESTINATION, port: 2 };
const REPLIES: View = View::Own { vip: SOURCE, port: 0 };
const ERRORS: View = View::Quoted;

impl View {
    /// Loads VIP, protocol and port into the registers 0 to 2, then `decides`.
    fn rule(self, decides: Vec<Step>) -> Vec<Step> {
        let load = |register, from, offset, length| Step::Load { register, from, offset, length };
        let mut steps = match self {
            View::Own { vip, port } => vec![
                load(0, Header::Network, vip, 4),
                Step::LoadProtocol { register: 1 },
                load(2, Header::Transport, port, 2),
            ],
            View::Quoted => vec![
                Step::LoadProtocol { register: 0 },
                Step::Compare { register: 0, with: Comparison::Equal, value: vec![ICMP] },
                load(0, Header::Transport, QUOTED + SOURCE, 4),
                load(1, Header::Transport, QUOTED + PROTOCOL, 1),
                load(2, Header::Transport, QUOTED + HEADER, 2),
            ],
        };
        steps.extend(decides);
        steps.push(Step::Untrack);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16, last: u16) -> UntrackedPorts {
        UntrackedPorts { protocol: 6, vip: Ipv4Addr::new(10, 0, 0, 9), first, last }
    }

    #[test]
    fn the_parts_of_a_key_fill_a_register_each() {
        assert_eq!(key(&ports(80, 80)), [10, 0, 0, 9, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(key(&ports(80, 80)).len(), KEY_LENGTH as usize);
    }

    #[test]
    fn the_same_can_be_done_by_hand() {
        let mut notrack = Notrack::new("lvs-d.0+", NotrackMode::Print);
        assert!(notrack.commands().is_empty());
        notrack.set([ports(80, 80), ports(8000, 8099)]);
        assert_eq!(
            notrack.commands(),
            [
                "nft add table ip lvs-tund-lvs-d.0_",
                "nft 'add chain ip lvs-tund-lvs-d.0_ prerouting { type filter hook prerouting priority raw; }'",
                "nft 'add chain ip lvs-tund-lvs-d.0_ output { type filter hook output priority raw; }'",
                "nft add rule ip lvs-tund-lvs-d.0_ prerouting ip daddr 10.0.0.9 tcp dport 80 notrack",
                "nft add rule ip lvs-tund-lvs-d.0_ output ip saddr 10.0.0.9 tcp sport 80 notrack",
                "nft add rule ip lvs-tund-lvs-d.0_ prerouting ip daddr 10.0.0.9 tcp dport 8000-8099 notrack",
                "nft add rule ip lvs-tund-lvs-d.0_ output ip saddr 10.0.0.9 tcp sport 8000-8099 notrack",
            ]
        );
        assert!(!notrack.is_in_force());
    }

    #[test]
    fn the_configuration_and_the_command_line_can_both_turn_it_off() {
        assert_eq!(Notrack::mode(HostChanges::Make, true), NotrackMode::Make);
        assert_eq!(Notrack::mode(HostChanges::Print, true), NotrackMode::Print);
        assert_eq!(Notrack::mode(HostChanges::Make, false), NotrackMode::Off);
        assert_eq!(Notrack::mode(HostChanges::Print, false), NotrackMode::Off);
    }
}
