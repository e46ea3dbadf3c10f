//! Clients on several interfaces of the director, and a VIP on a device that is not the configured one.

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use lvs_tund::control::Client;
use lvs_tund::lab::{self, Cluster, Host, Lab};

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, assert_nothing_lost, assert_round_robin,
    director_count, poll_until, same_subnet, start_real_servers, stop, web,
};
use crate::host_state::{
    add_address, add_macvlan, add_neighbour, add_route_by, add_route_dev, assert_same, connect,
    delete_address, mac_of, neighbour, proxies, state,
};

const NEAR: Ipv4Addr = Ipv4Addr::new(172, 25, 9, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(172, 25, 9, 2);

/// The second client is on the director's second interface, too, and looks for the VIP there.
fn with_second_interface() -> Result<Lab, lab::LabError> {
    let lab = same_subnet(2).with_clients(2).build()?;
    let client = &lab.clients[1];
    connect(&lab.director, ("eth1", NEAR), client, ("eth1", FAR));
    add_route_dev(client, lab.vip, "eth1");
    for server in &lab.real_servers {
        add_route_by(server, Ipv4Addr::new(172, 25, 9, 0), 24, lab.director.address);
    }
    Ok(lab)
}

fn ask_from(client: &Host, lab: &Lab, count: usize) -> std::io::Result<Vec<String>> {
    (0..count).map(|_| Ok(client.get((lab.vip, 80), "/")?.text())).collect()
}

/// Captured by route, and by rule.
pub fn two() -> Outcome {
    let lab = with_second_interface()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    for is_local in [false, true] {
        if is_local {
            add_address(&lab.director, "lo", lab.vip);
        }
        let before = state(&lab.director);
        let text = web(&lab, "").replace("interface = \"eth0\"", "interface = [\"eth0\", \"eth1\"]");
        let mut director = lab::start_director(&lab, &text)?;
        director.wait_for_log("ready on eth0 and eth1", PATIENCE)?;
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        assert_round_robin(&ask_from(&lab.clients[1], &lab, 4)?, 2);
        assert_conserved(&lab)?;
        stop(&mut director)?;
        assert_same(&before, &state(&lab.director), "the director's host");
    }
    Ok(())
}

/// Only a virtual service's packets are missed, and each interface is named once.
pub fn elsewhere() -> Outcome {
    let lab = with_second_interface()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    for is_local in [false, true] {
        if is_local {
            add_address(&lab.director, "lo", lab.vip);
        }
        let control = format!("control = \"{}\"", Cluster::control_path(&lab).display());
        let mut director = lab::start_director(&lab, &web(&lab, &control))?;
        // The VIP has no neighbour entry there, as behind a router.
        add_neighbour(&lab.clients[1], "eth1", lab.vip, &mac_of(&lab.director, "eth1"));
        // Its first look at the host is two seconds after the start.
        poll_until("a warning", || {
            let client = &lab.clients[1];
            for port in [80, 22] {
                let address = (lab.vip, port).into();
                let _ = client.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)));
            }
            director.log().contains("arrive on eth1").then_some(())
        });
        director.wait_for_log("set interface = [\"eth0\", \"eth1\"]", PATIENCE)?;
        let log = director.log();
        assert_eq!(log.matches("(from 172.25.9.2), where they are not captured").count(), 1, "{log}");
        assert_is_reported(&lab)?;
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        stop(&mut director)?;
    }
    // Where the host forwards from there anyway, a route captures them.
    delete_address(&lab.director, lab.vip);
    lab.director.namespace.write_sysctl("net/ipv4/ip_forward", "1")?;
    lab.director.namespace.write_sysctl("net/ipv4/conf/eth1/rp_filter", "0")?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    for _ in 0..5 {
        assert_round_robin(&ask_from(&lab.clients[1], &lab, 2)?, 2);
        thread::sleep(Duration::from_millis(500));
    }
    stop(&mut director)?;
    assert!(!director.log().contains("not captured"), "{}", director.log());
    Ok(())
}

/// By a counter, by `status`, and not as a reason to be replaced: the clients of the other interface are served.
fn assert_is_reported(lab: &Lab) -> Outcome {
    assert!(director_count(lab, "packets_stray_total", &[("interface", "eth1")]) > 0);
    let status = Client::new(Some(&Cluster::control_path(lab)))?.status()?;
    let found: Vec<_> = status.troubles.iter().map(|it| (it.kind.as_str(), it.subject.as_str())).collect();
    assert_eq!(found, [("stray_packets", "eth1 172.25.3.100")]);
    assert!(status.ready, "{status:?}");
    Ok(())
}

/// The VIP at the virtual Ethernet address of a VRRP router (RFC 5798 §7.3), as keepalived does with `use_vmac`: there the
/// packets arrive, and nowhere else may it be answered.
pub fn vmac() -> Outcome {
    const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    add_macvlan(&lab.director, "eth0", "vrrp.51", MAC);
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, "announce = \"local\""))?;
    for _ in 0..2 {
        add_address(&lab.director, "vrrp.51", lab.vip);
        director.wait_for_log("VIP 172.25.3.100 is an address of vrrp.51", PATIENCE)?;
        poll_until("an answer", || ask(&lab).ok());
        poll_until("one proxy neighbour", || (proxies(&lab.director).len() == 1).then_some(()));
        // The capture follows the address, and until then the host refuses.
        let mut kept = poll_until("a connection", || lab.client().connect((lab.vip, 80)).ok());
        let server = kept.get("/")?.text();
        let announces = lab.director.namespace.read_sysctl("net.ipv4.conf.eth0.arp_announce")?;
        assert_eq!(announces, "2", "a request for a client may name the VIP");
        // Before the capture followed, the host's own reset may have named the VIP at the other Ethernet address.
        let is_there = || (neighbour(lab.client(), lab.vip) == Some(MAC.to_vec())).then_some(());
        poll_until("the VIP at the virtual Ethernet address", is_there);
        // past the second announcement
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(kept.get("/")?.text(), server, "a connection has moved");
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        assert_eq!(neighbour(lab.client(), lab.vip), Some(MAC.to_vec()));
        delete_address(&lab.director, lab.vip);
        poll_until("the end of the answers", || proxies(&lab.director).is_empty().then_some(()));
    }
    assert_nothing_lost(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}
