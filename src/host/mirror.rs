//! A copy of the routes of table main that differs in one metric, the announced MSS. Pure.
//!
//! ```text
//! main                                          copy
//! default via 172.25.3.254 dev eth0             the same, advmss 1440
//! 172.25.3.0/24 dev eth0 scope link             the same, advmss 1440
//! blackhole 10.0.0.0/8                          throw 10.0.0.0/8: continue in main
//! ```
//!
//! A destination that main has and the copy lacks would follow a shorter prefix. So every route that is not
//! unicast, or that the kernel would not accept a second time, becomes a `throw` route: the lookup leaves the
//! table there and continues in main.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags, RouteScope,
    RouteType, RouteVia,
};

use super::PROTOCOL;
use super::netlink::{Interface, RouteKey, ip_of, route_key};

/// The known devices by index.
pub type Interfaces = BTreeMap<u32, Interface>;

/// Maximum number of copied routes. A typical server has a few, one with containers some hundred; a host with
/// more is a router. Copying only a part would be wrong: see above.
pub const ROUTES_MAX: usize = 1024;

/// One route of the copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// In the form that [`normal`] returns.
    message: RouteMessage,
    /// Where the copy is; main, where the route comes from, is not changed.
    pub table: u32,
    /// The arguments of `ip route add` that make this route.
    pub words: String,
}

impl PartialEq for Copied {
    fn eq(&self, other: &Copied) -> bool {
        // The words contain device names, which may change while the route does not.
        self.table == other.table && self.message == other.message
    }
}

impl Eq for Copied {}

/// Equal routes have the same table and key.
impl std::hash::Hash for Copied {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.table, self.key()).hash(state);
    }
}

impl Copied {
    fn new(message: RouteMessage, table: u32, interfaces: &Interfaces) -> Copied {
        let words = words(&message, table, interfaces);
        Copied { message, table, words }
    }

    /// Identifies the route within its table, as the kernel does when it replaces one.
    pub fn key(&self) -> RouteKey {
        route_key(&self.message)
    }

    /// Whether a dump of the table shows this route.
    pub fn is(&self, dumped: &RouteMessage) -> bool {
        self.message == normal(dumped)
    }

    /// The request that makes the route.
    pub fn message(&self) -> RouteMessage {
        in_table(self.message.clone(), self.table)
    }

    /// The `throw` route that replaces it.
    pub fn throw(&self) -> RouteMessage {
        in_table(throw(&self.message), self.table)
    }
}

/// The message that deletes a dumped route from the table.
pub fn deletion(dumped: &RouteMessage, table: u32) -> RouteMessage {
    in_table(normal(dumped), table)
}

/// The copy of `main` for a table: `mss` on every route, lowered if `is_capped` to what the kernel would
/// announce for the route's own devices and metrics, and never above an MSS that the route already had.
///
/// Routes on the link come first, because gateways are resolved through them.
pub fn copies(
    main: &[RouteMessage],
    table: u32,
    mss: u16,
    is_capped: bool,
    interfaces: &Interfaces,
) -> Vec<Copied> {
    let mut by_key = BTreeMap::new();
    for route in main.iter().filter(|route| !route.header.flags.contains(RouteFlags::Dead)) {
        // The kernel uses the first of several routes with the same key.
        by_key.entry(route_key(route)).or_insert(route);
    }
    let copy = |route: &RouteMessage| {
        if route.header.kind != RouteType::Unicast {
            return throw(route);
        }
        let own = if is_capped { announced_by_itself(route, interfaces) } else { u32::MAX };
        with_mss(normal(route), own.min(mss.into()))
    };
    let mut copies: Vec<Copied> =
        by_key.into_values().map(|route| Copied::new(copy(route), table, interfaces)).collect();
    copies.sort_by_key(|copied| u8::MAX - u8::from(copied.message.header.scope));
    copies
}

/// The indices of the devices that a route uses.
pub fn devices(route: &RouteMessage) -> impl Iterator<Item = u32> {
    route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    })
}

