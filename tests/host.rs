//! What the daemons change on their host, with real packets in network namespaces of their own. Needs root.

#[path = "host/announce.rs"]
mod announce;
#[path = "host/bed.rs"]
mod bed;
#[path = "host/mss.rs"]
mod mss;
#[path = "host/mss_table.rs"]
mod mss_table;
#[path = "host/probed.rs"]
mod probed;
#[path = "host/realserver.rs"]
mod realserver;
#[path = "host/refusals.rs"]
mod refusals;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use bed::{
    Bed, CLIENT, DIRECTOR, PATIENCE, VIP, captured, in_namespace, next_arp, read_sysctl, tun, write_sysctl,
};
use lvs_tund::host::director_changes::Capture;
use lvs_tund::host::{
    Announce, CAPTURE_TABLE, CaptureMode, DirectorHost, DirectorHostOptions, HostChanges, Netlink, Notice,
    OuterSource, Reach,
    netlink::{Route, TABLE_MAIN, rule},
};
use rtnetlink::LinkVeth;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags};
use rtnetlink::packet_route::rule::RuleAttribute;

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

/// RFC 5735 TEST-NET-1: a client behind a router.
const FAR_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn options() -> DirectorHostOptions {
    DirectorHostOptions {
        interfaces: vec!["eth0".into()],
        tun: "lvsd0".into(),
        vips: vec![VIP.into()],
        outer_source: None,
        capture: CaptureMode::Auto,
        announce: Announce::Always,
        changes: HostChanges::Make,
        journal: None,
    }
}

async fn next_change(host: &mut DirectorHost) {
    let notice = tokio::time::timeout(PATIENCE, host.wait()).await.expect("a notice");
    host.on_notice(notice).await;
}

/// Waits for notices until the VIP is captured as expected.
async fn until_captured_by(host: &mut DirectorHost, capture: Capture) {
    for _ in 0..50 {
        if host.vips()[&VIP].capture == capture {
            return;
        }
        next_change(host).await;
    }
    panic!("captured by {}, not by {capture}, after 50 changes", host.vips()[&VIP].capture);
}

#[test]
fn a_route_captures_a_vip_that_is_not_local() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let options = DirectorHostOptions { capture: CaptureMode::Route, ..options() };
        let host = DirectorHost::start(options).await.unwrap();
        assert_eq!(host.vips()[&VIP].capture, Capture::Route);

        bed.client.send(VIP, "by route");
        // Forwarding has decremented the TTL once (ip_forward()).
        assert_eq!(captured(&tun, "by route"), (CLIENT, VIP, 63));
        assert_eq!(read_sysctl("net/ipv4/neigh/eth0/proxy_delay"), 0);
        assert_eq!(read_sysctl("net/ipv4/conf/all/forwarding"), 0, "ip_forward is not touched");

        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_rule_captures_a_vip_that_is_local() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.add_address("lo", VIP, 32).await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let host = DirectorHost::start(options()).await.unwrap();
        assert_eq!(host.vips()[&VIP].capture, Capture::Rule);

        bed.client.send(VIP, "by rule");
        assert_eq!(captured(&tun, "by rule"), (CLIENT, VIP, 63));

        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn the_rule_leaves_the_hosts_other_addresses_alone() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.add_address("lo", VIP, 32).await;
        let _tun = tun("lvsd0");
        let _host = DirectorHost::start(options()).await.unwrap();
        let socket = UdpSocket::bind((DIRECTOR, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        bed.client.send(DIRECTOR, "for the host");
        let mut text = [0; 64];
        assert_eq!(socket.recv(&mut text).unwrap(), "for the host".len());
    });
}

