//! Where the host does not let a director start, or chooses for it.

use super::*;

#[test]
fn the_kernel_chooses_the_outer_source_and_routes_that_lead_back_are_refused() {
    in_namespace(async || {
        let bed = Bed::new().await;
        let _tun = tun("lvsd0");
        let host = DirectorHost::start(options()).await.unwrap();
        let served = BTreeSet::from([VIP.into()]);
        let reach = host.reach(CLIENT.into(), &served, None).await.unwrap();
        let source = OuterSource { address: DIRECTOR.into(), interface: "eth0".into(), path_mtu: 1500 };
        assert_eq!(reach, Reach::Remote(source));
        for here in [DIRECTOR, Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)] {
            assert_eq!(host.reach(here.into(), &served, None).await.unwrap(), Reach::Local);
        }
        let netlink = Netlink::open().unwrap();
        let looping = Ipv4Addr::new(172, 25, 9, 9);
        netlink.add_route(looping, TABLE_MAIN, bed.index("lvsd0").await).await.unwrap();
        let cases: [(IpAddr, &str); 3] = [
            (VIP.into(), "is itself a VIP"),
            (looping.into(), "leads through lvsd0"),
            (FAR_CLIENT.into(), "there is no route to it"),
        ];
        for (rip, words) in cases {
            let message = host.reach(rip, &served, None).await.unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        host.stop().await;
    });
}

#[test]
fn a_missing_interface_is_named() {
    in_namespace(async || {
        let _bed = Bed::new().await;
        let missing = DirectorHostOptions { interfaces: vec!["eth7".into()], ..options() };
        let message = DirectorHost::start(missing).await.err().expect("an error").to_string();
        assert_eq!(message, "interface eth7 does not exist; `ip link` lists those that do");
    });
}