/// A route in canonical order, without its table and without the state that the kernel reports.
fn normal(route: &RouteMessage) -> RouteMessage {
    let mut route = route.clone();
    // The kernel reports the other flags but does not accept them: it refuses a route with `Dead` or
    // `Linkdown` (fib_create_info()).
    route.header.flags &= RouteFlags::Onlink;
    route.header.table = 0;
    route.header.protocol = PROTOCOL.into();
    // A next hop object replaces all of these, and the kernel refuses both together (rtm_to_fib_config()).
    let has_object = route.attributes.iter().any(|a| matches!(a, RouteAttribute::NhId(_)));
    if has_object {
        route.header.flags = RouteFlags::empty();
    }
    route.attributes.retain(|attribute| match attribute {
        RouteAttribute::Table(_) | RouteAttribute::CacheInfo(_) => false,
        RouteAttribute::Gateway(_)
        | RouteAttribute::Via(_)
        | RouteAttribute::Oif(_)
        | RouteAttribute::MultiPath(_)
        | RouteAttribute::EncapType(_)
        | RouteAttribute::Encap(_) => !has_object,
        _ => true,
    });
    for attribute in &mut route.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                hops.iter_mut().for_each(|hop| hop.flags &= RouteNextHopFlags::Onlink);
            }
            RouteAttribute::Metrics(metrics) => metrics.sort_by_key(Nla::kind),
            _ => {}
        }
    }
    route.attributes.sort_by_key(Nla::kind);
    route
}

fn throw(route: &RouteMessage) -> RouteMessage {
    let mut throw = normal(route);
    throw.header.kind = RouteType::Throw;
    throw.header.scope = RouteScope::Universe;
    throw.header.flags = RouteFlags::empty();
    throw.attributes.retain(|a| matches!(a, RouteAttribute::Destination(_) | RouteAttribute::Priority(_)));
    throw
}

fn with_mss(mut route: RouteMessage, mss: u32) -> RouteMessage {
    let mut metrics = metrics(&route).to_vec();
    let own = metrics
        .iter()
        .find_map(|metric| if let RouteMetric::Advmss(own) = metric { Some(*own) } else { None });
    metrics.retain(|metric| !matches!(metric, RouteMetric::Advmss(_)));
    metrics.push(RouteMetric::Advmss(own.unwrap_or(mss).min(mss)));
    metrics.sort_by_key(Nla::kind);
    route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Metrics(_)));
    route.attributes.push(RouteAttribute::Metrics(metrics));
    route.attributes.sort_by_key(Nla::kind);
    route
}

/// The MSS that the kernel announces on a route without the metric (ipv4_default_advmss()).
fn announced_by_itself(route: &RouteMessage, interfaces: &Interfaces) -> u32 {
    /// The IPv4 and the TCP header.
    const HEADERS: u32 = 40;
    let devices = devices(route).filter_map(|index| interfaces.get(&index)).map(|interface| interface.mtu);
    let metrics =
        metrics(route).iter().filter_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
    devices.chain(metrics).min().map_or(u32::MAX, |mtu| mtu.saturating_sub(HEADERS))
}

