//! One change: making it, undoing it, describing it, and the command that makes it by hand.

use std::fmt;
use std::net::Ipv4Addr;

use crate::host::CAPTURE_TABLE;
use crate::host::error::HostError;
use crate::host::mirror::Copied;
use crate::host::mss::{self, MSS_PREFERENCE};
use crate::host::netlink::{Interface, Netlink, TABLE_MAIN};
use crate::host::rule::{self, Step};
use crate::host::sysctl::{self, Sysctl};

/// A network device, by name and kernel index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    pub name: String,
    /// 0 if the device does not exist (only with `--no-host-changes`).
    pub index: u32,
}

impl From<&Interface> for Device {
    fn from(interface: &Interface) -> Device {
        Device { name: interface.name.clone(), index: interface.index }
    }
}

/// A change on the host that a daemon depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Sysctl(Sysctl),
    /// `address`/32 on the device.
    Address {
        address: Ipv4Addr,
        device: Device,
    },
    /// `destination`/32 through the device, scope link.
    Route {
        destination: Ipv4Addr,
        table: u32,
        device: Device,
    },
    /// Packets that arrive on the interface are looked up in [`CAPTURE_TABLE`] before `local`.
    CaptureRule {
        interface: String,
    },
    /// A route of table main, with the MSS announced to a real server's clients.
    MssRoute(Copied),
    /// The host's own packets from the VIP are looked up in the table before main.
    MssRule {
        vip: Ipv4Addr,
        table: u32,
    },
    /// The host answers ARP for `address` on the device.
    Proxy {
        address: Ipv4Addr,
        device: Device,
    },
}

impl Change {
    /// Makes the change; a sysctl returns its previous value.
    pub(super) async fn apply(&self, netlink: &Netlink) -> Result<Option<i64>, HostError> {
        match self {
            Change::Sysctl(sysctl) => return sysctl.set().map(Some),
            Change::Address { address, device } => netlink.add_address(*address, 32, device.index).await?,
            Change::Route { destination, table, device } => {
                netlink.add_route(*destination, *table, device.index).await?;
            }
            Change::CaptureRule { interface } => {
                for step in rule::plan(&netlink.rules().await?, interface)? {
                    match step {
                        Step::Add(rule) => netlink.add_rule(rule).await?,
                        Step::Delete(rule) => netlink.delete_rule(rule).await?,
                    }
                }
            }
            Change::MssRoute(copied) => {
                let made = netlink.replace_route(copied.message()).await;
                if let Err(HostError::Netlink { .. }) = made {
                    netlink.replace_route(copied.throw()).await?;
                }
                made?;
            }
            Change::MssRule { vip, table } => netlink.add_rule(mss::mss_rule(*vip, *table)).await?,
            Change::Proxy { address, device } => netlink.add_proxy(*address, device.index).await?,
        }
        Ok(None)
    }

    /// Undoes the change. Returns the reason if it was left in place.
    pub(super) async fn undo(
        &self,
        netlink: &Netlink,
        previous: Option<i64>,
    ) -> Result<Option<String>, HostError> {
        match self {
            Change::Sysctl(sysctl) => return restore(sysctl, previous),
            Change::Address { address, device } => netlink.delete_address(*address, 32, device.index).await?,
            Change::Route { destination, table, device } => {
                netlink.delete_route(*destination, *table, device.index).await?;
            }
            Change::CaptureRule { interface } => {
                if !netlink.routes_in(CAPTURE_TABLE).await?.is_empty() {
                    return Ok(Some(format!("table {CAPTURE_TABLE} contains routes of another daemon")));
                }
                if let Some(rule) = rule::find(&netlink.rules().await?, interface) {
                    netlink.delete_rule(rule.clone()).await?;
                }
            }
            Change::MssRoute(copied) => {
                // The key alone is not enough: the kernel matches priority 0 with any priority
                // (fib_nh_match()).
                match netlink.delete_route_like(copied.message()).await {
                    Err(error) if error.is_gone() => netlink.delete_route_like(copied.throw()).await?,
                    deleted => deleted?,
                }
            }
            Change::MssRule { vip, table } => {
                if let Some(rule) = mss::find(&netlink.rules().await?, *vip, *table) {
                    netlink.delete_rule(rule.clone()).await?;
                }
            }
            Change::Proxy { address, device } => netlink.delete_proxy(*address, device.index).await?,
        }
        Ok(None)
    }

