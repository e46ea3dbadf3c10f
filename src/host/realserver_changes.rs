//! The real server's host: the VIPs are addresses of the TUN device, and ARP does not announce them.
//!
//! ```text
//! director ── IPIP ──▶ eth0 ─▶ daemon ─▶ lvsr0 (VIP/32) ─▶ application ─▶ eth0 ──▶ client
//!                                        ▲ source CIP, routed by eth0: strict rp_filter would drop it
//! ```
//!
//! [`super::mss`] sets the MSS announced to the VIPs' clients.
//!
//! `forwarding` of the device is the host's: with it, DNAT leads the VIP's packets on to a container (Docker, Podman), as it
//! does from `tunl0`. A stranger's packet is not forwarded (CVE-2020-10136), because the daemon delivers packets for the VIPs
//! only, and those are addresses of this host; while one is not, because another program has deleted it, [`LoopRule`] ends them.
//!
//! The TUN device needs the VIP as its address: loose rp_filter drops every packet that it checks on a device
//! without an address (__fib_validate_source(), label last_resort). `accept_local` is not needed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::change::address::VipAddress;
use super::change::loop_rule::LoopRule;
use super::change::sysctl::{Sysctl, Wanted};
use super::change::{Change, Device};
use super::changes::{Changes, HostChanges};
use super::error::HostError;
use super::follow::{Event, Follower, Notice, TICK};
use super::journal::JournalPlace;
use super::mss::{Mss, MssTable};
use super::netlink::Netlink;
use super::tunnel_handler::TunnelHandler;
use crate::trouble::{Found, TroubleKind};

/// What a real server needs to know about its host.
#[derive(Debug, Clone)]
pub struct RealServerHostOptions {
    /// The TUN device; it exists and is up.
    pub tun: String,
    /// Bound to the TUN device for as long as the daemon runs; an IPv6 one is refused.
    pub vips: Vec<IpAddr>,
    /// What connections from the VIPs announce to their clients.
    pub mss: Mss,
    /// Whether the settings are made or only printed.
    pub changes: HostChanges,
    /// Where the journal of changes is; `None`: no journal.
    pub journal: Option<JournalPlace>,
}

/// The host of a running real server. Dropping it without [`RealServerHost::stop`] leaves the sysctls
/// changed.
pub struct RealServerHost {
    netlink: Netlink,
    changes: Changes,
    follower: Follower,
    tun: Device,
    /// Whether the device was up when last checked.
    is_up: bool,
    vips: BTreeSet<Ipv4Addr>,
    mss: MssTable,
    tunnel_handler: Option<TunnelHandler>,
    /// The changes of the last successful settlement.
    settled: Vec<Change>,
    /// The last reported problem, so that a lasting one is logged only once.
    complaint: Option<String>,
}

impl RealServerHost {
    /// Prepares the host and follows it from then on. If anything fails, all changes are undone.
    ///
    /// Needs a tokio runtime with timers, and CAP_NET_ADMIN.
    pub async fn start(options: RealServerHostOptions) -> Result<RealServerHost, HostError> {
        let netlink = Netlink::open()?;
        let tun = match (netlink.interface(&options.tun).await, options.changes) {
            (Err(HostError::NoInterface(name)), HostChanges::Print) => Device { name, index: 0 },
            (tun, _) => Device::from(&tun?),
        };
        let follower = Follower::open()?;
        let changes_mode = options.changes;
        let changes = Changes::new(netlink.clone(), options.changes, options.journal.as_ref());
        let vips = options.vips.iter().map(|vip| ipv4_of(*vip)).collect::<Result<_, _>>()?;
        let mss = MssTable::open(&netlink, options.mss, &vips, options.changes).await?;
        let mut host = RealServerHost {
            netlink,
            changes,
            follower,
            tun,
            is_up: true,
            vips,
            mss,
            tunnel_handler: None,
            settled: Vec::new(),
            complaint: None,
        };
        if let Err(error) = host.settle().await {
            host.changes.undo_all().await;
            return Err(error);
        }
        host.changes.undo_inherited().await;
        if let Err(error) = host.sweep_leftovers(changes_mode).await {
            tracing::warn!(kind = "cleanup_failed", "host: cannot clean up after a killed daemon: {error}");
        }
        host.look_for_tunnel_handler().await;
        Ok(host)
    }

    /// Removes what a killed daemon has left and no journal has.
    async fn sweep_leftovers(&self, mode: HostChanges) -> Result<(), HostError> {
        match mode {
            HostChanges::Make => LoopRule::sweep(&self.netlink, &self.tun.name, &self.vips).await,
            HostChanges::Print => Ok(()),
        }
    }

    /// Waits for a reason to check the host. Cancel-safe: made for `tokio::select!`, with
    /// [`RealServerHost::on_notice`] in the arm's body.
    pub async fn wait(&mut self) -> Notice {
        let RealServerHost { follower, tun, mss, .. } = self;
        follower
            .wait(|event| {
                let is_concerned = match event {
                    // The VIPs must stay, and packets for other addresses are accepted only while the host has them.
                    Event::Address(_) => true,
                    Event::Link(link) if link.index == tun.index || link.name == tun.name => true,
                    Event::Lost => true,
                    event => mss.is_concerned(event),
                };
                is_concerned.then_some(Notice::Changed)
            })
            .await
    }

