//! The facts about a director's host.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;

use super::{arp, echo, kernel, sockets, via};
use crate::config::plan::DirectorPlan;
use crate::doctor::facts::{Arrival, Director, Echo, Host, Running, Server, Vip, Way, Weights};
use crate::host::netlink::{Fate, Interface};
use crate::host::{HostError, Netlink};
use nix::errno::Errno;

/// What is known before the survey.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The configuration file; the interface and the device are those of the running director, if one answers.
    pub plan: DirectorPlan,
    /// How the configuration file is called on the command line.
    pub file: String,
    /// What a running director reports of itself, or why none answers.
    pub running: Result<Running, String>,
    /// Name, RIP, and the path MTU that the director uses.
    pub servers: Vec<(String, Ipv4Addr, Option<u32>)>,
    /// Of all virtual services, each once.
    pub vips: Vec<Ipv4Addr>,
    /// Those of the running director's schedulers, otherwise those of the file.
    pub weights: Vec<Weights>,
    /// Send marked packets through the tunnel, and ask for the companions' metrics on this port.
    pub via: Option<u16>,
}

/// Looks at the host.
///
/// # Errors
/// The kernel does not answer.
pub(crate) async fn director(question: Question) -> Result<Director, HostError> {
    let netlink = Netlink::open()?;
    let Question { plan, file, running, servers, vips, weights, via } = question;
    let host = kernel::host(&netlink, plan.metrics).await?;
    let interfaces = netlink.interfaces().await?;
    let with_arp: Vec<Interface> = interfaces.iter().filter(|link| link.uses_arp).cloned().collect();
    let proxies = netlink.proxies().await?;
    let expected = |vip| arrives_on(&host, &plan, &with_arp, vip).into_iter().map(move |name| (vip, name));
    let mut found = Vec::new();
    for (address, name) in vips.into_iter().flat_map(expected) {
        let interface = interfaces.iter().find(|interface| interface.name == name);
        let index = interface.map(|interface| interface.index);
        let arrival = match (index, neighbour(&host, &name, address)) {
            (Some(index), Some(source)) => {
                Some(arrival(netlink.fate(address, source, index).await?, &interfaces))
            }
            _ => None,
        };
        let is_proxied = proxies.iter().any(|proxy| proxy.address == address && Some(proxy.index) == index);
        found.push(Vip {
            address,
            is_on_link: is_on_link(&host, &interfaces, &plan.interfaces, address),
            interface: name,
            arrival,
            is_local: host.owner(address).is_some(),
            is_proxied,
            answers: None,
        });
    }
    let mut reached = Vec::new();
    for (name, rip, path_mtu) in servers {
        let way = way_to(&netlink, rip).await;
        reached.push(Server { name, rip, way, path_mtu, mac: None, via: None });
    }
    let sockets = sockets::waiting();
    let mut facts = Director { host, plan, file, running, vips: found, servers: reached, weights, sockets };
    ask(&mut facts);
    if let Some(port) = via {
        via::through_the_tunnel(&mut facts, port);
    }
    // The answers may have taught the kernel a path MTU.
    for server in &mut facts.servers {
        let learned = netlink.route_to(server.rip.into()).await;
        if let (Ok(way), Ok(learned)) = (&mut server.way, learned) {
            way.path_mtu = learned.path_mtu;
        }
    }
    Ok(facts)
}

/// As `VipState::is_on_link` of the director.
fn is_on_link(host: &Host, interfaces: &[Interface], listed: &[String], vip: Ipv4Addr) -> bool {
    let uses_arp = |name: &str| interfaces.iter().any(|found| found.name == name && found.uses_arp);
    host.interfaces.iter().any(|found| {
        let has_vip = found.addresses.iter().any(|(own, _)| *own == vip);
        has_vip && (listed.contains(&found.name) || uses_arp(&found.name))
    })
}

/// The interfaces on which packets for the VIP are expected: those that have it as an address, if one of them is not in the
/// configuration, and otherwise those of the configuration.
fn arrives_on(host: &Host, plan: &DirectorPlan, with_arp: &[Interface], vip: Ipv4Addr) -> Vec<String> {
    let has_it = |name: &&String| {
        host.interface(name).is_some_and(|interface| interface.addresses.iter().any(|(own, _)| *own == vip))
    };
    let holders: Vec<String> =
        with_arp.iter().map(|interface| &interface.name).filter(has_it).cloned().collect();
    let is_elsewhere = holders.iter().any(|name| !plan.interfaces.contains(name));
    if is_elsewhere { holders } else { plan.interfaces.clone() }
}