fn metrics(route: &RouteMessage) -> &[RouteMetric] {
    let found = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics.as_slice()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn in_table(mut route: RouteMessage, table: u32) -> RouteMessage {
    route.attributes.push(RouteAttribute::Table(table));
    route
}

/// A route in the words of `ip route`, as far as a reader needs them.
fn words(route: &RouteMessage, table: u32, interfaces: &Interfaces) -> String {
    let (destination, prefix_len, tos, priority) = route_key(route);
    let mut words = if route.header.kind == RouteType::Throw { "throw ".to_owned() } else { String::new() };
    match prefix_len {
        0 => words.push_str("default"),
        32 => drop(write!(words, "{destination}")),
        _ => drop(write!(words, "{destination}/{prefix_len}")),
    }
    if tos > 0 {
        let _ = write!(words, " tos {tos:#04x}");
    }
    if priority > 0 {
        let _ = write!(words, " metric {priority}");
    }
    for attribute in &route.attributes {
        let _ = match attribute {
            RouteAttribute::PrefSource(address) => write_ip(&mut words, "src", address),
            RouteAttribute::NhId(id) => write!(words, " nhid {id}"),
            RouteAttribute::MultiPath(hops) => hops.iter().try_for_each(|hop| {
                words.push_str(" nexthop");
                write_hop(&mut words, &hop.attributes, hop.interface_index, interfaces)?;
                // rtnh_hops counts from 0 (fib_nexthop_info)
                write!(words, " weight {}", u32::from(hop.hops) + 1)
            }),
            _ => Ok(()),
        };
    }
    let oif = devices(route).next().filter(|_| !words.contains(" nexthop"));
    let _ = write_hop(&mut words, &route.attributes, oif.unwrap_or(0), interfaces);
    if route.header.scope == RouteScope::Link {
        words.push_str(" scope link");
    }
    if route.header.flags.contains(RouteFlags::Onlink) {
        words.push_str(" onlink");
    }
    let _ = write!(words, " table {table}");
    for metric in metrics(route) {
        let _ = match metric {
            RouteMetric::Mtu(mtu) => write!(words, " mtu {mtu}"),
            RouteMetric::Advmss(mss) => write!(words, " advmss {mss}"),
            RouteMetric::InitCwnd(segments) => write!(words, " initcwnd {segments}"),
            RouteMetric::InitRwnd(segments) => write!(words, " initrwnd {segments}"),
            _ => Ok(()),
        };
    }
    words
}

fn write_ip(words: &mut String, name: &str, address: &RouteAddress) -> std::fmt::Result {
    ip_of(address).map_or(Ok(()), |address| write!(words, " {name} {address}"))
}

fn write_hop(
    words: &mut String,
    attributes: &[RouteAttribute],
    index: u32,
    interfaces: &Interfaces,
) -> std::fmt::Result {
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => write_ip(words, "via", address)?,
            RouteAttribute::Via(RouteVia::Inet6(address)) => {
                write!(words, " via inet6 {}", IpAddr::V6(*address))?;
            }
            _ => {}
        }
    }
    interfaces.get(&index).map_or(Ok(()), |interface| write!(words, " dev {}", interface.name))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TABLE: u32 = 7691;

    fn route(prefix_len: u8, kind: RouteType, attributes: &[RouteAttribute]) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = prefix_len;
        route.header.kind = kind;
        route.header.table = 254;
        route.attributes = attributes.to_vec();
        route.attributes.push(RouteAttribute::Table(254));
        route
    }

    fn by(last: u8) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn words_of(main: &[RouteMessage], is_capped: bool) -> Vec<String> {
        let eth0 =
            Interface { name: "eth0".into(), index: 2, mtu: 1400, mac: None, is_up: true, uses_arp: true };
        let copies = copies(main, TABLE, 1440, is_capped, &Interfaces::from([(2, eth0)]));
        copies.into_iter().map(|copied| copied.words).collect()
    }

    #[test]
    fn of_several_routes_with_one_key_the_first_living_one_is_copied() {
        let mut dead = route(0, RouteType::Unicast, &[by(1)]);
        dead.header.flags = RouteFlags::Dead;
        let others = [2, 3].map(|last| route(0, RouteType::Unicast, &[by(last)]));
        let backup = route(0, RouteType::Unicast, &[RouteAttribute::Priority(9), by(4)]);
        let [first, second] = others;
        assert_eq!(
            words_of(&[dead, first, second, backup], false),
            [
                "default via 10.0.0.2 table 7691 advmss 1440",
                "default metric 9 via 10.0.0.4 table 7691 advmss 1440"
            ]
        );
    }

    #[test]
    fn an_mss_is_lowered_and_never_raised() {
        let with = |metrics: &[RouteMetric]| {
            route(
                0,
                RouteType::Unicast,
                &[by(1), RouteAttribute::Oif(2), RouteAttribute::Metrics(metrics.to_vec())],
            )
        };
        let mss = |metrics: &[RouteMetric], is_capped| {
            let words = words_of(&[with(metrics)], is_capped).remove(0);
            words.rsplit(' ').next().and_then(|mss| mss.parse::<u32>().ok())
        };
        assert_eq!((mss(&[], false), mss(&[], true)), (Some(1440), Some(1360)));
        assert_eq!(mss(&[RouteMetric::Advmss(500)], false), Some(500));
        assert_eq!(mss(&[RouteMetric::Advmss(9000)], false), Some(1440));
        assert_eq!(
            (mss(&[RouteMetric::Mtu(1000)], false), mss(&[RouteMetric::Mtu(1000)], true)),
            (Some(1440), Some(960))
        );
    }

    #[test]
    fn a_copied_route_is_recognised_in_a_dump_of_the_kernel() {
        let main = route(0, RouteType::Unicast, &[by(1), RouteAttribute::Oif(2)]);
        let copied = copies(std::slice::from_ref(&main), TABLE, 1440, false, &Interfaces::new()).remove(0);
        let mut dumped = copied.message();
        // RT_TABLE_COMPAT, and a link without carrier
        (dumped.header.table, dumped.header.flags) = (252, RouteFlags::Linkdown);
        dumped.attributes.reverse();
        assert!(copied.is(&dumped) && !copied.is(&main) && !copied.is(&copied.throw()));
    }

    #[test]
    fn a_route_that_is_not_unicast_is_looked_up_in_main() {
        let kinds = [RouteType::BlackHole, RouteType::Prohibit, RouteType::Throw, RouteType::Local];
        for kind in kinds {
            let copied = words_of(&[route(8, kind, &[RouteAttribute::Oif(2)])], true);
            assert_eq!(copied, ["throw 0.0.0.0/8 table 7691"]);
        }
    }
}
