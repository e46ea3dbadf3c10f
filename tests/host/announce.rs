//! When a VIP is answered and announced by ARP.

use lvs_tund::host::{Announce, DirectorHost, DirectorHostOptions, Netlink};

use crate::bed::{Bed, DIRECTOR, VIP, captured, in_namespace, next_arp, tun};
use crate::{ARP_REPLY, ARP_REQUEST, next_change, options};

#[test]
fn a_vrrp_backup_is_silent_and_the_master_announces() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let arp = bed.client.hear_arp();
        let when_local = DirectorHostOptions { announce: Announce::WhenLocal, ..options() };
        let mut host = DirectorHost::start(when_local).await.unwrap();

        bed.client.send(VIP, "to the backup");
        // The answer for the director's own address is requested later, so it marks the end of the wait.
        bed.client.send(DIRECTOR, "marker");
        next_arp(&arp, |arp| {
            assert!(arp.sender != VIP, "a backup answers for the VIP: {arp:?}");
            arp.operation == ARP_REPLY && arp.sender == DIRECTOR
        });

        bed.add_address("eth0", VIP, 32).await;
        while !host.vips()[&VIP].is_answered {
            next_change(&mut host).await;
        }
        next_arp(&arp, |arp| (arp.operation, arp.sender, arp.target) == (ARP_REQUEST, VIP, VIP));
        bed.client.send(VIP, "to the master");
        assert_eq!(captured(&tun, "to the master").1, VIP);
        host.stop().await;
    });
}

#[test]
fn a_vip_is_answered_while_it_is_healthy_and_announced_when_it_becomes_so() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let tun = tun("lvsd0");
        let arp = bed.client.hear_arp();
        let when_healthy = DirectorHostOptions { announce: Announce::WhenHealthy, ..options() };
        let mut host = DirectorHost::start(when_healthy).await.unwrap();
        // The answer for the director's own address is requested later, so it marks the end of the wait.
        let is_silent = |text: &'static str| {
            bed.client.send(VIP, text);
            bed.client.send(DIRECTOR, "marker");
            next_arp(&arp, |arp| {
                assert!(arp.sender != VIP, "the VIP is answered or announced: {arp:?}");
                arp.operation == ARP_REPLY && arp.sender == DIRECTOR
            });
        };
        is_silent("before any check");

        host.announce_healthy([VIP].into()).await;
        next_arp(&arp, |arp| (arp.operation, arp.sender, arp.target) == (ARP_REQUEST, VIP, VIP));
        bed.client.send(VIP, "to the healthy");
        assert_eq!(captured(&tun, "to the healthy").1, VIP);

        host.announce_healthy([].into()).await;
        let proxies = Netlink::open().unwrap().proxies().await.unwrap();
        assert_eq!(proxies.len(), 0, "the VIP is answered without quorum");
        host.stop().await;
    });
}
