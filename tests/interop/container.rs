//! A real server whose application runs in a container: its port is published by DNAT, as Docker and Podman do.

use std::net::Ipv4Addr;

use lvs_tund::lab::http::Server;
use lvs_tund::lab::{self, Direction, Filter, Namespace};

use crate::fixture::{Outcome, assert_nothing_lost, same_subnet, web, web_address};
use crate::programs::run;

const APPLICATION: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

const DNAT: &str = "table ip nat { chain prerouting { type nat hook prerouting priority dstnat; \
                    ip daddr 172.25.3.100 tcp dport 80 dnat to 10.77.0.2:8080; }; }";

/// As docs/mtu.md has it.
const CLAMP: &str = "table ip lvs-mss { chain forward { type filter hook forward priority mangle; \
                     ct original ip daddr 172.25.3.100 tcp flags syn tcp option maxseg size set 1440; }; }";

/// Where routing is turned on before the daemon starts, and while it runs.
pub fn published_port() -> Outcome {
    for is_first in [true, false] {
        let lab = same_subnet(1).build()?;
        let host = &lab.real_servers[0];
        let container = Namespace::create("container")?;
        let ip = |arguments: &str| run(host, "ip", &arguments.split(' ').collect::<Vec<_>>());
        ip("link add br0 type bridge")?;
        ip("link set br0 up")?;
        ip("address add 10.77.0.1/24 dev br0")?;
        ip(&format!("link add veth0 type veth peer name eth0 netns {}", container.path().display()))?;
        ip("link set veth0 master br0 up")?;
        let inside = |arguments: &'static str| {
            container.run(move || std::process::Command::new("ip").args(arguments.split(' ')).status())
        };
        for arguments in [
            "link set lo up",
            "link set eth0 up",
            "address add 10.77.0.2/24 dev eth0",
            "route add default via 10.77.0.1",
        ] {
            assert!(inside(arguments)?.success(), "{arguments}");
        }
        let _application = Server::start(&container, (APPLICATION, 8080).into(), "container")?;
        run(host, "nft", &[DNAT])?;
        let forward = || host.namespace.write_sysctl("net.ipv4.ip_forward", "1");
        if is_first {
            forward()?;
        }
        let mut daemon = lab::start_real_server(&lab, host)?;
        if !is_first {
            forward()?;
        }
        let _director = lab::start_director(&lab, &web(&lab, ""))?;
        for _ in 0..4 {
            assert_eq!(lab.client().get(web_address(&lab), "/")?.text(), "container");
        }
        run(host, "nft", &[CLAMP])?;
        let packets = lab.client().capture(Filter { source: Some(lab.vip), destination: None })?;
        assert_eq!(lab.client().connect(web_address(&lab))?.post("/", &[0; 100_000])?.status, 200);
        let packets = packets.stop();
        let syn_ack = packets.iter().find(|packet| packet.bytes[33] & 0x12 == 0x12).expect("a SYN-ACK");
        assert_eq!(syn_ack.direction, Direction::Received);
        // option 2 of RFC 9293 §3.1 comes first
        assert_eq!(syn_ack.bytes[40..44], [2, 4, 5, 160], "an MSS of 1440 bytes");
        assert_nothing_lost(&lab)?;
        daemon.stop()?;
        assert_eq!(host.namespace.read_sysctl("net.ipv4.conf.eth0.forwarding")?, "1");
    }
    Ok(())
}
