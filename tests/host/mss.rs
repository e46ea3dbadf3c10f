//! The MSS announced for the VIPs: what the kernel decides for packets from a VIP, and for all others.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use lvs_tund::host::{HostChanges, Mss, Netlink, Notice, RealServerHost, RealServerHostOptions};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use crate::FAR_CLIENT;
use crate::bed::{Bed, CLIENT, DIRECTOR, PATIENCE, VIP, in_namespace, tun};

pub const MAIN: u32 = 254;
pub const COPY: u32 = 7691;

/// Another gateway on the link.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 253);

pub fn options(tun: &str, vip: Ipv4Addr, mss: Mss) -> RealServerHostOptions {
    RealServerHostOptions {
        tun: tun.into(),
        vips: vec![vip.into()],
        mss,
        changes: HostChanges::Make,
        journal: None,
    }
}

/// As the daemon has it: less 20 for the outer header, 40 for the inner ones.
pub fn auto() -> Mss {
    Mss::Auto {
        directors: vec![CLIENT.into()],
        fitting: |path_mtu| path_mtu.unwrap_or(1500).saturating_sub(60) as u16,
    }
}

pub async fn start(mss: Mss) -> RealServerHost {
    RealServerHost::start(options("lvsr0", VIP, mss)).await.unwrap()
}

pub fn route(destination: Ipv4Addr, prefix_len: u8) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination, prefix_len)
}

pub fn default_by(gateway: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build()
}

fn with_metrics(mut route: RouteMessage, metrics: &[RouteMetric]) -> RouteMessage {
    route.attributes.push(RouteAttribute::Metrics(metrics.to_vec()));
    route
}

pub async fn add(bed: &Bed, route: RouteMessage) {
    bed.handle.route().add(route).replace().execute().await.unwrap();
}

async fn delete(bed: &Bed, route: RouteMessage) {
    bed.handle.route().del(route).execute().await.unwrap();
}

/// How the kernel would send a packet: table, gateway, announced MSS.
type Way = (u32, Option<Ipv4Addr>, Option<u32>);

pub async fn way(bed: &Bed, from: Option<Ipv4Addr>, to: Ipv4Addr) -> Way {
    way_in(bed, None, from, to).await
}

/// The same of a packet that comes in by an interface.
pub async fn way_in(bed: &Bed, interface: Option<u32>, from: Option<Ipv4Addr>, to: Ipv4Addr) -> Way {
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    question.header.flags = RouteFlags::LookupTable;
    question.header.destination_prefix_length = 32;
    question.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to)));
    question.attributes.extend(interface.map(RouteAttribute::Iif));
    if let Some(from) = from {
        question.header.source_prefix_length = 32;
        question.attributes.push(RouteAttribute::Source(RouteAddress::Inet(from)));
    }
    let answer = bed.handle.route().get(question).execute().try_next().await.unwrap().unwrap();
    let mut way = (u32::from(answer.header.table), None, None);
    for attribute in answer.attributes {
        match attribute {
            RouteAttribute::Table(table) => way.0 = table,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => way.1 = Some(gateway),
            RouteAttribute::Metrics(metrics) => {
                way.2 = metrics
                    .iter()
                    .find_map(|m| if let RouteMetric::Advmss(mss) = m { Some(*mss) } else { None });
            }
            _ => {}
        }
    }
    way
}

async fn until_way(bed: &Bed, host: &mut RealServerHost, to: Ipv4Addr, expected: Way) {
    while way(bed, Some(VIP), to).await != expected {
        let notice = tokio::time::timeout(PATIENCE, host.wait()).await.expect("a notice");
        host.on_notice(notice).await;
    }
}

/// Those that choose a table; the one that ends packets for a deleted VIP chooses none.
pub async fn rules(bed: &Bed) -> Vec<RuleMessage> {
    let mut rules: Vec<RuleMessage> =
        bed.handle.rule().get(IpVersion::V4).execute().try_collect().await.unwrap();
    rules.retain(|rule| rule.header.action == RuleAction::ToTable);
    rules
}

pub async fn copied(table: u32) -> Vec<RouteMessage> {
    let netlink = Netlink::open().unwrap();
    netlink.routes_whole(table, 10_000).await.unwrap().unwrap()
}

