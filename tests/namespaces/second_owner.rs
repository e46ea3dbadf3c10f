//! Another host that has a VIP while the director's host answers for it: named in the log and by `status`, and counted.

use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use lvs_tund::control::Client;
use lvs_tund::lab::{self, Cluster, Host, Lab};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};

use crate::fixture::{Outcome, PATIENCE, director_metrics, poll_until, same_subnet, web};
use crate::host_state::{add_address, delete_address, mac_of};

/// How long this host has to answer for the VIP before and after a claim.
const SETTLED: Duration = Duration::from_secs(4);

/// Of no host in the lab.
const FORGED: [u8; 6] = [2, 0, 0, 0xab, 0, 0x99];

const CLAIMS: &str = "lvs_tund_director_vip_claims_total";

/// One that announces the VIP, and one that only answers those who ask for it.
pub fn named() -> Outcome {
    let lab = same_subnet(1).build()?;
    let silent = &lab.real_servers[0];
    add_address(&lab.director, "eth0", lab.vip);
    add_address(silent, "eth0", lab.vip);
    let control = Cluster::control_path(&lab);
    let keys = format!("announce = \"local\"\ncontrol = \"{}\"", control.display());
    let mut director = lab::start_director(&lab, &web(&lab, &keys))?;
    let control = Client::new(Some(control.as_path()))?;
    let status = || control.status().expect("a status");
    thread::sleep(SETTLED + Duration::from_secs(1));
    announce(lab.client(), &lab);
    let owners = ["02:00:00:ab:00:99".to_owned(), text_of(&mac_of(silent, "eth0"))];
    let begun = Instant::now();
    let trouble = loop {
        let found = status().troubles.into_iter().find(|trouble| trouble.kind == "vip_claimed");
        let message = found.as_ref().map(|trouble| trouble.message.as_str()).unwrap_or_default();
        if let Some(trouble) = found.as_ref().filter(|_| owners.iter().all(|mac| message.contains(mac))) {
            break trouble.clone();
        }
        assert!(begun.elapsed() < 3 * SETTLED, "only found: {message:?}");
        thread::sleep(Duration::from_millis(100));
    };
    assert!(trouble.subject == "172.25.3.100" && !trouble.stops_packets, "{trouble:?}");
    director.wait_for_log("VIP 172.25.3.100: Ethernet address", PATIENCE)?;
    let begun = |line: &&str| {
        line.contains(" WARN director: ") && line.contains(" VIP 172.25.3.100: Ethernet address")
    };
    assert_eq!(director.log().lines().filter(begun).count(), 1, "{}", director.log());
    let claims = director_metrics(&lab)?.sum(CLAIMS, &[("vip", "172.25.3.100")]);
    assert!(claims.is_some_and(|count| (2.0..9.0).contains(&count)), "{claims:?}");
    delete_address(&lab.director, lab.vip);
    poll_until("the line that it is over", || {
        let is_over = |line: &str| {
            line.contains("director: over after ") && line.contains(" VIP 172.25.3.100: Ethernet address")
        };
        director.log().lines().any(is_over).then_some(())
    });
    director.wait_for_log("no longer answers ARP for VIP 172.25.3.100", PATIENCE)?;
    Ok(())
}

/// Sends a gratuitous ARP for the VIP, with an Ethernet address that is none of the lab's.
fn announce(host: &Host, lab: &Lab) {
    let vip = lab.vip.octets();
    let mut frame = [&[0xff; 6][..], &FORGED, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &FORGED, &vip].concat();
    frame.extend([&[0; 6][..], &vip].concat());
    host.run(|| {
        let links = getifaddrs().expect("interfaces");
        let link = links
            .filter(|link| link.interface_name == "eth0")
            .find_map(|link| link.address.filter(|a| a.family() == Some(AddressFamily::Packet)));
        let link = *link.as_ref().and_then(|address| address.as_link_addr()).expect("the link of eth0");
        let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("a socket");
        sendto(raw.as_raw_fd(), &frame, &link, MsgFlags::empty()).expect("sent");
    });
}

fn text_of(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