fn arrival(fate: Fate, interfaces: &[Interface]) -> Arrival {
    match fate {
        Fate::Local => Arrival::Local,
        Fate::Refused(Errno::EXDEV) => Arrival::Filtered,
        Fate::Refused(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Arrival::NotForwarded,
        Fate::Refused(errno) => Arrival::Unknown(errno.desc().to_owned()),
        Fate::Forwarded(index) => match interfaces.iter().find(|interface| interface.index == index) {
            Some(interface) => Arrival::Device(interface.name.clone()),
            None => Arrival::Unknown(format!("to a device with index {index}, which no longer exists")),
        },
    }
}

/// An address that a client on the interface's own network could have.
fn neighbour(host: &Host, name: &str, vip: Ipv4Addr) -> Option<Ipv4Addr> {
    let interface = host.interface(name)?;
    let (own, length) = interface.addresses.iter().find(|(_, length)| (1..=30).contains(length))?;
    let network = u32::from(*own) & (u32::MAX << (32 - u32::from(*length)));
    let is_free = |address: &Ipv4Addr| *address != vip && host.owner(*address).is_none();
    // A /30 has two addresses, and one of them may be a VIP.
    (1..=16).map(|last| Ipv4Addr::from(network + last)).find(is_free)
}

/// The kernel's refusal in words.
async fn way_to(netlink: &Netlink, rip: Ipv4Addr) -> Result<Way, String> {
    let way = netlink.route_to(rip.into()).await.map_err(|error| match error {
        HostError::Netlink { errno, .. } => errno.desc().to_owned(),
        other => other.to_string(),
    })?;
    let ipv4 = |address: Option<IpAddr>| match address? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Ok(Way {
        interface: way.interface.name.clone(),
        is_local: way.is_local,
        gateway: ipv4(way.gateway),
        source: ipv4(way.source),
        path_mtu: way.path_mtu,
        is_answered: None,
        echo: Echo::Untried,
    })
}

/// ARP requests for the VIPs and the next hops, and pings, all at the same time.
fn ask(facts: &mut Director) {
    let mut asked: HashMap<String, Vec<Ipv4Addr>> = HashMap::new();
    for vip in &facts.vips {
        asked.entry(vip.interface.clone()).or_default().push(vip.address);
    }
    let mut paths = Vec::new();
    for server in &facts.servers {
        let Some(way) =
            server.way.as_ref().ok().filter(|way| !way.is_local && way.interface != facts.plan.tun)
        else {
            continue;
        };
        let hop = way.gateway.unwrap_or(server.rip);
        let targets = asked.entry(way.interface.clone()).or_default();
        if !targets.contains(&hop) {
            targets.push(hop);
        }
        paths.push((server.rip, way.path_mtu));
    }
    let source = |name: &str| {
        let interface = facts.host.interface(name);
        interface.and_then(|interface| interface.addresses.first()).map_or(Ipv4Addr::UNSPECIFIED, |own| own.0)
    };
    let (answers, echoes) = thread::scope(|scope| {
        let requests: Vec<_> = asked
            .iter()
            .map(|(name, targets)| (name, scope.spawn(move || arp::ask(name, source(name), targets))))
            .collect();
        let echoes = scope.spawn(|| echo::longest(&paths));
        let answers: HashMap<_, _> = requests
            .into_iter()
            .map(|(name, request)| (name.clone(), request.join().unwrap_or_default()))
            .collect();
        (answers, echoes.join().unwrap_or_default())
    });
    note(facts, &answers, &echoes);
}

type Answers = HashMap<String, Option<HashMap<Ipv4Addr, Vec<[u8; 6]>>>>;

fn note(facts: &mut Director, answers: &Answers, echoes: &HashMap<Ipv4Addr, Echo>) {
    let of = |interface: &str, address: Ipv4Addr| answers.get(interface)?.as_ref()?.get(&address).cloned();
    for vip in &mut facts.vips {
        vip.answers = of(&vip.interface, vip.address);
    }
    for server in &mut facts.servers {
        let Ok(way) = &mut server.way else { continue };
        let hop = of(&way.interface, way.gateway.unwrap_or(server.rip));
        way.is_answered = hop.as_ref().map(|macs| !macs.is_empty());
        way.echo = echoes.get(&server.rip).copied().unwrap_or(Echo::Untried);
        server.mac = hop.and_then(|macs| macs.first().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_the_lookup_is_a_neighbour_that_does_not_exist_here() {
        let vip = Ipv4Addr::new(10, 0, 0, 3);
        let of = |addresses: &[(Ipv4Addr, u8)]| {
            let name = "eth0".to_owned();
            let addresses = addresses.to_vec();
            let eth0 = crate::doctor::facts::Interface { name, addresses, ..Default::default() };
            neighbour(&Host { interfaces: vec![eth0], ..Host::default() }, "eth0", vip)
        };
        assert_eq!(of(&[(Ipv4Addr::new(10, 0, 0, 1), 24)]), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(
            of(&[(Ipv4Addr::new(10, 0, 0, 1), 24), (Ipv4Addr::new(10, 0, 0, 2), 32)]),
            Some(Ipv4Addr::new(10, 0, 0, 4))
        );
        assert_eq!(of(&[(vip, 32)]), None);
    }
}
