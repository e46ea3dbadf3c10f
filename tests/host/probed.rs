//! What the director's host needs for checks through the tunnel. Strict rp_filter everywhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use lvs_tund::host::{
    ANSWER_TABLE, CaptureMode, DirectorHost, DirectorHostOptions, HostChanges, JournalPlace, Netlink, Notice,
    PROBE_MARK, PROBE_TABLE, Probed,
};
use rtnetlink::{LinkUnspec, LinkVeth};
use socket2::{Domain, Socket, Type};
use tun_rs::SyncDevice;

use crate::bed::{Bed, CLIENT, DIRECTOR, PATIENCE, VIP, captured, in_namespace, runtime, tun, write_sysctl};
use crate::options;

/// The neighbour that answers as the VIP.
const RIP: Ipv4Addr = CLIENT;
const PORT: u16 = 61_000;

fn probed(rips: &[Ipv4Addr]) -> Probed {
    let rips = rips.iter().map(|rip| IpAddr::V4(*rip)).collect();
    Probed { vips: BTreeSet::from([VIP.into()]), rips }
}

/// A check's own socket.
fn probe(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_mark(PROBE_MARK).unwrap();
    socket.bind(&SocketAddr::from((DIRECTOR, port)).into()).unwrap();
    socket.connect(&SocketAddr::from((VIP, 53)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Whether the check's datagram enters the TUN device, and the answer from the VIP is accepted.
fn goes_round(bed: &Bed, tun: &SyncDevice, port: u16) -> bool {
    let socket = probe(port);
    socket.send(b"question").unwrap();
    assert_eq!(captured(tun, "question"), (DIRECTOR, VIP, 64), "as it left the socket");
    answer(bed, port);
    let mut text = [0; 16];
    socket.recv(&mut text).is_ok_and(|length| &text[..length] == b"answer")
}

fn answer(bed: &Bed, port: u16) {
    bed.client.run(move || {
        let socket = UdpSocket::bind((VIP, 53)).unwrap();
        socket.send_to(b"answer", (DIRECTOR, port)).unwrap();
    });
}

/// The neighbour has the VIP, and its ARP requests name its own address.
fn let_client_serve(bed: &Bed) {
    bed.client.run(|| {
        write_sysctl("net/ipv4/conf/all/arp_announce", 2);
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let up = LinkUnspec::new_with_name("lo").up().build();
            handle.link().set(up).execute().await.unwrap();
            handle.address().add(1, VIP.into(), 32).execute().await.unwrap();
        });
    });
}

#[test]
fn the_answer_to_a_check_is_accepted_wherever_the_vip_is_and_however_it_is_captured() {
    let places = [None, Some("eth0"), Some("lo")];
    let modes = [CaptureMode::Auto, CaptureMode::Route, CaptureMode::Rule];
    for (place, capture) in places.into_iter().flat_map(|place| modes.map(|mode| (place, mode))) {
        in_namespace(async move || {
            let bed = Bed::new().await;
            let_client_serve(&bed);
            if let Some(name) = place {
                bed.add_address(name, VIP, 32).await;
            }
            let tun = tun("lvsd0");
            let before = bed.snapshot().await;
            let mut host = DirectorHost::start(DirectorHostOptions { capture, ..options() }).await.unwrap();
            // The filters of the other interfaces stay strict; here as if this were one.
            write_sysctl("net/ipv4/conf/eth0/rp_filter", 1);
            let without = bed.snapshot().await;
            host.set_probed(probed(&[RIP])).await.unwrap();
            assert!(goes_round(&bed, &tun, PORT), "{place:?} {capture:?}");
            assert!(goes_round(&bed, &tun, 62_999), "{place:?} {capture:?}");
            host.set_probed(Probed::default()).await.unwrap();
            assert_eq!(bed.snapshot().await, without, "{place:?} {capture:?}");
            write_sysctl("net/ipv4/conf/eth0/rp_filter", 2);
            host.set_probed(probed(&[RIP])).await.unwrap();
            host.stop().await;
            assert_eq!(bed.snapshot().await, before, "{place:?} {capture:?}");
        });
    }
}

#[test]
fn only_answers_to_the_ports_of_checks_pass_the_strict_filter() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let_client_serve(&bed);
        bed.add_address("lo", VIP, 32).await;
        let tun = tun("lvsd0");
        let mut host = DirectorHost::start(options()).await.unwrap();
        host.set_probed(probed(&[RIP])).await.unwrap();
        for (port, expected) in [(60_999, false), (61_000, true), (62_999, true), (63_000, false)] {
            assert_eq!(goes_round(&bed, &tun, port), expected, "{port}");
        }
        // A socket without the mark reaches the host's own address, as without checks.
        let socket = UdpSocket::bind((VIP, 7)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        UdpSocket::bind((DIRECTOR, 0)).unwrap().send_to(b"own", (VIP, 7)).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 3);
        host.stop().await;
    });
}

