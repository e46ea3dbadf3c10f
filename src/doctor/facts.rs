//! What was found on a host: values only, so that a test can describe any host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::firewall::Firewall;
use super::samples::Samples;
use crate::config::plan::{AnnounceSetting, DirectorPlan, RealserverPlan};
use crate::packet::Protocol;
use crate::trouble::TroubleKind;

/// Sysctls of `net/ipv4/conf/NAME`; `None` if it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// 0 off, 1 strict, 2 loose (RFC 3704).
    pub rp_filter: Option<i64>,
    /// 1 if the host forwards packets that arrive here.
    pub forwarding: Option<i64>,
    /// 1 and above restrict the addresses that the host answers ARP for.
    pub arp_ignore: Option<i64>,
    /// 2 keeps a VIP out of the sender field of ARP requests.
    pub arp_announce: Option<i64>,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// As in `ip link`.
    pub name: String,
    /// Administratively up, and with carrier.
    pub is_up: bool,
    /// In bytes, without the link header.
    pub mtu: u32,
    /// `None` on a device without Ethernet addresses, such as a TUN device.
    pub mac: Option<[u8; 6]>,
    /// With prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// The kernel applies the larger of these and [`Host::all`] for `rp_filter` and both ARP sysctls.
    pub settings: Settings,
}

/// What both roles look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Of the network namespace that the doctor runs in.
    pub interfaces: Vec<Interface>,
    /// `net/ipv4/conf/all`.
    pub all: Settings,
    /// IPv4 rules of nftables and iptables.
    pub firewall: Firewall,
    /// The kernel handles IP protocol 4 itself: what that means in words, and the command that ends it.
    pub tunnel_handler: Option<(String, String)>,
    /// VIPs of the kernel's own IPVS.
    pub ipvs: Vec<Ipv4Addr>,
    /// The daemon's metrics; `None` if it does not answer.
    pub metrics: Option<Samples>,
    /// What the daemon reports to be wrong; `None` if its control socket does not answer.
    pub reported: Option<Vec<Reported>>,
}

/// A trouble that the daemon reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its kind.
    pub kind: TroubleKind,
    /// What is wrong, and after "; " what to do about it.
    pub message: String,
}

impl Host {
    /// `None` if the interface does not exist.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The interface that has this address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&Interface> {
        let has = |interface: &&Interface| interface.addresses.iter().any(|(own, _)| *own == address);
        self.interfaces.iter().find(has)
    }
}

/// Where the kernel sends a client's packet for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// To this device.
    Device(String),
    /// To the host's own programs.
    Local,
    /// Dropped as `rp_filter` requires (EXDEV of fib_validate_source()).
    Filtered,
    /// Dropped because the interface does not forward (EHOSTUNREACH of ip_route_input_slow()).
    NotForwarded,
    /// Another answer, in words.
    Unknown(String),
}

/// One VIP of a director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Each address once for each interface, even with several virtual services.
    pub address: Ipv4Addr,
    /// Where its packets are expected: one of the configuration, or the device that has it as an address.
    pub interface: String,
    /// `None`: there was nothing to look up from.
    pub arrival: Option<Arrival>,
    /// An address of this host.
    pub is_local: bool,
    /// On `interface` or on another device that uses ARP.
    pub is_on_link: bool,
    /// A proxy neighbour makes this host answer ARP.
    pub is_proxied: bool,
    /// The other hosts that answered an ARP request for it; `None` if none could be sent.
    pub answers: Option<Vec<[u8; 6]>>,
}

/// What became of echo requests that must not be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// None could be sent.
    Untried,
    /// No answer to any.
    Silent,
    /// The longest that was answered, in bytes of the IP packet.
    Answered(u32),
}

/// The path to one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where encapsulated packets leave the host.
    pub interface: String,
    /// The RIP is an address of this host.
    pub is_local: bool,
    /// `None` if the real server is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The kernel's choice of the outer source address.
    pub source: Option<Ipv4Addr>,
    /// As the kernel would use it.
    pub path_mtu: u32,
    /// Whether the next hop answers ARP; `None` if that was not tried.
    pub is_answered: Option<bool>,
    /// Compared with `path_mtu`: a shorter answer means that a narrower link drops packets silently.
    pub echo: Echo,
}

/// Why a host returned a packet through the tunnel: the code of an ICMP destination unreachable (RFC 792, RFC 1812 §5.2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No program receives the protocol.
    Protocol,
    /// The kernel's module `ipip` received it and has no tunnel.
    Port,
    /// A packet filter.
    Prohibited,
    /// Another code.
    Other(u8),
}

/// What became of marked packets through the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The address at which the companion's metrics were read.
    pub metrics: SocketAddr,
    /// `None` if no ICMP error came back.
    pub refusal: Option<Refusal>,
    /// The companion's metrics before and after; `None` if it did not answer.
    pub counters: Option<(Samples, Samples)>,
}

/// One real server of a director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As in the configuration; the RIP if it has none.
    pub name: String,
    /// Shared by real servers of several virtual services.
    pub rip: Ipv4Addr,
    /// The kernel's refusal, in words.
    pub way: Result<Way, String>,
    /// What the director uses: configured, or learned by a running one.
    pub path_mtu: Option<u32>,
    /// Its MAC address, if it answered.
    pub mac: Option<[u8; 6]>,
    /// `None`: nothing was sent through the tunnel.
    pub via: Option<Via>,
}

