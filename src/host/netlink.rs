//! Queries and changes through rtnetlink: only those that the two roles need.
//!
//! The kernel acknowledges every change (NLM_F_ACK), so an error is the kernel's own. The kernel filters
//! dumps (NETLINK_GET_STRICT_CHK, Linux 4.20), so a router's full table is not copied here.

mod look;
mod loss;
mod message;
pub mod rule;
mod table;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressMessage, AddressScope};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, LinkUnspec};
use tokio::task::JoinHandle;

use super::PROTOCOL;
use super::error::HostError;
pub use look::Fate;
pub(super) use message::{RouteKey, address_of, interface_of, ip_of, route_key, route_of};
use message::{host_route, proxy_of, route_question};

/// The kernel answers within its system call; this is for an answer that was lost.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// `rtnetlink.h` RT_TABLE_MAIN.
pub const TABLE_MAIN: u32 = 254;

/// A connection to the kernel's network configuration, in the network namespace of the thread that opened it.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
    // Never read: dropping the last clone ends the connection's task.
    _task: Arc<Task>,
}

/// A task that ends with its owner.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The present state of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// IFLA_IFNAME; may change while [`Interface::index`] does not.
    pub name: String,
    /// Unique in the network namespace; a device that is created again under its old name gets another.
    pub index: u32,
    /// In bytes of an IP packet.
    pub mtu: u32,
    /// `None` for a link without an Ethernet address, such as a TUN device.
    pub mac: Option<[u8; 6]>,
    /// Administratively up, and the peer is present (IFF_UP, IFF_LOWER_UP).
    pub is_up: bool,
    /// Neighbours find the device's addresses by ARP (neither IFF_LOOPBACK nor IFF_NOARP).
    pub uses_arp: bool,
}

/// How the kernel would route a packet of this host's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTo {
    /// As queried, not the prefix of the route found.
    pub destination: IpAddr,
    /// The destination is an address of this host.
    pub is_local: bool,
    /// The source address the kernel would choose.
    pub source: Option<IpAddr>,
    /// `None` on the link: ARP then looks for the destination itself.
    pub gateway: Option<IpAddr>,
    /// The device on which the packet would leave.
    pub interface: Interface,
    /// Bytes: the path MTU that the kernel has learned or that the route sets, otherwise the device's MTU.
    pub path_mtu: u32,
}

/// A route through a certain device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// 0.0.0.0 for a default route, which has no such attribute.
    pub destination: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
    /// RTA_TABLE, because the header has room for 8 bits only.
    pub table: u32,
    /// Of the device; 0 for a route without one, such as a blackhole, or with several next hops.
    pub index: u32,
    /// Who made it, as in `ip route show proto`; [`PROTOCOL`] for a daemon of this program.
    pub protocol: u8,
}

/// A proxy neighbour entry (`ip neigh show proxy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyEntry {
    /// The host answers ARP requests for it.
    pub address: Ipv4Addr,
    /// The interface on which the host answers.
    pub index: u32,
    /// NDA_PROTOCOL; 0 if the entry was made without one.
    pub protocol: u8,
}