/// One more cable to the client's namespace: `eth1` here, 10.9.0.1, and 10.9.0.2 there.
async fn add_second_cable(bed: &Bed) {
    bed.handle.link().add(LinkVeth::new("eth1", "client1").build()).execute().await.unwrap();
    let namespace = bed.client.run(|| File::open("/proc/thread-self/ns/net").unwrap());
    let moved = LinkUnspec::new_with_name("client1").setns_by_fd(namespace.as_raw_fd()).build();
    bed.handle.link().set(moved).execute().await.unwrap();
    bed.set_up("eth1").await;
    bed.add_address("eth1", Ipv4Addr::new(10, 9, 0, 1), 24).await;
    bed.client.run(|| {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let up = LinkUnspec::new_with_name("client1").up().build();
            handle.link().set(up).execute().await.unwrap();
            let mut links = handle.link().get().match_name("client1").execute();
            let link = futures_util::TryStreamExt::try_next(&mut links).await.unwrap().unwrap();
            let index = link.header.index;
            handle.address().add(index, Ipv4Addr::new(10, 9, 0, 2).into(), 24).execute().await.unwrap();
            // The answers take this cable.
            let route = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(DIRECTOR, 32)
                .output_interface(index)
                .build();
            handle.route().add(route).execute().await.unwrap();
        });
    });
}

