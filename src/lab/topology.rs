//! The hosts and their cables: the request ([`Topology`]) and the result ([`Lab`]).
//!
//! A segment is a bridge in the namespace of a switch or router; a router has the address `.254` in it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::host::INTERFACE;
use super::link::{self, End};
use super::{Attempt, Host, HostRole, Interrupt, LabError, Namespace, TemporaryDirectory};

/// The maximum number of real servers; each takes a namespace, two threads and a cable.
pub const REAL_SERVERS_MAX: usize = 50;
/// The maximum number of clients.
pub const CLIENTS_MAX: usize = 50;

const PREFIX_LENGTH: u8 = 24;
const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);

/// Set in every namespace. A new namespace copies `net.ipv4.conf` from the machine's own (ip-sysctl.rst,
/// `devconf_inherit_init_net`), so every value that matters is set explicitly.
const HOST_SYSCTLS: [(&str, &str); 9] = [
    // First, because changing it resets others.
    ("net.ipv4.ip_forward", "0"),
    // Strict, as distributions ship it: the daemons must work with it.
    ("net.ipv4.conf.all.rp_filter", "1"),
    ("net.ipv4.conf.default.rp_filter", "1"),
    ("net.ipv4.conf.all.arp_ignore", "0"),
    ("net.ipv4.conf.default.arp_ignore", "0"),
    ("net.ipv4.conf.all.arp_announce", "0"),
    ("net.ipv4.conf.default.arp_announce", "0"),
    // An IPv4 lab: no router solicitations in captures and counters.
    ("net.ipv6.conf.all.disable_ipv6", "1"),
    ("net.ipv6.conf.default.disable_ipv6", "1"),
];

/// Replies from the VIP come out of the real servers' subnets. A router that checks sources against its
/// routes would drop them, so LVS/TUN never works behind one.
const ROUTER_SYSCTLS: [(&str, &str); 3] = [
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.ip_forward", "1"),
];

/// Where the real servers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyKind {
    /// All hosts in 172.25.3.0/24.
    SameSubnet,
    /// The clients and each real server in their own subnets, behind a router.
    Routed,
}

/// The kind of lab to build.
#[derive(Debug, Clone)]
pub struct Topology {
    kind: TopologyKind,
    real_servers: usize,
    clients: usize,
    stranger: bool,
    mtu: u32,
    program: Option<PathBuf>,
    interrupt: Option<Interrupt>,
}

/// A small network that exists until it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// Where the real servers are.
    pub kind: TopologyKind,
    /// The address that clients connect to.
    pub vip: Ipv4Addr,
    /// At least one: 172.25.3.10 or 172.25.1.10, further clients `.111`, `.112`, …
    pub clients: Vec<Host>,
    /// 172.25.3.1.
    pub director: Host,
    /// `server2`, `server3`, …: the number is the last byte of the address, or that of the subnet minus ten.
    pub real_servers: Vec<Host>,
    /// A host in the director's subnet that is neither director nor real server: 172.25.3.99.
    pub stranger: Option<Host>,
    /// The switch or the router.
    pub middle: Namespace,
    directory: Arc<TemporaryDirectory>,
}

impl Topology {
    /// All hosts in one subnet.
    pub fn same_subnet(real_servers: usize) -> Self {
        Topology {
            kind: TopologyKind::SameSubnet,
            real_servers,
            clients: 1,
            stranger: false,
            mtu: 1500,
            program: None,
            interrupt: None,
        }
    }

    /// The client and each real server in its own subnet.
    pub fn routed(real_servers: usize) -> Self {
        Topology { kind: TopologyKind::Routed, ..Self::same_subnet(real_servers) }
    }

    /// Several clients instead of one.
    pub fn with_clients(self, clients: usize) -> Self {
        Topology { clients, ..self }
    }

    /// One more host, which is none of the others.
    pub fn with_stranger(self) -> Self {
        Topology { stranger: true, ..self }
    }

    /// The MTU of every link.
    pub fn with_mtu(self, mtu: u32) -> Self {
        Topology { mtu, ..self }
    }

    /// The program that [`Host::spawn_daemon`] starts, instead of the running one.
    pub fn with_program(self, program: impl Into<PathBuf>) -> Self {
        Topology { program: Some(program.into()), ..self }
    }

