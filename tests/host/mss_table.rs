//! The table of the announced MSS next to those of others, after a kill, and where main is too large for it.

use std::net::Ipv4Addr;

use lvs_tund::host::change::address::VipAddress;
use lvs_tund::host::change::mss_rule::MSS_PREFERENCE;
use lvs_tund::host::mirror::{Interfaces, ROUTES_MAX, copies};
use lvs_tund::host::{Change, Changes, Device, HostChanges, Mss, Netlink, RealServerHost};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteNextHop};
use rtnetlink::packet_route::rule::RuleAction;
use rtnetlink::{LinkVeth, RouteMessageBuilder};

use crate::FAR_CLIENT;
use crate::bed::{Bed, CLIENT, PATIENCE, VIP, in_namespace, tun, write_sysctl};
use crate::mss::{
    COPY, GATEWAY, MAIN, add, auto, copied, default_by, options, route, rules, start, way, way_in,
};

#[test]
fn rules_of_other_programs_come_first() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let mut theirs = default_by(GATEWAY);
        theirs.attributes.push(RouteAttribute::Table(77));
        add(&bed, theirs).await;
        let _tun = tun("lvsr0");
        let theirs =
            || bed.handle.rule().add().v4().source_prefix(VIP, 32).table_id(77).action(RuleAction::ToTable);
        let first = (77, Some(GATEWAY), None);

        // Theirs was there, at our preference.
        theirs().priority(MSS_PREFERENCE).execute().await.unwrap();
        let host = start(auto()).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, first);
        host.stop().await;
        let rule = rules(&bed).await.into_iter().find(|rule| rule.header.src_len == 32).expect("their rule");
        bed.handle.rule().del(rule).execute().await.unwrap();

        // Theirs comes later, and the kernel finds a preference for it.
        let host = start(auto()).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.0, COPY);
        theirs().execute().await.unwrap();
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, first);
        host.stop().await;
    });
}

#[test]
fn a_route_of_a_settlement_that_failed_does_not_stay_behind() {
    in_namespace(async || {
        let _bed = Bed::new().await;
        let copy_with = |mss| {
            let copied = copies(&[default_by(CLIENT)], COPY, mss, false, &Interfaces::new()).remove(0);
            Change::from(copied)
        };
        let mut changes = Changes::new(Netlink::open().unwrap(), HostChanges::Make, None);
        changes.settle(&[copy_with(1400)]).await.unwrap();
        let device = Device { name: "gone0".into(), index: 9_999 };
        let impossible = VipAddress { address: VIP, device }.into();
        changes.settle(&[copy_with(1300), impossible]).await.unwrap_err();
        assert_eq!(copied(COPY).await.len(), 1);

        changes.settle(&[copy_with(1400)]).await.unwrap();
        changes.undo_all().await;
        assert_eq!(copied(COPY).await, []);
    });
}

#[test]
fn what_a_killed_real_server_leaves_has_no_effect_and_the_next_start_removes_it() {
    for (mss, vip) in [(auto(), VIP), (Mss::Off, VIP), (auto(), Ipv4Addr::new(172, 25, 3, 101))] {
        in_namespace(async move || {
            let bed = Bed::new().await;
            add(&bed, default_by(CLIENT)).await;
            let before = bed.snapshot().await;
            let first = tun("lvsr0");
            // Dropped without stop, and the TUN device with it: what SIGKILL leaves.
            drop(start(auto()).await);
            drop(first);
            assert_eq!((rules(&bed).await.len(), copied(COPY).await.len()), (4, 2));
            add(&bed, default_by(GATEWAY)).await;
            assert_eq!(way(&bed, None, FAR_CLIENT).await, (MAIN, Some(GATEWAY), None));
            // The stale default route is not in use, for nothing can be sent from the VIP.
            let sent = std::net::UdpSocket::bind((VIP, 0)).map(drop);
            assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable);

            let second = tun("lvsr0");
            let is_off = matches!(mss, Mss::Off);
            let host = RealServerHost::start(options("lvsr0", vip, mss)).await.unwrap();
            let expected =
                if is_off { (MAIN, Some(GATEWAY), None) } else { (COPY, Some(GATEWAY), Some(1440)) };
            assert_eq!(way(&bed, Some(vip), FAR_CLIENT).await, expected);
            assert_eq!(rules(&bed).await.len(), if is_off { 3 } else { 4 });
            host.stop().await;
            drop(second);
            add(&bed, default_by(CLIENT)).await;
            let lines = |lines: std::collections::BTreeMap<String, String>| {
                lines.into_keys().filter(|line| !line.starts_with('/')).collect::<Vec<_>>()
            };
            assert_eq!(lines(bed.snapshot().await), lines(before));
        });
    }
}

#[test]
fn two_real_servers_on_one_host_keep_to_their_own_tables() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        let other = Ipv4Addr::new(172, 25, 3, 101);
        let (_tun, _other_tun) = (tun("lvsr0"), tun("lvsr1"));
        let first = start(auto()).await;
        let second = RealServerHost::start(options("lvsr1", other, Mss::Fixed(1000))).await.unwrap();
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, (COPY, Some(CLIENT), Some(1440)));
        assert_eq!(way(&bed, Some(other), FAR_CLIENT).await, (COPY + 1, Some(CLIENT), Some(1000)));
        first.stop().await;
        assert_eq!(copied(COPY).await, []);
        assert_eq!(way(&bed, Some(other), FAR_CLIENT).await, (COPY + 1, Some(CLIENT), Some(1000)));
        second.stop().await;
        assert_eq!((rules(&bed).await.len(), copied(COPY + 1).await.len()), (3, 0));
    });
}