    /// Follows the host's routes and repairs what was undone. Failures are logged; the next notice tries
    /// again. Not cancel-safe.
    pub async fn on_notice(&mut self, _notice: Notice) {
        if self.follower.is_deaf() {
            match Follower::open() {
                Ok(follower) => self.follower = follower,
                Err(error) => tracing::warn!(kind = "host_error", "host: {error}"),
            }
        }
        match self.netlink.interface(&self.tun.name).await {
            Ok(tun) => {
                let was_up = std::mem::replace(&mut self.is_up, tun.is_up);
                if tun.index != self.tun.index || (!was_up && self.is_up) {
                    // The kernel has removed addresses and settings together with the device.
                    self.changes.forget_repairs();
                }
                self.tun = Device::from(&tun);
            }
            Err(HostError::Connection { .. }) => {
                if let Ok(netlink) = Netlink::open() {
                    self.changes.reconnect(netlink.clone());
                    self.netlink = netlink;
                }
            }
            Err(_) => {}
        }
        self.complaint = self.settle().await.err().map(|error| error.to_string());
        self.changes.audit().await;
        self.look_for_tunnel_handler().await;
    }

    /// As [`super::DirectorHost::on_device_restored`].
    pub fn on_device_restored(&mut self) {
        self.changes.forget_repairs();
    }

    /// What is wrong as of the last notice.
    pub fn troubles(&self) -> Vec<Found> {
        let complaint = self.complaint.as_ref().map(|complaint| Found {
            kind: TroubleKind::HostUnknown,
            subject: String::new(),
            text: format!("{complaint}; trying again every {} s", TICK.as_secs()),
        });
        let handler = self.tunnel_handler.as_ref().map(TunnelHandler::trouble);
        complaint.into_iter().chain(self.changes.troubles()).chain(handler).collect()
    }

    /// The MSS announced to the VIPs' clients, in bytes; 0 for the host's own.
    pub fn mss(&self) -> u16 {
        self.mss.announced()
    }

    /// The connection to the kernel, for further queries.
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// The ledger: entries for a metric, commands for `--no-host-changes`.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Undoes everything, newest first.
    pub async fn stop(mut self) {
        // Removes rules before the routes of their table, even if some routes are newer.
        self.settled.retain(|change| !matches!(change, Change::MssRule(_)));
        if let Err(error) = self.changes.settle(&self.settled).await {
            tracing::warn!(kind = "host_error", "host: {error}");
        }
        self.changes.undo_all().await;
    }

    async fn look_for_tunnel_handler(&mut self) {
        if let Ok(found) = TunnelHandler::find(&self.netlink).await {
            self.tunnel_handler = found;
        }
    }

    async fn settle(&mut self) -> Result<(), HostError> {
        let mut wanted = wanted(&self.tun, &self.vips);
        wanted.extend(self.mss.wanted(&self.netlink, &self.vips).await?);
        // With a thousand routes, a comparison first saves work.
        if wanted != self.settled {
            self.changes.settle(&wanted).await?;
            self.settled = wanted;
        }
        Ok(())
    }
}

/// Everything a real server needs on its host, in the order in which to make it: ARP is silenced before the
/// address is added, and the rule is there for as long as the address.
fn wanted(tun: &Device, vips: &BTreeSet<Ipv4Addr>) -> Vec<Change> {
    let sysctls = [
        Sysctl::of_interface("all", "arp_ignore", Wanted::AtLeast(1)),
        Sysctl::of_interface("all", "arp_announce", Wanted::AtLeast(2)),
        Sysctl::of_interface(&tun.name, "rp_filter", Wanted::NotStrict),
    ];
    let rules = vips.iter().map(|vip| Change::from(LoopRule { vip: *vip, device: tun.name.clone() }));
    let addresses = vips.iter().map(|vip| Change::from(VipAddress { address: *vip, device: tun.clone() }));
    sysctls.into_iter().map(Change::Sysctl).chain(rules).chain(addresses).collect()
}

fn ipv4_of(vip: IpAddr) -> Result<Ipv4Addr, HostError> {
    match vip {
        IpAddr::V4(vip) => Ok(vip),
        IpAddr::V6(_) => Err(HostError::Refused(format!(
            "VIP {vip} cannot be bound: only IPv4 VIPs are supported; remove it or use an IPv4 address"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_is_silenced_before_the_host_has_the_address() {
        let tun = Device { name: "lvsr0".into(), index: 3 };
        let commands: Vec<String> =
            wanted(&tun, &BTreeSet::from([Ipv4Addr::new(10, 0, 0, 9)])).iter().map(Change::command).collect();
        assert_eq!(
            commands,
            [
                "sysctl -w net.ipv4.conf.all.arp_ignore=1",
                "sysctl -w net.ipv4.conf.all.arp_announce=2",
                "sysctl -w net.ipv4.conf.lvsr0.rp_filter=2",
                "ip rule add pref 1 iif lvsr0 to 10.0.0.9 blackhole",
                "ip address add 10.0.0.9/32 dev lvsr0",
            ]
        );
    }
}