    /// Raising this ends every wait for a daemon.
    pub fn with_interrupt(self, interrupt: Interrupt) -> Self {
        Topology { interrupt: Some(interrupt), ..self }
    }

    /// Builds the lab; if a part fails, the earlier parts are removed again.
    ///
    /// # Errors
    /// What was attempted, and the kernel's error.
    pub fn build(&self) -> Result<Lab, LabError> {
        if !(1..=REAL_SERVERS_MAX).contains(&self.real_servers) || !(1..=CLIENTS_MAX).contains(&self.clients)
        {
            return Err(LabError::Topology(format!(
                "a lab has 1 to {REAL_SERVERS_MAX} real servers and 1 to {CLIENTS_MAX} clients, not {} and {}",
                self.real_servers, self.clients
            )));
        }
        let builder = LabBuilder {
            topology: self,
            program: match &self.program {
                Some(program) => program.clone(),
                None => std::env::current_exe().attempt(|| "cannot find this program's file".into())?,
            },
            directory: Arc::new(TemporaryDirectory::create()?),
            middle: self.middle()?,
        };
        builder.build()
    }

    fn middle(&self) -> Result<Namespace, LabError> {
        let (name, sysctls) = match self.kind {
            TopologyKind::SameSubnet => ("switch", &[][..]),
            TopologyKind::Routed => ("router", &ROUTER_SYSCTLS[..]),
        };
        let namespace = Namespace::create(name)?;
        prepare(&namespace, &[&HOST_SYSCTLS, sysctls].concat())?;
        Ok(namespace)
    }
}

impl Lab {
    /// The first client.
    pub fn client(&self) -> &Host {
        &self.clients[0]
    }

    /// Every host, the client first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let middle = std::iter::once(&self.director).chain(&self.real_servers);
        self.clients.iter().chain(middle).chain(&self.stranger)
    }

    /// The directory for files of this lab's programs; it is removed with the lab.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes the router's path to one real server narrower than the links, like a link with a smaller MTU on
    /// the path; the router then answers longer packets with DF with an ICMP error.
    ///
    /// # Errors
    /// There is no router, or an error of netlink.
    pub fn set_path_mtu(&self, real_server: usize, mtu: u32) -> Result<(), LabError> {
        if self.kind != TopologyKind::Routed {
            return Err(LabError::Topology("only a router can have a narrow path".into()));
        }
        let address = self.real_servers[real_server].address;
        link::set_path_mtu(&self.middle, &bridge(address), address, mtu)
    }

    /// Takes the director's interface out and puts another one in under the same name, as with a USB adapter or a VLAN
    /// that is created again.
    ///
    /// # Errors
    /// An error of netlink.
    pub fn replace_interface(&self, between: impl FnOnce()) -> Result<(), LabError> {
        let host = &self.director;
        link::delete(&host.namespace, INTERFACE)?;
        between();
        let mtu = link::mtu(&self.middle, &bridge(host.address))?;
        plug(&self.middle, &host.name, End { namespace: &host.namespace, name: "new0" }, host.address, mtu)?;
        // Until then the bridge forwards nothing; udev too gives an interface its name a while after it has appeared.
        link::wait_for_carrier(&self.middle, &host.name)?;
        link::rename(&host.namespace, "new0", INTERFACE)?;
        host.gateway.map_or(Ok(()), |gateway| link::add_default_route(&host.namespace, gateway))
    }

    /// Makes the router drop ICMP, both its own and forwarded, like an overzealous firewall: no host behind
    /// it learns that a packet was too big.
    ///
    /// # Errors
    /// There is no router, or an error of netlink.
    pub fn eat_icmp(&self) -> Result<(), LabError> {
        if self.kind != TopologyKind::Routed {
            return Err(LabError::Topology("only a router can drop ICMP".into()));
        }
        link::eat_icmp(&self.middle)
    }
}

struct LabBuilder<'a> {
    topology: &'a Topology,
    program: PathBuf,
    directory: Arc<TemporaryDirectory>,
    middle: Namespace,
}