#[test]
fn an_answer_may_arrive_on_the_interface_of_the_route_to_the_real_server() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let_client_serve(&bed);
        add_second_cable(&bed).await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let mut host = DirectorHost::start(options()).await.unwrap();
        host.set_probed(probed(&[RIP])).await.unwrap();
        assert!(!goes_round(&bed, &tun, PORT), "no real server is there");
        host.set_probed(probed(&[RIP, Ipv4Addr::new(10, 9, 0, 2)])).await.unwrap();
        assert!(goes_round(&bed, &tun, PORT));
        let commands: Vec<String> =
            host.changes().entries().iter().map(|entry| entry.change.command()).collect();
        let routes = commands.iter().filter(|command| command.contains("table 7689")).collect::<Vec<_>>();
        assert_eq!(
            routes,
            ["ip route add 172.25.3.100/32 scope link table 7689 nexthop dev eth0 nexthop dev eth1"]
        );
        bed.set_down("eth1").await;
        host.on_notice(Notice::Changed).await;
        bed.set_up("eth1").await;
        bed.client.run(|| std::thread::sleep(Duration::from_millis(50)));
        host.on_notice(Notice::Changed).await;
        assert!(goes_round(&bed, &tun, PORT), "after the interface was down");
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn what_a_killed_director_left_for_its_checks_is_removed_with_and_without_a_journal() {
    for has_journal in [true, false] {
        in_namespace(async move || {
            let bed = Bed::new().await;
            let folder = tempfile::tempdir().unwrap();
            let journal = has_journal.then(|| JournalPlace {
                directory: folder.path().to_owned(),
                namespace: "boot/1".into(),
                name: "director".into(),
            });
            let options = DirectorHostOptions { journal, ..options() };
            let before = {
                let device = tun("lvsd0");
                let before = bed.snapshot().await;
                let host = DirectorHost::start(options.clone()).await.unwrap();
                host.stop().await;
                assert_eq!(bed.snapshot().await, before);
                let mut host = DirectorHost::start(options.clone()).await.unwrap();
                host.set_probed(probed(&[RIP])).await.unwrap();
                drop((host, device));
                before
            };
            let netlink = Netlink::open().unwrap();
            assert_eq!(netlink.routes_in(PROBE_TABLE).await.unwrap(), []);
            assert_eq!(netlink.routes_in(ANSWER_TABLE).await.unwrap().len(), 1, "left behind");
            let _device = tun("lvsd0");
            let host = DirectorHost::start(options.clone()).await.unwrap();
            assert_eq!(netlink.routes_in(ANSWER_TABLE).await.unwrap(), []);
            host.stop().await;
            let rules = |snapshot: &std::collections::BTreeMap<String, String>| {
                snapshot
                    .iter()
                    .filter(|(key, _)| key.starts_with("rule"))
                    .map(|(_, rule)| rule.clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!(rules(&bed.snapshot().await), rules(&before));
        });
    }
}

#[test]
fn a_second_directors_checks_outlive_the_first_ones_end() {
    const OTHER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 101);
    in_namespace(async || {
        let bed = Bed::new().await;
        let_client_serve(&bed);
        let (tun, _other) = (tun("lvsd0"), tun("lvsd1"));
        let before = bed.snapshot().await;
        let mut first = DirectorHost::start(options()).await.unwrap();
        let second = DirectorHostOptions { tun: "lvsd1".into(), vips: vec![OTHER.into()], ..options() };
        let mut second = DirectorHost::start(second).await.unwrap();
        second
            .set_probed(Probed { vips: BTreeSet::from([OTHER.into()]), rips: BTreeSet::new() })
            .await
            .unwrap();
        first.set_probed(probed(&[RIP])).await.unwrap();
        second.stop().await;
        assert!(goes_round(&bed, &tun, PORT));
        first.stop().await;
        let (after, mut expected) = (bed.snapshot().await, before);
        let rules = |snapshot: &mut std::collections::BTreeMap<String, String>| {
            snapshot.retain(|key, _| key.starts_with("rule"));
        };
        let mut after = after;
        rules(&mut after);
        rules(&mut expected);
        assert_eq!(after, expected, "the last one removes the rules");
    });
}

#[test]
fn without_host_changes_the_commands_for_checks_are_known() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let options = DirectorHostOptions { changes: HostChanges::Print, ..options() };
        let mut host = DirectorHost::start(options).await.unwrap();
        host.set_probed(probed(&[RIP])).await.unwrap();
        let commands = host.changes().commands();
        for expected in [
            "ip rule add pref 0 fwmark 76 ipproto tcp lookup 7688",
            "ip rule add pref 0 iif lo ipproto udp sport 61000-62999 lookup 7689",
            "ip route add 172.25.3.100/32 dev lvsd0 scope link table 7688",
            "ip route add 172.25.3.100/32 scope link table 7689 dev eth0",
        ] {
            assert!(commands.iter().any(|command| command.starts_with(expected)), "{expected}: {commands:?}");
        }
        assert_eq!(bed.snapshot().await, before, "nothing is changed");
    });
}

#[test]
fn rules_and_routes_for_checks_that_another_program_removes_are_made_again() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let_client_serve(&bed);
        bed.add_address("lo", VIP, 32).await;
        let tun = tun("lvsd0");
        let mut host = DirectorHost::start(options()).await.unwrap();
        host.set_probed(probed(&[RIP])).await.unwrap();
        let netlink = Netlink::open().unwrap();
        for rule in netlink.rules().await.unwrap() {
            let table = lvs_tund::host::netlink::rule::table(&rule);
            if [PROBE_TABLE, ANSWER_TABLE].contains(&table) {
                netlink.delete_rule(rule).await.unwrap();
            }
        }
        host.on_notice(Notice::Tick).await;
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        assert!(goes_round(&bed, &tun, PORT));
        host.stop().await;
    });
}