#[test]
fn a_table_that_another_program_uses_is_left_alone() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let mut theirs = default_by(CLIENT);
        theirs.attributes.push(RouteAttribute::Table(COPY));
        add(&bed, theirs).await;
        bed.handle
            .rule()
            .add()
            .v4()
            .source_prefix(CLIENT, 32)
            .table_id(COPY + 1)
            .action(RuleAction::ToTable)
            .execute()
            .await
            .unwrap();
        let _tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let host = start(auto()).await;
        assert_eq!(way(&bed, Some(VIP), CLIENT).await, (COPY + 2, None, Some(1440)));
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_route_that_the_kernel_does_not_accept_twice_is_looked_up_in_main() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.handle.link().add(LinkVeth::new("eth1", "other1").build()).execute().await.unwrap();
        for name in ["eth1", "other1"] {
            bed.set_up(name).await;
        }
        let far = Ipv4Addr::new(10, 9, 0, 2);
        bed.add_address("eth1", Ipv4Addr::new(10, 9, 0, 1), 24).await;
        let hop = |gateway, interface_index| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = interface_index;
            hop.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
            hop
        };
        let hops = vec![hop(CLIENT, bed.index("eth0").await), hop(far, bed.index("eth1").await)];
        let mut several = route(Ipv4Addr::UNSPECIFIED, 0).build();
        several.attributes.push(RouteAttribute::MultiPath(hops));
        add(&bed, several).await;
        // One of two hops is dead: main keeps the route, and no other table takes it (fib_check_nh).
        bed.set_down("eth1").await;
        let _tun = tun("lvsr0");
        let mut host = start(auto()).await;
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, (MAIN, Some(CLIENT), None));
        let missing = host.changes().commands();
        assert!(missing.len() == 1 && missing[0].contains("nexthop via 10.9.0.2"), "{missing:?}");
        bed.set_up("eth1").await;
        while !host.changes().commands().is_empty() {
            let notice = tokio::time::timeout(PATIENCE, host.wait()).await.expect("a notice");
            host.on_notice(notice).await;
        }
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await.2, Some(1440));
        host.stop().await;
        assert_eq!(copied(COPY).await, []);
    });
}

/// The kernel takes the routes of a device that goes down from both tables; the copy of the other uplink's stays.
#[test]
fn losing_an_uplink_removes_no_other_route() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.handle.link().add(LinkVeth::new("eth1", "other1").build()).execute().await.unwrap();
        for name in ["eth1", "other1"] {
            bed.set_up(name).await;
        }
        bed.add_address("eth1", Ipv4Addr::new(10, 9, 0, 1), 24).await;
        add(&bed, default_by(Ipv4Addr::new(10, 9, 0, 2))).await;
        add(&bed, RouteMessageBuilder::<Ipv4Addr>::new().gateway(CLIENT).priority(200).build()).await;
        let _tun = tun("lvsr0");
        let mut host = start(auto()).await;
        let uplink = Some(Ipv4Addr::new(10, 9, 0, 2));
        assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, (COPY, uplink, Some(1440)));
        bed.set_down("eth1").await;
        // Down is more than one message.
        while host.changes().entries().iter().any(|entry| entry.change.command().contains("10.9.0.2")) {
            let notice = tokio::time::timeout(PATIENCE, host.wait()).await.expect("a notice");
            host.on_notice(notice).await;
            assert_eq!(way(&bed, Some(VIP), FAR_CLIENT).await, (COPY, Some(CLIENT), Some(1440)));
        }
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        host.stop().await;
        assert_eq!(copied(COPY).await, []);
    });
}

#[test]
fn a_table_main_too_large_to_copy_leaves_the_mss_as_it_is() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let eth0 = bed.index("eth0").await;
        let host_route = |number: usize| {
            let [.., third, fourth] = (number as u32).to_be_bytes();
            route(Ipv4Addr::new(10, 1, third, fourth), 32).output_interface(eth0).build()
        };
        // With the route of the link these are as many as are copied.
        for number in 1..ROUTES_MAX {
            add(&bed, host_route(number)).await;
        }
        let _tun = tun("lvsr0");
        let mut host = start(auto()).await;
        assert_eq!((host.mss(), copied(COPY).await.len()), (1440, ROUTES_MAX));
        add(&bed, host_route(ROUTES_MAX)).await;
        while host.mss() != 0 {
            let notice = tokio::time::timeout(PATIENCE, host.wait()).await.expect("a notice");
            host.on_notice(notice).await;
        }
        assert_eq!((rules(&bed).await.len(), copied(COPY).await.len()), (3, 0));
        host.stop().await;
    });
}

/// What this host forwards for the VIP, such as the replies of another real server behind it, goes by main.
#[test]
fn the_rule_applies_only_to_packets_that_the_host_sends() {
    in_namespace(async || {
        let bed = Bed::new().await;
        add(&bed, default_by(CLIENT)).await;
        write_sysctl("net/ipv4/conf/eth0/forwarding", 1);
        for interface in ["all", "eth0"] {
            write_sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), 0);
        }
        let first = tun("lvsr0");
        drop(start(auto()).await);
        drop(first);
        let eth0 = bed.index("eth0").await;
        assert_eq!(rules(&bed).await.len(), 4);
        assert_eq!(way_in(&bed, Some(eth0), Some(VIP), FAR_CLIENT).await.0, MAIN);
    });
}
