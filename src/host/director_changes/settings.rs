//! The settings that a director needs on its host. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use super::VipState;
use super::incoming::Incoming;
use crate::host::CAPTURE_TABLE;
use crate::host::change::capture_rule::CaptureRule;
use crate::host::change::device_address::DeviceAddress;
use crate::host::change::proxy::ProxyNeighbour;
use crate::host::change::route::VipRoute;
use crate::host::change::sysctl::{Sysctl, Wanted};
use crate::host::change::{Change, Device};
use crate::host::netlink::TABLE_MAIN;

/// The configured way to capture VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureMode {
    /// By rule, so that nothing has to change when a VIP becomes a local address. While it is none, also by route,
    /// which captures the host's own connections to the VIP.
    #[default]
    Auto,
    /// Always by route: a VIP that is a local address is then not captured, and a warning is logged.
    Route,
    /// Always by rule alone.
    Rule,
}

/// How one VIP is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// VIP/32 through the TUN device in table main.
    Route,
    /// The same route in [`CAPTURE_TABLE`], which arriving packets are looked up in before `local`.
    Rule,
    /// Both routes.
    Both,
}

impl Capture {
    /// The tables that have a route to the VIP.
    fn tables(self) -> &'static [u32] {
        match self {
            Capture::Route => &[TABLE_MAIN],
            Capture::Rule => &[CAPTURE_TABLE],
            Capture::Both => &[CAPTURE_TABLE, TABLE_MAIN],
        }
    }
}

/// When the host answers ARP for a VIP and announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Announce {
    /// Also for a VIP that is not an address of this host; two such directors in one network would conflict.
    #[default]
    Always,
    /// Only while the VIP is on a link ([`VipState::is_on_link`]), as with VRRP: the backup stays silent.
    WhenLocal,
    /// Only the VIPs that [`super::DirectorHost::announce_healthy`] was given last; at first none.
    WhenHealthy,
    /// Announced never: something else routes it here (BGP, a static route). A VIP on a link is answered for, as the
    /// host itself does without the capture.
    Never,
}

impl CaptureMode {
    /// How a VIP is captured at present.
    pub fn of(self, is_local: bool, announce: Announce) -> Capture {
        match self {
            CaptureMode::Route => Capture::Route,
            CaptureMode::Rule => Capture::Rule,
            // With VRRP, a backup's own connections to the VIP go to the master, because the rule applies to
            // arriving packets only.
            CaptureMode::Auto if is_local || announce == Announce::WhenLocal => Capture::Rule,
            // The rule stands ready: between the arrival of the address and a switch to a rule the host would
            // answer connections with RST.
            CaptureMode::Auto => Capture::Both,
        }
    }
}

impl Announce {
    /// Whether the host answers ARP for a VIP that is, or is not, on a link, and that is, or is not, healthy.
    pub fn is_answered(self, is_on_link: bool, is_healthy: bool) -> bool {
        match self {
            Announce::Always => true,
            Announce::WhenHealthy => is_healthy,
            Announce::WhenLocal | Announce::Never => is_on_link,
        }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capture::Route => "route",
            Capture::Rule => "rule",
            Capture::Both => "rule and route",
        })
    }
}

/// Everything the director needs on its host, in the order in which to make it.
///
/// A proxy entry comes before the capture that makes it necessary, and a rule before the routes of its table:
/// so each VIP is switched with a single route.
pub(super) fn wanted(incoming: &Incoming, tun: &Device, vips: &BTreeMap<Ipv4Addr, VipState>) -> Vec<Change> {
    let devices = incoming.devices();
    // ip-sysctl.rst: redirects are sent "if at least one of conf/{all,interface}/send_redirects is set". The other
    // interfaces have their own default of 1, so `all` does not change anything for them.
    let mut wanted = vec![Sysctl::of_interface("all", "send_redirects", Wanted::Exactly(0)).into()];
    wanted.extend(devices.iter().flat_map(|device| of_device(&device.name)));
    for device in incoming.silent() {
        // With 0, an ARP request for a client that gets a reply from the VIP names the VIP as its sender (arp_solicit()), and
        // the client then has this device's Ethernet address for it.
        wanted.push(Sysctl::of_interface(&device.name, "arp_announce", Wanted::AtLeast(2)).into());
    }
    // What belongs to the host comes back through the device, from sources that are routed elsewhere.
    wanted.push(Sysctl::of_interface(&tun.name, "rp_filter", Wanted::NotStrict).into());
    let has_rule = vips.values().any(|state| state.capture != Capture::Route);
    if has_rule && vips.values().any(|state| state.is_local) {
        // A packet that early demultiplexing assigns to a socket of the host is not forwarded (ip_forward(), `skb->sk`),
        // so no packet of such a connection would reach the TUN device.
        wanted.push(Sysctl::new("net/ipv4/ip_early_demux", Wanted::Exactly(0)).into());
    }
    wanted.push(DeviceAddress { device: tun.clone() }.into());
    for (vip, _) in vips.iter().filter(|(_, state)| state.is_answered) {
        let answering = incoming.answering(*vip).iter().cloned();
        wanted.extend(answering.map(|device| ProxyNeighbour { address: *vip, device }.into()));
    }
    if has_rule {
        let rule = |name: &str| CaptureRule { interface: name.to_owned(), tun: tun.index };
        wanted.extend(devices.iter().map(|device| rule(&device.name).into()));
    }
    for (vip, state) in vips {
        for table in state.capture.tables() {
            wanted.push(VipRoute { destination: *vip, table: *table, device: tun.clone() }.into());
        }
    }
    wanted
}

