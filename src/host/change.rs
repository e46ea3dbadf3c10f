//! What a daemon may change on its host: one file per kind, one row in the table.
//!
//! A kind contains the code that finds out whether its change is in place, makes it and undoes it, and the command
//! that makes it by hand. The ledger [`super::Changes`] is independent of the kinds.

pub mod address;
pub mod answer_route;
pub mod capture_rule;
pub mod device_address;
pub mod loop_rule;
pub mod mss_route;
pub mod mss_rule;
pub mod observed;
pub mod probe_rule;
pub mod proxy;
pub mod route;
pub mod sysctl;

use std::fmt;

use address::VipAddress;
use answer_route::AnswerRoute;
use capture_rule::CaptureRule;
use device_address::DeviceAddress;
use loop_rule::LoopRule;
use mss_rule::MssRule;
pub use observed::Observed;
use probe_rule::ProbeRule;
use proxy::ProxyNeighbour;
use route::VipRoute;
use sysctl::{Sysctl, Wanted};

use super::error::HostError;
use super::journal::Record;
use super::mirror::Copied;
use super::netlink::{Interface, Netlink};
use super::{ANSWER_TABLE, CAPTURE_TABLE, PROBE_MARK, PROBE_TABLE, PROTOCOL};

/// A network device, by name and kernel index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// As in `ip link` and in the paths of sysctls.
    pub name: String,
    /// 0 if the device does not exist (only with `--no-host-changes`).
    pub index: u32,
}

impl From<&Interface> for Device {
    fn from(interface: &Interface) -> Device {
        Device { name: interface.name.clone(), index: interface.index }
    }
}

/// Whether a change is in place, and who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The change has to be made, also after another program has undone it.
    Absent,
    /// It carries this program's protocol number: a killed predecessor made it.
    Ours,
    /// Another program or the operator made it, or the kernel does not record who did: if found at the start, it is
    /// left alone at the end.
    Foreign,
}

impl Presence {
    /// An object of the kernel that carries a protocol number.
    pub fn by_protocol(protocol: u8) -> Presence {
        if protocol == PROTOCOL { Presence::Ours } else { Presence::Foreign }
    }
}

/// What a change replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Of the setting itself.
    pub value: i64,
    /// The setting of the whole host that overwrites this one when it changes (`conf/all/forwarding`).
    pub all: Option<i64>,
}

impl Change {
    /// The change that a killed daemon recorded, and what it replaced.
    pub(super) fn of_record(record: &Record) -> (Change, Option<Replaced>) {
        match record.clone() {
            Record::Sysctl { key, value, previous, all } => {
                (Sysctl::new(key, Wanted::Exactly(value)).into(), Some(Replaced { value: previous, all }))
            }
            Record::Proxy { address, device, index } => {
                (ProxyNeighbour { address, device: Device { name: device, index } }.into(), None)
            }
            // The device of a killed daemon, and its routes with it, no longer exist.
            Record::CaptureRule { interface } => (CaptureRule { interface, tun: 0 }.into(), None),
            Record::LoopRule { vip, device } => (LoopRule { vip, device }.into(), None),
            Record::ProbeRule { direction, carrier } => (ProbeRule { direction, carrier }.into(), None),
            Record::AnswerRoute { vip } => (AnswerRoute { vip, devices: Vec::new() }.into(), None),
        }
    }
}

/// The result of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// The host is as if the change had never been made.
    Removed,
    /// The change stays, for this reason.
    Left(String),
}

impl Undone {
    fn taken_over() -> Undone {
        Undone::Left("another program has taken it over".to_owned())
    }
}

/// A kind of change.
pub(super) trait ChangeKind: Sized {
    /// Queries the kernel for what [`ChangeKind::presence`] needs, unless the list is there already.
    async fn observe(&self, _: &Netlink, _: &mut Observed) -> Result<(), HostError> {
        Ok(())
    }

    /// Whether the change is in place.
    fn presence(&self, observed: &Observed) -> Result<Presence, HostError>;

    /// The value that the change replaces, for [`ChangeKind::undo`].
    fn replaced(&self) -> Result<Option<Replaced>, HostError> {
        Ok(None)
    }

