//! Links, addresses and routes of a namespace, over netlink; the only file of the lab that uses rtnetlink.
//!
//! A netlink socket belongs to the namespace of the thread that opened it, so each request opens its own
//! inside [`Namespace::run`]. The lab is built once, so speed does not matter here.

use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric, RouteScope};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute};
use rtnetlink::{Error, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{LabError, Namespace};

/// The counters of an interface, in packets and in bytes of its layer (including the Ethernet header on
/// veth).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets received.
    pub packets_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Packets transmitted.
    pub packets_transmitted: u64,
    /// Bytes transmitted.
    pub bytes_transmitted: u64,
}

/// One end of a veth pair.
pub(super) struct End<'a> {
    pub namespace: &'a Namespace,
    pub name: &'a str,
}

// linux/rtnetlink.h: RTAX_MTU, and its bit in RTAX_LOCK
const LOCK_MTU: u32 = 1 << 2;

/// A cable between two namespaces, this end up.
pub(super) fn connect(here: End, there: End, mtu: u32) -> Result<(), LabError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(there.name)
        .mtu(mtu)
        .setns_by_fd(there.namespace.file().as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(here.name)
        .mtu(mtu)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let what = format!("cannot connect {} to {}", here.namespace.name(), there.namespace.name());
    // The other end cannot be created up, because at that time it has no peer yet (ENOTCONN, veth_open()).
    request(here.namespace, what, |handle| async move { handle.link().add(message).execute().await })
}

pub(super) fn add_bridge(namespace: &Namespace, name: &str, mtu: u32) -> Result<(), LabError> {
    // A snooping bridge sends its own IGMP, which could be mistaken for traffic.
    let message = LinkBridge::new(name).mcast_snooping(false).mtu(mtu).up().build();
    let what = format!("cannot create the bridge {name} in {}", namespace.name());
    request(namespace, what, |handle| async move { handle.link().add(message).execute().await })
}

pub(super) fn attach_to_bridge(namespace: &Namespace, link: &str, bridge: &str) -> Result<(), LabError> {
    let what = format!("cannot attach {link} to the bridge {bridge} in {}", namespace.name());
    let (link, bridge) = (link.to_owned(), bridge.to_owned());
    request(namespace, what, |handle| async move {
        let controller = index(&handle, &bridge).await?;
        let link = index(&handle, &link).await?;
        let message = LinkUnspec::new_with_index(link).controller(controller).build();
        handle.link().set(message).execute().await
    })
}

pub(super) fn set_up(namespace: &Namespace, link: &str) -> Result<(), LabError> {
    change(namespace, link, "set up", |builder| builder.up())
}

pub(super) fn set_down(namespace: &Namespace, link: &str) -> Result<(), LabError> {
    change(namespace, link, "set down", |builder| builder.down())
}

pub(super) fn delete(namespace: &Namespace, link: &str) -> Result<(), LabError> {
    let what = format!("cannot delete {link} in {}", namespace.name());
    let link = link.to_owned();
    request(namespace, what, |handle| async move {
        let link = index(&handle, &link).await?;
        handle.link().del(link).execute().await
    })
}

/// Renames a link, which must be down for that before Linux 6.2 (dev_change_name()).
pub(super) fn rename(namespace: &Namespace, link: &str, name: &str) -> Result<(), LabError> {
    let to = name.to_owned();
    if change(namespace, link, "rename", |builder| builder.name(to)).is_ok() {
        return Ok(());
    }
    set_down(namespace, link)?;
    let to = name.to_owned();
    change(namespace, link, "rename", |builder| builder.name(to))?;
    set_up(namespace, name)
}