#[test]
fn a_vip_that_becomes_local_and_leaves_again_stays_captured() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let mut host = DirectorHost::start(options()).await.unwrap();
        assert_eq!(host.vips()[&VIP].capture, Capture::Both);

        bed.add_address("eth0", VIP, 32).await;
        bed.client.send(VIP, "when it came");
        assert_eq!(captured(&tun, "when it came").1, VIP, "nothing had to change for it");
        until_captured_by(&mut host, Capture::Rule).await;
        bed.client.send(VIP, "after it came");
        assert_eq!(captured(&tun, "after it came").1, VIP);

        bed.delete_address(VIP).await;
        bed.client.send(VIP, "when it left");
        assert_eq!(captured(&tun, "when it left").1, VIP);
        until_captured_by(&mut host, Capture::Both).await;
        bed.client.send(VIP, "after it left");
        assert_eq!(captured(&tun, "after it left").1, VIP);

        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_change_undone_by_another_program_is_repaired_at_once_and_then_at_growing_intervals() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let mut host = DirectorHost::start(options()).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let (eth0, lvsd0) = (bed.index("eth0").await, bed.index("lvsd0").await);

        netlink.delete_route(VIP, TABLE_MAIN, lvsd0).await.unwrap();
        netlink.delete_proxy(VIP, eth0).await.unwrap();
        write_sysctl("net/ipv4/conf/eth0/forwarding", 0);
        host.on_notice(Notice::Tick).await;
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        bed.client.send(VIP, "repaired");
        assert_eq!(captured(&tun, "repaired").1, VIP);

        // Undone again within the pause: reported, not repaired.
        write_sysctl("net/ipv4/conf/eth0/forwarding", 0);
        host.on_notice(Notice::Tick).await;
        assert_eq!(host.changes().commands(), ["sysctl -w net.ipv4.conf.eth0.forwarding=1"]);
        assert_eq!(host.changes().entries().iter().filter(|entry| !entry.is_in_force).count(), 1);

        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_proxy_neighbour_or_rule_that_another_program_replaced_is_left_at_the_end() {
    const THEIR_PROTOCOL: u8 = 99;
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsd0");
        let options = DirectorHostOptions { capture: CaptureMode::Rule, ..options() };
        let host = DirectorHost::start(options).await.unwrap();
        let (netlink, eth0) = (Netlink::open().unwrap(), bed.index("eth0").await);

        let mut proxy = bed.handle.neighbours().add(eth0, VIP.into()).flags(NeighbourFlags::Proxy).replace();
        proxy.message_mut().attributes.push(NeighbourAttribute::Protocol(THEIR_PROTOCOL.into()));
        proxy.execute().await.unwrap();
        let rules = netlink.rules().await.unwrap();
        let ours = rules.iter().find(|found| rule::table(found) == CAPTURE_TABLE).expect("a capture rule");
        let mut theirs = ours.clone();
        theirs.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Protocol(_)));
        theirs.attributes.push(RuleAttribute::Protocol(THEIR_PROTOCOL.into()));
        theirs.attributes.push(RuleAttribute::Priority(0));
        netlink.delete_rule(ours.clone()).await.unwrap();
        netlink.add_rule(theirs).await.unwrap();

        host.stop().await;
        let proxies = netlink.proxies().await.unwrap();
        assert_eq!(proxies.iter().map(|proxy| proxy.protocol).collect::<Vec<_>>(), [THEIR_PROTOCOL]);
        let rules = netlink.rules().await.unwrap();
        let left = rules.iter().filter(|found| rule::table(found) == CAPTURE_TABLE).map(rule::protocol);
        assert_eq!(left.collect::<Vec<_>>(), [THEIR_PROTOCOL]);
    });
}

#[test]
fn the_next_director_adopts_or_removes_what_a_killed_one_left() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.add_address("lo", VIP, 32).await;
        let before = bed.snapshot().await;
        let first = tun("lvsd0");
        // Dropped without stop, and the TUN device with it: what SIGKILL leaves.
        drop(DirectorHost::start(options()).await.unwrap());
        drop(first);
        let socket = UdpSocket::bind((VIP, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        bed.client.send(VIP, "local again");
        assert_eq!(socket.recv(&mut [0; 64]).unwrap(), "local again".len());

        let second = tun("lvsd0");
        let host = DirectorHost::start(options()).await.unwrap();
        bed.client.send(VIP, "captured again");
        captured(&second, "captured again");
        host.stop().await;
        drop(second);
        let left = |lines: &std::collections::BTreeMap<String, String>| {
            lines.keys().filter(|k| !k.starts_with('/')).cloned().collect::<Vec<_>>()
        };
        assert_eq!(left(&bed.snapshot().await), left(&before));
    });
}

#[test]
fn the_next_start_removes_leftovers_of_vips_that_are_no_longer_served() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.add_address("lo", VIP, 32).await;
        let first = tun("lvsd0");
        drop(DirectorHost::start(options()).await.unwrap());
        drop(first);
        bed.delete_address(VIP).await;
        let _tun = tun("lvsd0");
        let netlink = Netlink::open().unwrap();
        assert_eq!((netlink.proxies().await.unwrap().len(), netlink.rules().await.unwrap().len()), (1, 4));
        let host = DirectorHost::start(DirectorHostOptions { vips: Vec::new(), ..options() }).await.unwrap();
        assert_eq!((netlink.proxies().await.unwrap().len(), netlink.rules().await.unwrap().len()), (0, 3));
        host.stop().await;
    });
}