    /// What the next start has to know if this daemon is killed; `None` for what disappears with the TUN device, and
    /// for what is found by [`PROTOCOL`] alone.
    fn record(&self, _replaced: Option<Replaced>) -> Option<Record> {
        None
    }

    /// Makes the change.
    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError>;

    /// Undoes the change. `now` is the host as it was just before: what another program has made of the
    /// change in the meantime is left alone.
    async fn undo(
        &self,
        netlink: &Netlink,
        now: &Observed,
        replaced: Option<Replaced>,
    ) -> Result<Undone, HostError>;

    /// The change in a log line.
    fn describe(&self) -> String;

    /// The same change as a command line for a root shell.
    fn command(&self) -> String;

    /// Whether making this change has undone `other`.
    fn replaces(&self, _: &Self) -> bool {
        false
    }

    /// The same change after an interface got another name, if the kernel carries it over.
    fn renamed(self, _from: &str, _to: &Device) -> Self {
        self
    }

    /// The host works without it: if it cannot be made, it is reported as missing and tried again.
    fn is_optional(&self) -> bool {
        false
    }
}

macro_rules! kinds {
    ($($module:ident: $(#[$meta:meta])* $name:ident($type:ty),)*) => {
        /// A change on the host that a daemon depends on.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Change {
            $($(#[$meta])* $name($type),)*
        }

        /// The kinds of changes.
        pub const KINDS: &[&str] = &[$(stringify!($module)),*];

        $(impl From<$type> for Change {
            fn from(change: $type) -> Change {
                Change::$name(change)
            }
        })*

        impl Change {
            pub(super) async fn observe(
                &self,
                netlink: &Netlink,
                observed: &mut Observed,
            ) -> Result<(), HostError> {
                match self {
                    $(Change::$name(change) => change.observe(netlink, observed).await,)*
                }
            }

            pub(super) fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
                match self {
                    $(Change::$name(change) => change.presence(observed),)*
                }
            }

            pub(super) fn replaced(&self) -> Result<Option<Replaced>, HostError> {
                match self {
                    $(Change::$name(change) => change.replaced(),)*
                }
            }

            pub(super) fn record(&self, replaced: Option<Replaced>) -> Option<Record> {
                match self {
                    $(Change::$name(change) => change.record(replaced),)*
                }
            }

            pub(super) async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
                match self {
                    $(Change::$name(change) => change.apply(netlink).await,)*
                }
            }

            pub(super) async fn undo(
                &self,
                netlink: &Netlink,
                now: &Observed,
                replaced: Option<Replaced>,
            ) -> Result<Undone, HostError> {
                match self {
                    $(Change::$name(change) => change.undo(netlink, now, replaced).await,)*
                }
            }

            pub(super) fn replaces(&self, other: &Change) -> bool {
                match (self, other) {
                    $((Change::$name(this), Change::$name(other)) => this.replaces(other),)*
                    _ => false,
                }
            }

            pub(super) fn renamed(self, from: &str, to: &Device) -> Change {
                match self {
                    $(Change::$name(change) => Change::$name(change.renamed(from, to)),)*
                }
            }

            pub(super) fn is_optional(&self) -> bool {
                match self {
                    $(Change::$name(change) => change.is_optional(),)*
                }
            }

            /// The same change as a command line for a root shell.
            pub fn command(&self) -> String {
                match self {
                    $(Change::$name(change) => change.command(),)*
                }
            }
        }

        impl fmt::Display for Change {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Change::$name(change) => f.write_str(&change.describe()),)*
                }
            }
        }
    };
}