/// Waits until the kernel has noticed that the other end of the cable is up, which may take a second
/// (linkwatch_schedule_work()).
pub(super) fn wait_for_carrier(namespace: &Namespace, link: &str) -> Result<(), LabError> {
    const LOOKS: u32 = 300;
    const PAUSE: Duration = Duration::from_millis(10);
    let what = format!("cannot read the state of {link} in {}", namespace.name());
    for _ in 0..LOOKS {
        let link = link.to_owned();
        let message = request(namespace, what.clone(), |handle| async move { find(&handle, &link).await })?;
        if message.attributes.contains(&LinkAttribute::OperState(State::Up)) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(LabError::Netlink { what, reason: "it gets no carrier".to_owned() })
}

pub(super) fn mtu(namespace: &Namespace, link: &str) -> Result<u32, LabError> {
    let what = format!("cannot read the MTU of {link} in {}", namespace.name());
    let link = link.to_owned();
    let message = request(namespace, what, |handle| async move { find(&handle, &link).await })?;
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    Ok(mtu.unwrap_or(1500))
}

pub(super) fn set_mtu(namespace: &Namespace, link: &str, mtu: u32) -> Result<(), LabError> {
    change(namespace, link, "set the MTU of", move |builder| builder.mtu(mtu))
}

pub(super) fn add_address(
    namespace: &Namespace,
    link: &str,
    address: Ipv4Addr,
    prefix_length: u8,
) -> Result<(), LabError> {
    let what = format!("cannot add {address}/{prefix_length} to {link} in {}", namespace.name());
    let link = link.to_owned();
    request(namespace, what, |handle| async move {
        let link = index(&handle, &link).await?;
        handle.address().add(link, address.into(), prefix_length).execute().await
    })
}

pub(super) fn add_default_route(namespace: &Namespace, gateway: Ipv4Addr) -> Result<(), LabError> {
    let what = format!("cannot route {} through {gateway}", namespace.name());
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    request(namespace, what, |handle| async move { handle.route().add(route).execute().await })
}

/// Makes the path to one neighbour narrower than its link. When forwarding, the kernel obeys a route's MTU
/// only if it is locked (ip_dst_mtu_maybe_forward()).
pub(super) fn set_path_mtu(
    namespace: &Namespace,
    link: &str,
    destination: Ipv4Addr,
    mtu: u32,
) -> Result<(), LabError> {
    let what = format!("cannot set the MTU of the path to {destination} in {}", namespace.name());
    let link = link.to_owned();
    request(namespace, what, |handle| async move {
        let link = index(&handle, &link).await?;
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination, 32)
            .output_interface(link)
            .scope(RouteScope::Link);
        let metrics = vec![RouteMetric::Lock(LOCK_MTU), RouteMetric::Mtu(mtu)];
        builder.get_mut().attributes.push(RouteAttribute::Metrics(metrics));
        handle.route().add(builder.build()).replace().execute().await
    })
}

/// Drops every ICMP packet that the namespace would send or forward, before all other rules.
pub(super) fn eat_icmp(namespace: &Namespace) -> Result<(), LabError> {
    let what = format!("cannot filter ICMP in {}", namespace.name());
    request(namespace, what, |handle| async move {
        // Rules of equal preference are evaluated in the order of insertion, and `local` must stay first.
        let mut rule = handle.rule().add().v4().priority(1).action(RuleAction::Blackhole);
        rule.message_mut().attributes.push(RuleAttribute::IpProtocol(IpProtocol::Icmp));
        rule.execute().await
    })
}

pub(super) fn counters(namespace: &Namespace, link: &str) -> Result<Counters, LabError> {
    let what = format!("cannot read the counters of {link} in {}", namespace.name());
    let link = link.to_owned();
    let message = request(namespace, what, |handle| async move { find(&handle, &link).await })?;
    let statistics = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(statistics) => Some(statistics),
        _ => None,
    });
    Ok(statistics.map_or_else(Counters::default, |statistics| Counters {
        packets_received: statistics.rx_packets,
        bytes_received: statistics.rx_bytes,
        packets_transmitted: statistics.tx_packets,
        bytes_transmitted: statistics.tx_bytes,
    }))
}

pub(super) fn link_index(namespace: &Namespace, link: &str) -> Result<u32, LabError> {
    let what = format!("cannot find {link} in {}", namespace.name());
    let link = link.to_owned();
    request(namespace, what, |handle| async move { index(&handle, &link).await })
}

/// The names of all links.
pub(super) fn link_names(namespace: &Namespace) -> Result<Vec<String>, LabError> {
    let what = format!("cannot list the links of {}", namespace.name());
    request(namespace, what, |handle| async move {
        let links: Vec<_> = handle.link().get().execute().collect().await;
        let names = links.into_iter().filter_map(|link| name(link.ok()?)).collect();
        Ok(names)
    })
}

fn name(link: LinkMessage) -> Option<String> {
    link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}

fn change(
    namespace: &Namespace,
    link: &str,
    verb: &str,
    set: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> + Send + 'static,
) -> Result<(), LabError> {
    let what = format!("cannot {verb} {link} in {}", namespace.name());
    let link = link.to_owned();
    request(namespace, what, |handle| async move {
        let builder = LinkUnspec::new_with_index(index(&handle, &link).await?);
        handle.link().set(set(builder).build()).execute().await
    })
}

async fn index(handle: &Handle, link: &str) -> Result<u32, Error> {
    Ok(find(handle, link).await?.header.index)
}

async fn find(handle: &Handle, link: &str) -> Result<LinkMessage, Error> {
    let mut request = handle.link().get().match_name(link);
    request.message_mut().header.interface_family = AddressFamily::Unspec;
    first(request.execute()).await
}

async fn first(stream: impl Stream<Item = Result<LinkMessage, Error>>) -> Result<LinkMessage, Error> {
    std::pin::pin!(stream).next().await.unwrap_or(Err(Error::RequestFailed))
}

fn request<T: Send, F>(
    namespace: &Namespace,
    what: String,
    work: impl FnOnce(Handle) -> F + Send,
) -> Result<T, LabError>
where
    F: Future<Output = Result<T, Error>>,
{
    let result = namespace.run(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            work(handle).await.map_err(reason)
        })
    });
    result.map_err(|reason| LabError::Netlink { what, reason })
}

fn reason(error: Error) -> String {
    match error {
        Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}
