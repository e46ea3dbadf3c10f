//! A host's network settings, comparable: rules, routes, addresses, proxy neighbours, sysctls. No external program.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use lvs_tund::lab::{Host, Namespace};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, MacVlanMode};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteFlags, RouteMessage};
use rtnetlink::{
    Handle, IpVersion, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use crate::fixture::PATIENCE;

/// Lines, one per setting; compare them to see whether anything has changed.
pub type State = BTreeSet<String>;

/// Queries the kernel from within a host's namespace.
fn netlink<T: Send, F: Future<Output = T>>(host: &Host, work: impl FnOnce(Handle) -> F + Send) -> T {
    netlink_in(&host.namespace, work)
}

fn netlink_in<T: Send, F: Future<Output = T>>(
    namespace: &Namespace,
    work: impl FnOnce(Handle) -> F + Send,
) -> T {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
            tokio::spawn(connection);
            work(handle).await
        })
    })
}

/// Rules in the kernel's order, routes of all tables, addresses.
pub fn ways(host: &Host) -> State {
    netlink(host, |handle| async move {
        let mut lines = State::new();
        let rules: Vec<_> = handle.rule().get(IpVersion::V4).execute().try_collect().await.expect("rules");
        for (place, rule) in rules.iter().enumerate() {
            lines.insert(format!("rule {place} {rule:?}"));
        }
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        let routes: Vec<_> = handle.route().get(question).execute().try_collect().await.expect("routes");
        for mut route in routes {
            // carrier comes some time after a link is set up
            route.header.flags.remove(RouteFlags::Linkdown);
            lines.insert(format!("route {route:?}"));
        }
        let addresses: Vec<_> = handle.address().get().execute().try_collect().await.expect("addresses");
        for mut address in addresses {
            // creation and change times
            address.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::CacheInfo(_)));
            lines.insert(format!("address {address:?}"));
        }
        lines
    })
}

/// Proxy neighbours.
pub fn proxies(host: &Host) -> State {
    netlink(host, |handle| async move {
        let proxies = handle.neighbours().get().proxies().set_address_family(AddressFamily::Inet);
        let proxies: Vec<_> = proxies.execute().try_collect().await.expect("proxy neighbours");
        proxies.iter().map(|proxy| format!("proxy {proxy:?}")).collect()
    })
}

/// Every readable setting under `net/ipv4`, but those of the kernel's own bookkeeping.
pub fn sysctls(host: &Host) -> State {
    host.run(|| {
        let mut lines = State::new();
        read_tree(Path::new("/proc/sys/net/ipv4"), &mut lines);
        lines
    })
}

/// All of it.
pub fn state(host: &Host) -> State {
    ways(host).into_iter().chain(proxies(host)).chain(sysctls(host)).collect()
}

fn read_tree(folder: &Path, lines: &mut State) {
    for entry in fs::read_dir(folder).expect("because /proc/sys is always there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_tree(&path, lines);
        } else if let Ok(text) = fs::read_to_string(&path) {
            lines.insert(format!("{} = {}", path.display(), text.trim()));
        }
    }
}

/// Fails with the lines that came and went.
pub fn assert_same(before: &State, after: &State, what: &str) {
    let gone: Vec<_> = before.difference(after).collect();
    let new: Vec<_> = after.difference(before).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what}: gone {gone:#?}, new {new:#?}");
}

/// Adds an address to any interface of a host, as keepalived would.
pub fn add_address(host: &Host, interface: &str, address: Ipv4Addr) {
    netlink(host, |handle| async move {
        let index = index_of(&handle, interface).await;
        handle.address().add(index, address.into(), 32).execute().await.expect("a new address");
    });
}

/// Takes an address from a host.
pub fn delete_address(host: &Host, address: Ipv4Addr) {
    netlink(host, |handle| async move {
        let mut found = handle.address().get().set_address_filter(IpAddr::V4(address)).execute();
        let message = found.try_next().await.expect("addresses").expect("the address to delete");
        handle.address().del(message).execute().await.expect("a deletion");
    });
}

/// Routes a prefix by a gateway.
pub fn add_route_by(host: &Host, destination: Ipv4Addr, prefix_length: u8, gateway: Ipv4Addr) {
    netlink(host, |handle| async move {
        let route = RouteMessageBuilder::<Ipv4Addr>::new();
        let route = route.destination_prefix(destination, prefix_length).gateway(gateway).build();
        handle.route().add(route).execute().await.expect("a new route");
    });
}

/// Routes one address by a device.
pub fn add_route_dev(host: &Host, destination: Ipv4Addr, interface: &str) {
    netlink(host, |handle| async move {
        let index = index_of(&handle, interface).await;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination, 32);
        let route = route.output_interface(index).build();
        handle.route().add(route).execute().await.expect("a new route");
    });
}

