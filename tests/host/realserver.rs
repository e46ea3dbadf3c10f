//! The real server's host, with real packets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use lvs_tund::host::{HostChanges, Mss, Notice, RealServerHost, RealServerHostOptions};

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

#[test]
fn a_real_server_accepts_decapsulated_packets_despite_a_strict_rp_filter() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let default_route = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().gateway(CLIENT).build();
        bed.handle.route().add(default_route).execute().await.unwrap();
        let tun = tun("lvsr0");
        let before = bed.snapshot().await;
        let options = RealServerHostOptions {
            tun: "lvsr0".into(),
            vips: vec![VIP.into()],
            mss: Mss::Off,
            changes: HostChanges::Make,
            journal: None,
        };
        let mut host = RealServerHost::start(options).await.unwrap();
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
        let options = RealServerHostOptions {
            tun: "lvsr0".into(),
            vips: vec![VIP.into()],
            mss: Mss::Off,
            changes: HostChanges::Make,
            journal: None,
        };
        let host = RealServerHost::start(options).await.unwrap();
        let settings =
            ["arp_ignore", "arp_announce"].map(|key| read_sysctl(&format!("net/ipv4/conf/all/{key}")));
        assert_eq!(settings, [1, 2]);
        write_sysctl("net/ipv4/conf/all/arp_ignore", 2);
        host.stop().await;
        assert_eq!(read_sysctl("net/ipv4/conf/all/arp_ignore"), 2);
        assert_eq!(read_sysctl("net/ipv4/conf/all/arp_announce"), 0);
    });
}