impl LabBuilder<'_> {
    fn build(self) -> Result<Lab, LabError> {
        let kind = self.topology.kind;
        self.segment(VIP)?;
        let director = self.host(HostRole::Director, "director", Ipv4Addr::new(172, 25, 3, 1))?;
        let client_subnet = match kind {
            TopologyKind::SameSubnet => 3,
            TopologyKind::Routed => 1,
        };
        if kind == TopologyKind::Routed {
            self.segment(Ipv4Addr::new(172, 25, client_subnet, 0))?;
        }
        let clients = (0_u8..).take(self.topology.clients).map(|number| {
            let (name, last) = match number {
                0 => ("client".into(), 10),
                _ => (format!("client{}", number + 1), 110 + number),
            };
            self.host(HostRole::Client, &name, Ipv4Addr::new(172, 25, client_subnet, last))
        });
        let clients = clients.collect::<Result<_, _>>()?;
        // 10 is the client's number.
        let numbers = (2..).filter(|number| *number != 10).take(self.topology.real_servers);
        let real_servers = numbers.map(|number: u8| self.real_server(number)).collect::<Result<_, _>>()?;
        let stranger = match self.topology.stranger {
            true => Some(self.host(HostRole::Stranger, "stranger", Ipv4Addr::new(172, 25, 3, 99))?),
            false => None,
        };
        let LabBuilder { middle, directory, .. } = self;
        Ok(Lab { kind, vip: VIP, clients, director, real_servers, stranger, middle, directory })
    }

    fn real_server(&self, number: u8) -> Result<Host, LabError> {
        let address = match self.topology.kind {
            TopologyKind::SameSubnet => Ipv4Addr::new(172, 25, 3, number),
            TopologyKind::Routed => Ipv4Addr::new(172, 25, 10 + number, 2),
        };
        if self.topology.kind == TopologyKind::Routed {
            self.segment(address)?;
        }
        self.host(HostRole::RealServer, &format!("server{number}"), address)
    }

    /// The bridge of the subnet of `member`.
    fn segment(&self, member: Ipv4Addr) -> Result<(), LabError> {
        let bridge = bridge(member);
        link::add_bridge(&self.middle, &bridge, self.topology.mtu)?;
        match self.gateway(member) {
            Some(gateway) => link::add_address(&self.middle, &bridge, gateway, PREFIX_LENGTH),
            None => Ok(()),
        }
    }

    fn host(&self, role: HostRole, name: &str, address: Ipv4Addr) -> Result<Host, LabError> {
        let namespace = Namespace::create(name)?;
        prepare(&namespace, &HOST_SYSCTLS)?;
        let end = End { namespace: &namespace, name: INTERFACE };
        plug(&self.middle, name, end, address, self.topology.mtu)?;
        let gateway = self.gateway(address);
        if let Some(gateway) = gateway {
            link::add_default_route(&namespace, gateway)?;
        }
        Ok(Host {
            name: name.into(),
            role,
            address,
            prefix_length: PREFIX_LENGTH,
            gateway,
            namespace,
            program: self.program.clone(),
            interrupt: self.topology.interrupt.clone(),
            directory: self.directory.clone(),
            programs_started: 0.into(),
        })
    }

    fn gateway(&self, member: Ipv4Addr) -> Option<Ipv4Addr> {
        let [a, b, c, _] = member.octets();
        (self.topology.kind == TopologyKind::Routed).then(|| Ipv4Addr::new(a, b, c, 254))
    }
}

/// Connects a host to the bridge of its subnet.
fn plug(middle: &Namespace, name: &str, end: End, address: Ipv4Addr, mtu: u32) -> Result<(), LabError> {
    let (namespace, interface) = (end.namespace, end.name);
    link::connect(End { namespace: middle, name }, end, mtu)?;
    link::attach_to_bridge(middle, name, &bridge(address))?;
    link::set_up(namespace, interface)?;
    link::add_address(namespace, interface, address, PREFIX_LENGTH)
}

fn bridge(member: Ipv4Addr) -> String {
    format!("net{}", member.octets()[2])
}

/// The loopback device and the sysctls, before there is any other link: `default` applies to links created
/// later.
fn prepare(namespace: &Namespace, sysctls: &[(&str, &str)]) -> Result<(), LabError> {
    let has_ipv6 = namespace.run(|| fs::exists("/proc/sys/net/ipv6").unwrap_or(false));
    for (key, value) in sysctls {
        if has_ipv6 || !key.starts_with("net.ipv6.") {
            namespace.write_sysctl(key, value)?;
        }
    }
    link::set_up(namespace, "lo")
}