/// The Ethernet address of an interface.
pub fn mac_of(host: &Host, interface: &str) -> Vec<u8> {
    netlink(host, |handle| async move {
        let mut found = handle.link().get().match_name(interface.to_owned()).execute();
        let link = found.try_next().await.expect("links").expect("the interface");
        let mac = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => Some(mac),
            _ => None,
        });
        mac.expect("an Ethernet address")
    })
}

/// Makes a host send to an address without asking who has it.
pub fn add_neighbour(host: &Host, interface: &str, address: Ipv4Addr, mac: &[u8]) {
    netlink(host, |handle| async move {
        let index = index_of(&handle, interface).await;
        let neighbour = handle.neighbours().add(index, address.into()).link_layer_address(mac);
        neighbour.replace().execute().await.expect("a new neighbour");
    });
}

/// Sets an interface down.
pub fn set_down(host: &Host, interface: &str) {
    change_link(host, interface, |link| link.down());
}

/// Lets the switch drop longer packets to the host whose port this is, without a word.
pub fn narrow_port(switch: &Namespace, port: &str, mtu: u32) {
    netlink_in(switch, |handle| async move {
        let message = LinkUnspec::new_with_name(port).mtu(mtu).build();
        handle.link().set(message).execute().await.expect("another MTU");
    });
}

/// Gives an interface another name while it is up, which Linux allows since 6.2.
pub fn rename_link(host: &Host, interface: &str, name: &str) {
    change_link(host, interface, |link| link.name(name.to_owned()));
}

/// Adds a device of another program.
pub fn add_bridge(host: &Host, name: &str) {
    netlink(host, |handle| async move {
        handle.link().add(LinkBridge::new(name).build()).execute().await.expect("a new bridge");
    });
}

type LinkBuilder = LinkMessageBuilder<LinkUnspec>;

fn change_link(host: &Host, interface: &str, change: impl FnOnce(LinkBuilder) -> LinkBuilder + Send) {
    netlink(host, |handle| async move {
        let builder = LinkUnspec::new_with_index(index_of(&handle, interface).await);
        handle.link().set(change(builder).build()).execute().await.expect("another link");
    });
}

/// Removes an interface, as an administrator may by mistake.
pub fn delete_link(host: &Host, interface: &str) {
    netlink(host, |handle| async move {
        let index = index_of(&handle, interface).await;
        handle.link().del(index).execute().await.expect("a deletion");
    });
}

/// A cable between two hosts: the name, the address and its /24 of each end.
pub fn connect(here: &Host, near: (&str, Ipv4Addr), there: &Host, far: (&str, Ipv4Addr)) {
    let file = fs::File::open(there.namespace.path()).expect("the other host's namespace");
    netlink(here, |handle| async move {
        let peer = LinkUnspec::new_with_name(far.0).setns_by_fd(file.as_raw_fd()).build();
        let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(near.0.to_owned())
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        handle.link().add(veth.build()).execute().await.expect("a cable");
        let index = index_of(&handle, near.0).await;
        handle.address().add(index, near.1.into(), 24).execute().await.expect("an address");
    });
    netlink(there, |handle| async move {
        handle
            .link()
            .set(LinkUnspec::new_with_name(far.0).up().build())
            .execute()
            .await
            .expect("the far end");
        let index = index_of(&handle, far.0).await;
        handle.address().add(index, far.1.into(), 24).execute().await.expect("an address");
    });
}

/// A macvlan device as `use_vmac` of keepalived makes it, up.
pub fn add_macvlan(host: &Host, below: &str, name: &str, mac: [u8; 6]) {
    netlink(host, |handle| async move {
        let index = index_of(&handle, below).await;
        let link = LinkMacVlan::new(name, index, MacVlanMode::Private).address(mac.to_vec()).up().build();
        handle.link().add(link).execute().await.expect("a macvlan device");
    });
}

/// The Ethernet address that a host has learned for a neighbour.
pub fn neighbour(host: &Host, address: Ipv4Addr) -> Option<Vec<u8>> {
    netlink(host, |handle| async move {
        let found: Vec<_> = handle.neighbours().get().execute().try_collect().await.expect("neighbours");
        let is_it = |neighbour: &&NeighbourMessage| {
            neighbour.attributes.contains(&NeighbourAttribute::Destination(NeighbourAddress::Inet(address)))
        };
        found.iter().find(is_it)?.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
            _ => None,
        })
    })
}

/// Waits for an interface that a daemon is about to make again.
async fn index_of(handle: &Handle, name: &str) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut found = handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(Some(link)) => return link.header.index,
            missing => assert!(Instant::now() < deadline, "{name}: {missing:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}