impl Netlink {
    /// Opens the connection; its task runs on the current tokio runtime.
    pub fn open() -> Result<Netlink, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
            .map_err(|error| HostError::from_io("open a netlink socket", &error))?;
        let task = Arc::new(Task(tokio::spawn(connection)));
        Ok(Netlink { handle, _task: task })
    }

    /// Looks up an interface by name; [`HostError::NoInterface`] if there is none.
    pub async fn interface(&self, name: &str) -> Result<Interface, HostError> {
        let mut links = self.handle.link().get().match_name(name).execute();
        match answered(&format!("look up interface {name}"), links.try_next()).await {
            Ok(Some(link)) => Ok(interface_of(&link)),
            Ok(None) => Err(HostError::NoInterface(name.to_owned())),
            Err(error) if error.is_gone() => Err(HostError::NoInterface(name.to_owned())),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn interface_of_index(&self, index: u32) -> Result<Interface, HostError> {
        let what = || format!("look up the interface with index {index}");
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = answered(&what(), links.try_next()).await?;
        let gone = || HostError::Netlink { what: what(), errno: Errno::ENODEV };
        link.as_ref().map(interface_of).ok_or_else(gone)
    }

    /// Sets IFF_UP, as `ip link set up` does.
    pub async fn set_up(&self, index: u32) -> Result<(), HostError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        answered(
            &format!("set up the interface with index {index}"),
            self.handle.link().set(message).execute(),
        )
        .await
    }

    /// Renames an interface, as `ip link set name` does.
    pub async fn rename(&self, index: u32, name: &str) -> Result<(), HostError> {
        let message = LinkUnspec::new_with_index(index).name(name.to_owned()).build();
        answered(
            &format!("rename the interface with index {index} to {name}"),
            self.handle.link().set(message).execute(),
        )
        .await
    }

    /// Clears IFF_UP, as `ip link set down` does.
    pub async fn set_down(&self, index: u32) -> Result<(), HostError> {
        let message = LinkUnspec::new_with_index(index).down().build();
        answered(
            &format!("set down the interface with index {index}"),
            self.handle.link().set(message).execute(),
        )
        .await
    }

    /// The addresses of one interface, with their prefix lengths.
    pub async fn addresses(&self, index: u32) -> Result<Vec<(IpAddr, u8)>, HostError> {
        let mut request = self.handle.address().get().set_link_index_filter(index);
        request.message_mut().header.index = index;
        let found: Vec<AddressMessage> = collected("list addresses", request.execute()).await?;
        Ok(found.iter().filter_map(address_of).collect())
    }

    /// Adds an address to the interface with this index; fails with EEXIST if it has the address.
    pub async fn add_address(
        &self,
        address: Ipv4Addr,
        prefix_len: u8,
        index: u32,
        scope: AddressScope,
    ) -> Result<(), HostError> {
        let mut request = self.handle.address().add(index, address.into(), prefix_len);
        request.message_mut().header.scope = scope;
        answered(&format!("add address {address}/{prefix_len}"), request.execute()).await
    }

    /// Deletes an address; fails with EADDRNOTAVAIL if the interface does not have it.
    pub async fn delete_address(
        &self,
        address: Ipv4Addr,
        prefix_len: u8,
        index: u32,
    ) -> Result<(), HostError> {
        let request = self.handle.address().add(index, address.into(), prefix_len).message_mut().clone();
        answered(
            &format!("delete address {address}/{prefix_len}"),
            self.handle.address().del(request).execute(),
        )
        .await
    }

    /// The IPv4 routes of any table through the device with this index.
    pub async fn routes_by(&self, index: u32) -> Result<Vec<Route>, HostError> {
        let mut question = route_question();
        question.attributes.push(RouteAttribute::Oif(index));
        let found = collected("list routes", self.handle.route().get(question).execute()).await;
        existing(found.map(|routes| routes.iter().filter_map(route_of).collect()))
    }

    /// The IPv4 routes of one table.
    pub async fn routes_in(&self, table: u32) -> Result<Vec<Route>, HostError> {
        let mut question = route_question();
        question.attributes.push(RouteAttribute::Table(table));
        let found = collected("list routes", self.handle.route().get(question).execute()).await;
        existing(found.map(|routes| routes.iter().filter_map(route_of).collect()))
    }

    /// Adds `destination`/32 through the device with this index, scope link, protocol [`PROTOCOL`].
    pub async fn add_route(&self, destination: Ipv4Addr, table: u32, index: u32) -> Result<(), HostError> {
        answered(
            &format!("add route {destination}/32 to table {table}"),
            self.handle.route().add(host_route(destination, table, index)).execute(),
        )
        .await
    }

    /// Deletes a route that [`Netlink::add_route`] made; one of another protocol does not match.
    pub async fn delete_route(&self, destination: Ipv4Addr, table: u32, index: u32) -> Result<(), HostError> {
        answered(
            &format!("delete route {destination}/32 from table {table}"),
            self.handle.route().del(host_route(destination, table, index)).execute(),
        )
        .await
    }

    /// How the kernel would route a packet to `destination` (RTM_GETROUTE, as `ip route get`).
    pub async fn route_to(&self, destination: IpAddr) -> Result<RouteTo, HostError> {
        let what = || format!("find a route to {destination}");
        let reply = self.lookup(destination, RouteFlags::empty()).await?;
        let index = reply.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let index = index.ok_or_else(|| HostError::Netlink { what: what(), errno: Errno::EHOSTUNREACH })?;
        let interface = self.interface_of_index(index).await?;
        let mut found = RouteTo {
            destination,
            is_local: reply.header.kind == RouteType::Local,
            source: None,
            gateway: None,
            path_mtu: interface.mtu,
            interface,
        };
        for attribute in &reply.attributes {
            match attribute {
                RouteAttribute::PrefSource(address) => found.source = ip_of(address),
                RouteAttribute::Gateway(address) => found.gateway = ip_of(address),
                RouteAttribute::Metrics(metrics) => {
                    let mtu = metrics
                        .iter()
                        .find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
                    found.path_mtu = mtu.unwrap_or(found.path_mtu).min(found.interface.mtu);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether the host would accept a packet for `address` as its own, also because of a `local` route
    /// without an address.
    pub async fn is_local(&self, address: Ipv4Addr) -> Result<bool, HostError> {
        match self.lookup(address.into(), RouteFlags::empty()).await {
            Ok(reply) => Ok(reply.header.kind == RouteType::Local),
            Err(HostError::Netlink {
                errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the route to `address` carries [`PROTOCOL`], or `address` is one of this host's.
    pub(super) async fn is_captured_or_local(&self, address: Ipv4Addr) -> Result<bool, HostError> {
        match self.lookup(address.into(), RouteFlags::FibMatch).await {
            Ok(reply) => {
                Ok(reply.header.kind == RouteType::Local || u8::from(reply.header.protocol) == PROTOCOL)
            }
            Err(HostError::Netlink { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The device of a route for this address alone in table main, such as another program's route for a VIP; an empty
    /// name if the route has none. A route with a metric does not count, because one without is used first.
    pub async fn own_route(&self, address: Ipv4Addr) -> Result<Option<String>, HostError> {
        let found = match self.lookup(address.into(), RouteFlags::FibMatch).await {
            Ok(found) => found,
            Err(HostError::Netlink { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (_, prefix_len, tos, priority) = route_key(&found);
        let Some(route) = route_of(&found).filter(|route| route.table == TABLE_MAIN) else { return Ok(None) };
        if (prefix_len, tos, priority) != (32, 0, 0) {
            return Ok(None);
        }
        Ok(Some(
            self.interface_if_any(route.index).await?.map(|interface| interface.name).unwrap_or_default(),
        ))
    }

    async fn lookup(&self, destination: IpAddr, flags: RouteFlags) -> Result<RouteMessage, HostError> {
        let what = || format!("find a route to {destination}");
        let mut question = route_question();
        question.header.flags = flags | RouteFlags::LookupTable;
        if destination.is_ipv6() {
            question.header.address_family = AddressFamily::Inet6;
        }
        question.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        question.attributes.push(RouteAttribute::Destination(destination.into()));
        let mut routes = self.handle.route().get(question).execute();
        let reply = answered(&what(), routes.try_next()).await?;
        reply.ok_or_else(|| HostError::Connection {
            what: what(),
            why: "the kernel gave no answer".to_owned(),
        })
    }

    /// The IPv4 rules in the order in which the kernel evaluates them.
    pub async fn rules(&self) -> Result<Vec<RuleMessage>, HostError> {
        collected("list rules", self.handle.rule().get(IpVersion::V4).execute()).await
    }

    /// Adds a rule after those of the same preference, even if an equal one exists.
    pub async fn add_rule(&self, rule: RuleMessage) -> Result<(), HostError> {
        // The library's `rule().add()` refuses duplicates (NLM_F_EXCL).
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRule(rule));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        self.acknowledged("add a rule", request).await
    }

    /// Deletes the first rule that matches this one.
    pub async fn delete_rule(&self, rule: RuleMessage) -> Result<(), HostError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelRule(rule));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.acknowledged("delete a rule", request).await
    }

    async fn acknowledged(
        &self,
        what: &str,
        request: NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(), HostError> {
        let mut handle = self.handle.clone();
        let answers = handle.request(request).map_err(|error| HostError::from_netlink(what, error))?;
        let acknowledgement = answers
            .filter_map(|answer| async move {
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        Some(Err(rtnetlink::Error::NetlinkError(error)))
                    }
                    _ => None,
                }
            })
            .try_collect();
        answered(what, acknowledgement).await
    }

    /// The IPv4 proxy neighbours of every interface.
    pub async fn proxies(&self) -> Result<Vec<ProxyEntry>, HostError> {
        let request = self.handle.neighbours().get().proxies().set_address_family(AddressFamily::Inet);
        let found = collected("list proxy neighbours", request.execute()).await?;
        Ok(found.iter().filter_map(proxy_of).collect())
    }

    /// Makes the host answer ARP for `address` on the interface with this index; protocol [`PROTOCOL`].
    pub async fn add_proxy(&self, address: Ipv4Addr, index: u32) -> Result<(), HostError> {
        let mut request = self.handle.neighbours().add(index, address.into()).flags(NeighbourFlags::Proxy);
        request.message_mut().attributes.push(NeighbourAttribute::Protocol(PROTOCOL.into()));
        answered(&format!("add proxy neighbour {address}"), request.execute()).await
    }

    /// Stops answering ARP for `address`; fails with ENOENT if the host did not.
    pub async fn delete_proxy(&self, address: Ipv4Addr, index: u32) -> Result<(), HostError> {
        let mut request = self.handle.neighbours().add(index, address.into()).flags(NeighbourFlags::Proxy);
        let message = request.message_mut().clone();
        answered(
            &format!("delete proxy neighbour {address}"),
            self.handle.neighbours().del(message).execute(),
        )
        .await
    }
}

async fn collected<T>(
    what: &str,
    answers: impl futures_util::Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, HostError> {
    answered(what, answers.try_collect()).await
}

/// Waits for an answer. One that never comes must not block the daemon, which would miss signals.
async fn answered<T>(
    what: &str,
    answer: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, HostError> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(answer) => answer.map_err(|error| HostError::from_netlink(what, error)),
        Err(_) => Err(HostError::Connection {
            what: what.to_owned(),
            why: format!("the kernel gave no answer within {} s", ANSWER_MAX.as_secs()),
        }),
    }
}

/// A missing table or device counts as empty.
fn existing<T>(found: Result<Vec<T>, HostError>) -> Result<Vec<T>, HostError> {
    match found {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        found => found,
    }
}