#[test]
fn the_vips_packets_have_the_mss_and_no_others() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let _tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let host = start(auto()).await;
        assert_eq!(host.mss(), 1440);
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, (COPY, Some(CLIENT), Some(1440)));
        assert_eq!(way(&bed, Some(VIP), CLIENT).await, (COPY, None, Some(1440)));
        for from in [None, Some(DIRECTOR)] {
            assert_eq!(way(&bed, from, FAR_CLIENT).await, (MAIN, Some(CLIENT), None));
        }
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn the_announced_mss_is_the_configured_one() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let _tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let host = start(Mss::Fixed(1234)).await;
        assert_eq!((host.mss(), way(&bed, Some(VIP), FAR_CLIENT).await.2), (1234, Some(1234)));
        host.stop().await;
        let host = start(Mss::Off).await;
        assert_eq!((host.mss(), way(&bed, Some(VIP), FAR_CLIENT).await), (0, (MAIN, Some(CLIENT), None)));
        assert_eq!(rules(&bed).await.len(), 3);
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_changed_gateway_is_followed() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let mut host = start(auto()).await;
        let events = std::time::Instant::now();

        add(&bed, default_by(GATEWAY)).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(GATEWAY), Some(1440))).await;
        // A more specific one comes and goes again.
        let special = || route(FAR_CLIENT, 32).gateway(CLIENT).build();
        add(&bed, special()).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(CLIENT), Some(1440))).await;
        delete(&bed, special()).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(GATEWAY), Some(1440))).await;
        // So do the metrics of a route, although its way is the same.
        add(&bed, with_metrics(default_by(GATEWAY), &[RouteMetric::Advmss(1000)])).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(GATEWAY), Some(1000))).await;
        // Of two the kernel prefers the one with the smaller metric; when it goes, the other is there.
        let backup = RouteMessageBuilder::<Ipv4Addr>::new().gateway(CLIENT).priority(200).build();
        add(&bed, backup.clone()).await;
        delete(&bed, default_by(GATEWAY)).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(CLIENT), Some(1440))).await;
        // No tick was needed.
        assert!(events.elapsed() < lvs_tund::host::follow::TICK, "{:?}", events.elapsed());

        delete(&bed, backup).await;
        add(&bed, default_by(CLIENT)).await;
        host.on_notice(Notice::Tick).await;
        host.stop().await;
        drop(tun);
        let left: Vec<_> = bed.snapshot().await.into_keys().filter(|line| !line.starts_with('/')).collect();
        let before: Vec<_> = before.into_keys().filter(|line| !line.starts_with('/')).collect();
        assert_eq!(left, before);
    });
}

#[test]
fn a_device_that_goes_down_and_comes_up_is_followed() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsr0");
        let mut host = start(auto()).await;
        bed.set_down("eth0").await;
        bed.set_up("eth0").await;
        add(&bed, default_by(CLIENT)).await;
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(CLIENT), Some(1440))).await;
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        host.stop().await;
        assert_eq!(copied(COPY).await, []);
    });
}