#[test]
fn without_host_changes_nothing_is_changed_and_the_commands_are_returned() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsd0");
        bed.add_address("lo", VIP, 32).await;
        let before = bed.snapshot().await;
        let print = DirectorHostOptions { changes: HostChanges::Print, ..options() };
        let mut host = DirectorHost::start(print).await.unwrap();
        host.on_notice(Notice::Tick).await;
        assert_eq!(
            host.changes().commands(),
            [
                "sysctl -w net.ipv4.conf.all.send_redirects=0",
                "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
                "sysctl -w net.ipv4.conf.eth0.send_redirects=0",
                "sysctl -w net.ipv4.neigh.eth0.proxy_delay=0",
                "sysctl -w net.ipv4.conf.eth0.forwarding=1",
                "sysctl -w net.ipv4.conf.lvsd0.rp_filter=2",
                "sysctl -w net.ipv4.ip_early_demux=0",
                "ip address add 192.0.0.8/32 dev lvsd0 scope host",
                "ip neigh add proxy 172.25.3.100 dev eth0",
                "ip rule add pref 0 iif eth0 lookup 7690 && ip rule add pref 0 lookup local protocol 76 && ip rule del pref 0 lookup local && ip rule add pref 0 lookup local && ip rule del pref 0 lookup local protocol 76",
                "ip route add 172.25.3.100/32 dev lvsd0 scope link table 7690",
            ]
        );
        write_sysctl("net/ipv4/conf/eth0/forwarding", 1);
        host.on_notice(Notice::Tick).await;
        assert_eq!(host.changes().commands().len(), 10, "what was done by hand is wanted no longer");
        write_sysctl("net/ipv4/conf/eth0/forwarding", 0);
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn after_the_interface_was_down_the_vip_is_answered_and_announced_again() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let mut host = DirectorHost::start(options()).await.unwrap();
        let arp = bed.client.hear_arp();
        for _ in 0..3 {
            bed.set_down("eth0").await;
            next_change(&mut host).await;
            bed.set_up("eth0").await;
            let is_gratuitous = |arp: &bed::Arp| (arp.sender, arp.target) == (VIP, VIP);
            while bed::poll_arp(&arp).is_none_or(|arp| !is_gratuitous(&arp)) {
                next_change(&mut host).await;
            }
            assert_eq!(host.changes().commands(), Vec::<String>::new());
        }
        bed.set_down("lvsd0").await;
        while host.changes().commands().is_empty() {
            next_change(&mut host).await;
        }
        bed.set_up("lvsd0").await;
        while !host.changes().commands().is_empty() {
            next_change(&mut host).await;
        }
        bed.client.send(VIP, "up again");
        captured(&tun, "up again");
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn an_interface_that_was_recreated_is_used_again() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsd0");
        let mut host = DirectorHost::start(options()).await.unwrap();
        let index = bed.index("eth0").await;
        bed.handle.link().del(index).execute().await.unwrap();
        next_change(&mut host).await;
        bed.handle.link().add(LinkVeth::new("eth0", "other0").build()).execute().await.unwrap();
        bed.set_up("eth0").await;
        let netlink = Netlink::open().unwrap();
        let index = bed.index("eth0").await;
        while !netlink.proxies().await.unwrap().iter().any(|proxy| proxy.index == index) {
            next_change(&mut host).await;
        }
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        assert_eq!(read_sysctl("net/ipv4/conf/eth0/forwarding"), 1);
        host.stop().await;
    });
}

#[test]
fn the_host_never_loses_its_own_addresses_while_rules_change() {
    in_namespace(async || {
        let bed = Bed::new().await;
        bed.add_address("lo", VIP, 32).await;
        let _tun = tun("lvsd0");
        // The first rule of a namespace makes the kernel split `local` from `main`, which has a moment of its own
        // (see `host::rule`).
        DirectorHost::start(options()).await.unwrap().stop().await;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                bed::runtime().block_on(async {
                    let netlink = Netlink::open().unwrap();
                    let mut looks = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(netlink.is_local(DIRECTOR).await.unwrap(), "a moment without `local`");
                        looks += 1;
                    }
                    looks
                })
            });
            let changer = scope.spawn(|| {
                bed::runtime().block_on(async {
                    for _ in 0..50 {
                        DirectorHost::start(options()).await.unwrap().stop().await;
                    }
                });
                is_over.store(true, Ordering::Relaxed);
            });
            changer.join().unwrap();
            assert!(watcher.join().unwrap() > 50, "too few looks to prove anything");
        });
    });
}

#[test]
fn vips_are_added_and_removed_while_the_director_runs() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let before = bed.snapshot().await;
        let mut host =
            DirectorHost::start(DirectorHostOptions { vips: Vec::new(), ..options() }).await.unwrap();
        let arp = bed.client.hear_arp();
        host.add_vips(&[VIP.into()]).await.unwrap();
        next_arp(&arp, |arp| (arp.sender, arp.target) == (VIP, VIP));
        bed.client.send(VIP, "added");
        captured(&tun, "added");
        let message = host.add_vips(&["2001:db8::1".parse().unwrap()]).await.unwrap_err().to_string();
        assert!(message.contains("only IPv4"), "{message}");
        host.remove_vips(&[VIP.into()]).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let vips = |route: &Route| route.destination == VIP;
        let routes = netlink.routes_by(bed.index("lvsd0").await).await.unwrap();
        assert!(!routes.iter().any(vips), "{routes:?}");
        assert_eq!(netlink.routes_in(CAPTURE_TABLE).await.unwrap(), []);
        assert_eq!(netlink.proxies().await.unwrap().len(), 0);
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}