impl Server {
    /// "real server server2 (172.25.3.2)"; one without a name of its own has its RIP only once.
    pub fn words(&self) -> String {
        let Server { name, rip, .. } = self;
        match name.parse() == Ok(*rip) {
            true => format!("real server {rip}"),
            false => format!("real server {name} ({rip})"),
        }
    }
}

/// What the schedulers of a virtual service see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The name of the virtual service.
    pub service: String,
    /// Name and weight of each real server.
    pub servers: Vec<(String, u32)>,
}

/// What a running director answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Of the program that runs, which an upgrade may have replaced on disk.
    pub version: String,
    /// The number of the running configuration; each change increases it.
    pub generation: u64,
}

/// A director's host.
#[derive(Clone, Debug)]
pub struct Director {
    /// Facts that do not depend on the role.
    pub host: Host,
    /// From the file, with the defaults.
    pub plan: DirectorPlan,
    /// How the configuration file is called on the command line.
    pub file: String,
    /// Why no director answers, in words.
    pub running: Result<Running, String>,
    /// One for each VIP of the plan.
    pub vips: Vec<Vip>,
    /// Each RIP once.
    pub servers: Vec<Server>,
    /// One for each virtual service, from the running director.
    pub weights: Vec<Weights>,
    /// Of the host's own programs.
    pub sockets: Vec<Socket>,
}

impl Director {
    /// The TUN device exists, so a director runs, or one was stopped in a way that left it.
    pub fn has_device(&self) -> bool {
        self.host.interface(&self.plan.tun).is_some()
    }

    /// Whether this host is to answer ARP for the VIP.
    pub fn is_announced(&self, vip: &Vip) -> bool {
        match self.plan.announce {
            AnnounceSetting::Always | AnnounceSetting::Healthy => true,
            AnnounceSetting::Local => vip.is_on_link,
            AnnounceSetting::Never => false,
        }
    }

    /// The name of the real server with this MAC address.
    pub fn server_with(&self, mac: [u8; 6]) -> Option<&Server> {
        let is_it = |server: &&Server| {
            let is_direct = server.way.as_ref().is_ok_and(|way| way.gateway.is_none());
            is_direct && server.mac == Some(mac)
        };
        self.servers.iter().find(is_it)
    }
}

/// A socket that waits for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// `None`: all addresses.
    pub address: Option<Ipv4Addr>,
    /// In host byte order.
    pub port: u16,
}

impl Socket {
    /// Whether a client of this address and port reaches it.
    pub fn serves(&self, vip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        (self.protocol, self.port) == (protocol, port) && self.address.is_none_or(|own| own == vip)
    }
}

/// A real server's host.
#[derive(Clone, Debug)]
pub struct Realserver {
    /// Facts that do not depend on the role.
    pub host: Host,
    /// From the file, with the defaults.
    pub plan: RealserverPlan,
    /// How the configuration file is called on the command line.
    pub file: String,
    /// Starts the daemon with this configuration.
    pub command: String,
    /// From /proc/net.
    pub sockets: Vec<Socket>,
    /// Where packets from each director arrive: the interface of the route to it.
    pub towards: Vec<(Ipv4Addr, String)>,
    /// Sources of encapsulated packets during the survey; `None` if none could be received.
    pub seen: Option<Vec<Ipv4Addr>>,
    /// VIPs with a routing rule for the MSS.
    pub mss_rules: Vec<Ipv4Addr>,
}

impl Realserver {
    /// The TUN device exists, so the daemon runs.
    pub fn has_device(&self) -> bool {
        self.host.interface(&self.plan.tun).is_some()
    }

    /// What clients may ask for: `services` for each VIP, or without that key every socket that is open for it.
    pub fn services(&self) -> impl Iterator<Item = (Ipv4Addr, Protocol, u16)> {
        let listed: Vec<(Protocol, u16)> =
            self.plan.guard.services.iter().map(|service| (service.protocol, service.port)).collect();
        let is_open = |vip: Ipv4Addr, socket: &&Socket| socket.address.is_none_or(|own| own == vip);
        self.vips().flat_map(move |vip| {
            let sockets = self.sockets.iter().filter(move |socket| is_open(vip, socket));
            let open: Vec<_> = sockets.map(|socket| (socket.protocol, socket.port)).collect();
            let served = if listed.is_empty() { open } else { listed.clone() };
            served.into_iter().map(move |(protocol, port)| (vip, protocol, port))
        })
    }

    /// The IPv4 addresses of the key `vips`.
    pub fn vips(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.plan.guard.vips.iter().filter_map(|vip| match vip {
            IpAddr::V4(vip) => Some(*vip),
            IpAddr::V6(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, RIP, VIP};

    #[test]
    fn without_services_the_sockets_that_are_open_for_the_vip_count() {
        let socket = |address, port| Socket { protocol: Protocol::Tcp, address, port };
        let mut facts = bed::realserver("");
        facts.sockets = vec![socket(None, 22), socket(Some(VIP), 80), socket(Some(RIP), 81)];
        let found: Vec<_> = facts.services().collect();
        assert_eq!(found, [(VIP, Protocol::Tcp, 22), (VIP, Protocol::Tcp, 80)]);
        let listed = bed::realserver("services = [\"udp/53\"]");
        assert_eq!(listed.services().collect::<Vec<_>>(), [(VIP, Protocol::Udp, 53)]);
    }
}