#[test]
fn the_copied_routes_keep_the_attributes_of_main() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let net = |third| Ipv4Addr::new(10, 0, third, 0);
        let eth0 = bed.index("eth0").await;
        add(&bed, default_by(CLIENT)).await;
        let mtu = [RouteMetric::Mtu(1300), RouteMetric::InitCwnd(30)];
        add(&bed, with_metrics(route(net(1), 24).gateway(CLIENT).build(), &mtu)).await;
        add(&bed, with_metrics(route(net(2), 24).gateway(CLIENT).build(), &[RouteMetric::Advmss(700)])).await;
        add(&bed, route(net(3), 24).kind(RouteType::BlackHole).build()).await;
        let mut several = route(net(4), 24).build();
        let hop = |gateway, hops| {
            let mut hop = RouteNextHop::default();
            (hop.interface_index, hop.hops) = (eth0, hops);
            hop.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
            hop
        };
        several.attributes.push(RouteAttribute::MultiPath(vec![hop(CLIENT, 0), hop(GATEWAY, 4)]));
        add(&bed, several).await;
        add(&bed, route(net(5), 24).gateway(CLIENT).pref_source(DIRECTOR).priority(77).build()).await;
        // A gateway that no route leads to, but that is on the link.
        add(
            &bed,
            route(net(6), 24).gateway(Ipv4Addr::new(192, 168, 9, 9)).output_interface(eth0).onlink().build(),
        )
        .await;
        let _tun = tun("lvsr0");
        let mut host = start(auto()).await;
        host.on_notice(Notice::Tick).await;
        assert_eq!(host.changes().commands(), Vec::<String>::new(), "a copy is not what was requested");

        let to = |third| Ipv4Addr::new(10, 0, third, 1);
        for (third, mss) in [(1, 1260), (2, 700), (4, 1440), (5, 1440), (6, 1440)] {
            let (table, gateway, found) = way(&bed, Some(VIP), to(third)).await;
            assert_eq!((table, found), (COPY, Some(mss)), "10.0.{third}.0/24");
            assert!(gateway.is_some(), "10.0.{third}.0/24");
        }
        let copies: Vec<String> =
            host.changes().entries().iter().map(|entry| entry.change.command()).collect();
        for command in [
            "ip route add default via 172.25.3.254 dev eth0 table 7691 advmss 1440",
            "ip route add 172.25.3.0/24 src 172.25.3.1 dev eth0 scope link table 7691 advmss 1440",
            "ip route add 10.0.1.0/24 via 172.25.3.254 dev eth0 table 7691 mtu 1300 advmss 1260 initcwnd 30",
            "ip route add throw 10.0.3.0/24 table 7691",
            "ip route add 10.0.4.0/24 nexthop via 172.25.3.254 dev eth0 weight 1 nexthop via 172.25.3.253 dev eth0 \
             weight 5 table 7691 advmss 1440",
            "ip route add 10.0.5.0/24 metric 77 src 172.25.3.1 via 172.25.3.254 dev eth0 table 7691 advmss 1440",
            "ip route add 10.0.6.0/24 via 192.168.9.9 dev eth0 onlink table 7691 advmss 1440",
            "ip rule add pref 32765 from 172.25.3.100 iif lo lookup 7691",
        ] {
            assert!(copies.iter().any(|copy| copy == command), "{command:?} is not among {copies:#?}");
        }
        host.stop().await;
        assert_eq!(copied(COPY).await, []);
    });
}

#[test]
fn auto_never_announces_more_than_the_host_would() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let _tun = tun("lvsr0");
        let jumbo = Mss::Auto { directors: vec![CLIENT.into()], fitting: |_| 8940 };
        let mut host = start(jumbo).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.2, Some(1460));
        // The device becomes narrower.
        let eth0 = bed.index("eth0").await;
        let narrow = rtnetlink::LinkUnspec::new_with_index(eth0).mtu(1400).build();
        bed.handle.link().set(narrow).execute().await.unwrap();
        until_way(&bed, &mut host, FAR_CLIENT, (COPY, Some(CLIENT), Some(1360))).await;
        host.stop().await;
        let host = start(auto()).await;
        assert_eq!((host.mss(), way(&bed, Some(VIP), FAR_CLIENT).await.2), (1340, Some(1340)));
        host.stop().await;
        let host = start(Mss::Fixed(8940)).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.2, Some(8940), "a number is used as it is");
        host.stop().await;
    });
}

#[test]
fn routes_and_rules_removed_by_another_program_are_restored() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let _tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let mut host = start(auto()).await;
        let expected = (COPY, Some(CLIENT), Some(1440));
        let ours = rules(&bed).await.into_iter().find(|rule| rule.header.src_len == 32).expect("our rule");
        bed.handle.rule().del(ours).execute().await.unwrap();
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.0, MAIN);
        until_way(&bed, &mut host, FAR_CLIENT, expected).await;
        let default =
            copied(COPY).await.into_iter().find(|route| route.header.destination_prefix_length == 0);
        delete(&bed, default.expect("the copy of the default route")).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.0, MAIN);
        until_way(&bed, &mut host, FAR_CLIENT, expected).await;
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn without_host_changes_the_commands_are_named() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let _tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let print =
            RealServerHostOptions { changes: HostChanges::Print, ..options("lvsr0", VIP, Mss::Fixed(1400)) };
        let mut host = RealServerHost::start(print).await.unwrap();
        host.on_notice(Notice::Tick).await;
        let commands = host.changes().commands();
        assert_eq!(
            commands[commands.len() - 3..],
            [
                "ip route add 172.25.3.0/24 src 172.25.3.1 dev eth0 scope link table 7691 advmss 1400",
                "ip route add default via 172.25.3.254 dev eth0 table 7691 advmss 1400",
                "ip rule add pref 32765 from 172.25.3.100 iif lo lookup 7691",
            ]
        );
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}