kinds! {
    address:
        /// Binds a VIP on a real server.
        Address(VipAddress),
    answer_route:
        /// Makes a director's host accept the answers to checks.
        AnswerRoute(AnswerRoute),
    capture_rule:
        /// Leads arriving packets to [`CAPTURE_TABLE`]; one for all VIPs of a director.
        CaptureRule(CaptureRule),
    device_address:
        /// Lets packets come back to the host through a director's TUN device.
        DeviceAddress(DeviceAddress),
    loop_rule:
        /// Drops what a real server's TUN device delivers for a VIP that the host does not have.
        LoopRule(LoopRule),
    mss_route:
        /// One route of the table with a real server's MSS.
        MssRoute(Copied),
    mss_rule:
        /// Leads packets from one VIP to that table.
        MssRule(MssRule),
    probe_rule:
        /// Leads the packets of checks, and the validation of their answers, to tables of their own.
        ProbeRule(ProbeRule),
    proxy:
        /// Makes a director's host answer ARP for a VIP.
        Proxy(ProxyNeighbour),
    route:
        /// Captures one VIP, in table main or in [`CAPTURE_TABLE`].
        Route(VipRoute),
    sysctl:
        /// A value below /proc/sys, restored at the end if it is still the one written here.
        Sysctl(Sysctl),
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::netlink::TABLE_MAIN;
    use super::*;

    #[test]
    fn every_change_can_be_made_by_hand() {
        let vip = Ipv4Addr::new(172, 25, 3, 100);
        let tun = Device { name: "lvsd0".into(), index: 7 };
        let eth0 = Device { name: "eth0".into(), index: 2 };
        let cases: [(Change, &str); 13] = [
            (
                Sysctl::of_interface("eth0", "forwarding", Wanted::Exactly(1)).into(),
                "sysctl -w net.ipv4.conf.eth0.forwarding=1",
            ),
            (
                VipAddress { address: vip, device: tun.clone() }.into(),
                "ip address add 172.25.3.100/32 dev lvsd0",
            ),
            (
                DeviceAddress { device: tun.clone() }.into(),
                "ip address add 192.0.0.8/32 dev lvsd0 scope host",
            ),
            (
                VipRoute { destination: vip, table: TABLE_MAIN, device: tun.clone() }.into(),
                "ip route add 172.25.3.100/32 dev lvsd0 scope link",
            ),
            (
                VipRoute { destination: vip, table: CAPTURE_TABLE, device: tun }.into(),
                "ip route add 172.25.3.100/32 dev lvsd0 scope link table 7690",
            ),
            (
                CaptureRule { interface: "eth0".into(), tun: 7 }.into(),
                "ip rule add pref 0 iif eth0 lookup 7690 && ip rule add pref 0 lookup local protocol 76 && ip rule del pref 0 lookup local && ip rule add pref 0 lookup local && ip rule del pref 0 lookup local protocol 76",
            ),
            (
                LoopRule { vip, device: "lvsr0".into() }.into(),
                "ip rule add pref 1 iif lvsr0 to 172.25.3.100 blackhole",
            ),
            (
                MssRule { vip, table: 7691 }.into(),
                "ip rule add pref 32765 from 172.25.3.100 iif lo lookup 7691",
            ),
            (
                ProbeRule::ALL[0].into(),
                "ip rule add pref 0 fwmark 76 ipproto tcp lookup 7688 && ip rule add pref 0 lookup local protocol 76 && ip rule del pref 0 lookup local && ip rule add pref 0 lookup local && ip rule del pref 0 lookup local protocol 76",
            ),
            (
                ProbeRule::ALL[3].into(),
                "ip rule add pref 0 iif lo ipproto udp sport 61000-62999 lookup 7689 && ip rule add pref 0 lookup local protocol 76 && ip rule del pref 0 lookup local && ip rule add pref 0 lookup local && ip rule del pref 0 lookup local protocol 76",
            ),
            (
                AnswerRoute { vip, devices: vec![eth0.clone()] }.into(),
                "ip route add 172.25.3.100/32 scope link table 7689 dev eth0",
            ),
            (
                AnswerRoute { vip, devices: vec![eth0.clone(), Device { name: "eth1".into(), index: 3 }] }
                    .into(),
                "ip route add 172.25.3.100/32 scope link table 7689 nexthop dev eth0 nexthop dev eth1",
            ),
            (
                ProxyNeighbour { address: vip, device: eth0 }.into(),
                "ip neigh add proxy 172.25.3.100 dev eth0",
            ),
        ];
        for (change, command) in cases {
            assert_eq!(change.command(), command);
        }
    }
}
