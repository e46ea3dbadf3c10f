//! The real server's host, with real packets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use lvs_tund::host::{HostChanges, Mss, Notice, RealServerHost, RealServerHostOptions};
use rtnetlink::packet_route::rule::RuleAction;

use crate::bed::{Bed, CLIENT, PATIENCE, VIP, in_namespace, next_arp, read_sysctl, tun, write_sysctl};
use crate::{ARP_REPLY, ARP_REQUEST, FAR_CLIENT};

/// A UDP datagram from a client behind eth0, as it comes out of the decapsulation.
fn inner_packet(text: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(FAR_CLIENT.octets(), VIP.octets(), 64)
        .udp(40_000, 9)
        .write(&mut packet, text.as_bytes())
        .unwrap();
    packet
}

fn options() -> RealServerHostOptions {
    RealServerHostOptions {
        tun: "lvsr0".into(),
        vips: vec![VIP.into()],
        mss: Mss::Off,
        changes: HostChanges::Make,
        journal: None,
    }
}

#[test]
fn a_real_server_accepts_decapsulated_packets_despite_a_strict_rp_filter() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let default_route = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().gateway(CLIENT).build();
        bed.handle.route().add(default_route).execute().await.unwrap();
        let tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let mut host = RealServerHost::start(options()).await.unwrap();
        let socket = UdpSocket::bind((VIP, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        tun.send(&inner_packet("decapsulated")).unwrap();
        let mut text = [0; 64];
        let (length, from) = socket.recv_from(&mut text).unwrap();
        assert_eq!((&text[..length], from.ip()), (&b"decapsulated"[..], IpAddr::from(FAR_CLIENT)));
        assert_eq!(read_sysctl("net/ipv4/conf/lvsr0/forwarding"), 0);

        // No host on the network learns of the VIP: not as the sender of our own request for the gateway …
        let arp = bed.client.hear_arp();
        socket.send_to(b"answer", from).unwrap();
        next_arp(&arp, |arp| {
            assert!(arp.sender != VIP, "a real server answers for the VIP: {arp:?}");
            arp.operation == ARP_REQUEST && arp.target == CLIENT
        });
        // … and not as an answer.
        let marker = Ipv4Addr::new(172, 25, 3, 3);
        bed.add_address("eth0", marker, 24).await;
        bed.client.send(VIP, "to the VIP directly");
        bed.client.send(marker, "marker");
        next_arp(&arp, |arp| {
            assert!(arp.sender != VIP, "a real server answers for the VIP: {arp:?}");
            arp.operation == ARP_REPLY && arp.sender == marker
        });
        bed.delete_address(marker).await;

        // A VIP that another program deleted comes back.
        bed.delete_address(VIP).await;
        host.on_notice(Notice::Changed).await;
        assert_eq!(host.changes().commands(), Vec::<String>::new());
        drop(socket);
        host.stop().await;
        assert_eq!(bed.snapshot().await, before);
    });
}

#[test]
fn a_setting_changed_by_another_program_is_left_alone() {
    in_namespace(async || {
        let _bed = Bed::new().await;
        let _tun = tun("lvsr0");
        let host = RealServerHost::start(options()).await.unwrap();
        let settings =
            ["arp_ignore", "arp_announce"].map(|key| read_sysctl(&format!("net/ipv4/conf/all/{key}")));
        assert_eq!(settings, [1, 2]);
        write_sysctl("net/ipv4/conf/all/arp_ignore", 2);
        host.stop().await;
        assert_eq!(read_sysctl("net/ipv4/conf/all/arp_ignore"), 2);
        assert_eq!(read_sysctl("net/ipv4/conf/all/arp_announce"), 0);
    });
}

#[test]
fn a_packet_for_a_deleted_vip_is_not_sent_back_although_the_host_forwards() {
    in_namespace(async || {
        let bed = Bed::new().await;
        // Every other obstacle is out of the way: routing would send the packet back.
        write_sysctl("net/ipv4/conf/all/rp_filter", 0);
        write_sysctl("net/ipv4/conf/default/rp_filter", 0);
        write_sysctl("net/ipv4/conf/default/forwarding", 1);
        let tun = tun("lvsr0");
        let mut host = RealServerHost::start(options()).await.unwrap();
        bed.delete_address(VIP).await;
        let arp = bed.client.hear_arp();
        tun.send(&inner_packet("for a deleted VIP")).unwrap();
        // What is for others is forwarded, a container for instance.
        let other = Ipv4Addr::new(172, 25, 3, 77);
        let mut packet = Vec::new();
        let builder = etherparse::PacketBuilder::ipv4(FAR_CLIENT.octets(), other.octets(), 64).udp(40_000, 9);
        builder.write(&mut packet, b"after DNAT").unwrap();
        tun.send(&packet).unwrap();
        next_arp(&arp, |arp| {
            assert!(arp.target != VIP, "the packet is sent back: {arp:?}");
            arp.operation == ARP_REQUEST && arp.target == other
        });

        // Without the rule it would be.
        let rules = bed.rules().await;
        bed.handle.rule().del(rules[1].clone()).execute().await.unwrap();
        tun.send(&inner_packet("for a deleted VIP")).unwrap();
        next_arp(&arp, |arp| arp.operation == ARP_REQUEST && arp.target == VIP);
        host.on_notice(Notice::Changed).await;
        assert_eq!(bed.rules().await, rules);

        // An operator moves the rule for `local`, and the rule follows it.
        let moved = bed.handle.rule().add().v4().priority(1000).table_id(255);
        moved.action(RuleAction::ToTable).execute().await.unwrap();
        bed.handle.rule().del(rules[0].clone()).execute().await.unwrap();
        host.on_device_restored();
        host.on_notice(Notice::Changed).await;
        let socket = UdpSocket::bind((VIP, 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        tun.send(&inner_packet("delivered again")).unwrap();
        let mut text = [0; 64];
        let (length, _) = socket.recv_from(&mut text).unwrap();
        assert_eq!(&text[..length], b"delivered again");
        drop(socket);
        host.stop().await;
        assert_eq!(bed.rules().await.len(), rules.len() - 1, "of the daemon nothing is left");
    });
}