    /// Whether making this change has undone `other`.
    pub(super) fn replaces(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::MssRoute(this), Change::MssRoute(other)) => {
                (this.key(), this.table) == (other.key(), other.table)
            }
            _ => false,
        }
    }

    /// The host works without it: if it cannot be made, it is reported as missing and tried again.
    pub(super) fn is_dispensable(&self) -> bool {
        matches!(self, Change::MssRoute(_))
    }

    /// The same change as a command line for a root shell.
    pub fn command(&self) -> String {
        match self {
            Change::Sysctl(sysctl) => format!("sysctl -w {}={}", sysctl.name(), sysctl.value()),
            Change::Address { address, device } => format!("ip address add {address}/32 dev {}", device.name),
            Change::Route { destination, table, device } => {
                format!("ip route add {destination}/32 dev {} scope link{}", device.name, in_table(*table))
            }
            Change::CaptureRule { interface } => format!(
                "ip rule add pref 0 iif {interface} lookup {CAPTURE_TABLE} && \
                 ip rule add pref 0 lookup local && ip rule del pref 0 lookup local"
            ),
            Change::MssRoute(copied) => format!("ip route add {}", copied.words),
            Change::MssRule { vip, table } => {
                format!("ip rule add pref {MSS_PREFERENCE} from {vip} iif lo lookup {table}")
            }
            Change::Proxy { address, device } => format!("ip neigh add proxy {address} dev {}", device.name),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Sysctl(sysctl) => write!(f, "sysctl {}={}", sysctl.name(), sysctl.value()),
            Change::Address { address, device } => write!(f, "address {address}/32 dev {}", device.name),
            Change::Route { destination, table, device } => {
                write!(f, "route {destination}/32 dev {}{}", device.name, in_table(*table))
            }
            Change::CaptureRule { interface } => {
                write!(f, "rule iif {interface} lookup {CAPTURE_TABLE} ahead of local")
            }
            Change::MssRoute(copied) => write!(f, "route {}", copied.words),
            Change::MssRule { vip, table } => write!(f, "rule from {vip} iif lo lookup {table}"),
            Change::Proxy { address, device } => write!(f, "proxy neighbour {address} dev {}", device.name),
        }
    }
}

fn in_table(table: u32) -> String {
    if table == TABLE_MAIN { String::new() } else { format!(" table {table}") }
}

fn restore(sysctl: &Sysctl, previous: Option<i64>) -> Result<Option<String>, HostError> {
    let found = sysctl::read(&sysctl.key)?;
    let Some(previous) = previous else { return Ok(None) };
    if found != sysctl.value() {
        return Ok(Some(format!("its value is now {found}, set by another program")));
    }
    sysctl::write(&sysctl.key, previous)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sysctl::Wanted;

    #[test]
    fn every_change_can_be_made_by_hand() {
        let vip = Ipv4Addr::new(172, 25, 3, 100);
        let tun = Device { name: "lvsd0".into(), index: 7 };
        let eth0 = Device { name: "eth0".into(), index: 2 };
        let cases = [
            (
                Change::Sysctl(Sysctl::of_interface("eth0", "forwarding", Wanted::Exactly(1))),
                "sysctl -w net.ipv4.conf.eth0.forwarding=1",
            ),
            (
                Change::Address { address: vip, device: tun.clone() },
                "ip address add 172.25.3.100/32 dev lvsd0",
            ),
            (
                Change::Route { destination: vip, table: TABLE_MAIN, device: tun.clone() },
                "ip route add 172.25.3.100/32 dev lvsd0 scope link",
            ),
            (
                Change::Route { destination: vip, table: CAPTURE_TABLE, device: tun },
                "ip route add 172.25.3.100/32 dev lvsd0 scope link table 7690",
            ),
            (
                Change::CaptureRule { interface: "eth0".into() },
                "ip rule add pref 0 iif eth0 lookup 7690 && ip rule add pref 0 lookup local && ip rule del pref 0 lookup local",
            ),
            (
                Change::MssRule { vip, table: 7691 },
                "ip rule add pref 32765 from 172.25.3.100 iif lo lookup 7691",
            ),
            (Change::Proxy { address: vip, device: eth0 }, "ip neigh add proxy 172.25.3.100 dev eth0"),
        ];
        for (change, command) in cases {
            assert_eq!(change.command(), command);
        }
    }
}