/// The settings of a device on which clients' packets arrive.
fn of_device(name: &str) -> [Change; 4] {
    [
        // Strict filtering would drop clients whose return route uses another interface, and the real
        // servers' answers to this host's own connections, because their source is routed to the TUN device.
        Sysctl::of_interface(name, "rp_filter", Wanted::NotStrict),
        Sysctl::of_interface(name, "send_redirects", Wanted::Exactly(0)),
        // The kernel delays proxied answers to broadcast requests by a random time of up to proxy_delay
        // (default 0.8 s; arp_process(), pneigh_enqueue()).
        Sysctl::new(format!("net/ipv4/neigh/{name}/proxy_delay"), Wanted::Exactly(0)),
        Sysctl::of_interface(name, "forwarding", Wanted::Exactly(1)),
    ]
    .map(Change::Sysctl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_captures_by_rule_and_by_route_what_is_not_local() {
        let auto = CaptureMode::Auto;
        assert_eq!(auto.of(false, Announce::Always), Capture::Both);
        assert_eq!(auto.of(false, Announce::Never), Capture::Both);
        assert_eq!(auto.of(true, Announce::Always), Capture::Rule);
        assert_eq!(auto.of(false, Announce::WhenLocal), Capture::Rule);
        assert_eq!(CaptureMode::Route.of(true, Announce::Always), Capture::Route);
    }

    #[test]
    fn a_backup_is_silent() {
        let is_answered = |announce: Announce| {
            let cases = [(false, false), (false, true), (true, false), (true, true)];
            cases.map(|(is_on_link, is_healthy)| announce.is_answered(is_on_link, is_healthy))
        };
        assert_eq!(is_answered(Announce::WhenLocal), [false, false, true, true]);
        assert_eq!(is_answered(Announce::WhenHealthy), [false, true, false, true]);
        assert_eq!(is_answered(Announce::Always), [true; 4]);
    }

    #[test]
    fn neighbours_still_find_the_hosts_own_address_while_it_is_captured() {
        for (is_on_link, is_healthy) in [(false, true), (true, false)] {
            assert_eq!(Announce::Never.is_answered(is_on_link, is_healthy), is_on_link);
        }
    }

    #[test]
    fn the_route_comes_last_and_ip_forward_is_never_written() {
        let device = |name: &str, index| Device { name: name.into(), index };
        let state = VipState {
            is_local: true,
            is_on_link: true,
            capture: Capture::Rule,
            is_answered: true,
            announcements: 0,
        };
        let vips = BTreeMap::from([(Ipv4Addr::new(10, 0, 0, 9), state)]);
        let incoming = Incoming { listed: vec![device("eth0", 2)], ..Incoming::default() };
        let wanted: Vec<String> =
            wanted(&incoming, &device("lvsd0", 3), &vips).iter().map(Change::command).collect();
        assert!(wanted.iter().all(|command| !command.contains("ip_forward")));
        let last: Vec<&str> = wanted.iter().rev().take(3).rev().map(String::as_str).collect();
        assert!(last[0].starts_with("ip neigh add proxy 10.0.0.9 dev eth0"));
        assert!(last[1].starts_with("ip rule add pref 0 iif eth0 lookup 7690"));
        assert_eq!(last[2], "ip route add 10.0.0.9/32 dev lvsd0 scope link table 7690");
    }
}
