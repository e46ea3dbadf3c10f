//! The real server's host: the VIPs are addresses of the TUN device, and ARP does not announce them.
//!
//! ```text
//! director ── IPIP ──▶ eth0 ─▶ daemon ─▶ lvsr0 (VIP/32) ─▶ application ─▶ eth0 ──▶ client
//!                                        ▲ source CIP, routed by eth0: strict rp_filter would drop it
//! ```
//!
//! [`super::mss`] sets the MSS announced to the VIPs' clients.
//!
//! The TUN device needs the VIP as its address: loose rp_filter drops every packet that it checks on a device
//! without an address (__fib_validate_source(), label last_resort). `accept_local` is not needed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::change::address::VipAddress;
use super::change::sysctl::{Sysctl, Wanted};
use super::change::{Change, Device};
use super::changes::{Changes, HostChanges};
use super::error::HostError;
use super::follow::{Event, Follower, Notice, TICK};
use super::mss::{Mss, MssTable};
use super::netlink::Netlink;

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
}

/// The host of a running real server. Dropping it without [`RealServerHost::stop`] leaves the sysctls
/// changed.
pub struct RealServerHost {
    netlink: Netlink,
    changes: Changes,
    follower: Follower,
    tun: Device,
    vips: BTreeSet<Ipv4Addr>,
    mss: MssTable,
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
        let changes = Changes::new(netlink.clone(), options.changes);
        let vips = options.vips.iter().map(|vip| ipv4_of(*vip)).collect::<Result<_, _>>()?;
        let mss = MssTable::open(&netlink, options.mss, &vips, options.changes).await?;
        let mut host = RealServerHost {
            netlink,
            changes,
            follower,
            tun,
            vips,
            mss,
            settled: Vec::new(),
            complaint: None,
        };
        if let Err(error) = host.settle().await {
            host.changes.undo_all().await;
            return Err(error);
        }
        Ok(host)
    }

    /// Waits for a reason to check the host. Cancel-safe: made for `tokio::select!`, with
    /// [`RealServerHost::on_notice`] in the arm's body.
    pub async fn wait(&mut self) -> Notice {
        let RealServerHost { follower, tun, mss, .. } = self;
        follower
            .wait(|event| match event {
                // The VIPs must stay, and packets for other addresses are accepted only while the host has them.
                Event::Address(_) => true,
                Event::Link(name) if *name == tun.name => true,
                Event::Lost => true,
                event => mss.is_concerned(event),
            })
            .await
    }

    /// Follows the host's routes and repairs what was undone. Failures are logged; the next notice tries
    /// again. Not cancel-safe.
    pub async fn on_notice(&mut self, _notice: Notice) {
        if self.follower.is_deaf() {
            match Follower::open() {
                Ok(follower) => self.follower = follower,
                Err(error) => tracing::warn!("host: {error}"),
            }
        }
        if let Err(HostError::Connection { .. }) = self.netlink.interface(&self.tun.name).await
            && let Ok(netlink) = Netlink::open()
        {
            self.changes.reconnect(netlink.clone());
            self.netlink = netlink;
        }
        let complaint = self.settle().await.err().map(|error| error.to_string());
        if let Some(complaint) = complaint.as_ref().filter(|_| self.complaint != complaint) {
            tracing::warn!("host: {complaint}; trying again every {} s", TICK.as_secs());
        }
        self.complaint = complaint;
        self.changes.audit().await;
    }

    /// The MSS announced to the VIPs' clients, in bytes; 0 for the host's own.
    pub fn mss(&self) -> u16 {
        self.mss.announced()
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
            tracing::warn!("host: {error}");
        }
        self.changes.undo_all().await;
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
/// address is added.
fn wanted(tun: &Device, vips: &BTreeSet<Ipv4Addr>) -> Vec<Change> {
    let sysctls = [
        Sysctl::of_interface("all", "arp_ignore", Wanted::AtLeast(1)),
        Sysctl::of_interface("all", "arp_announce", Wanted::AtLeast(2)),
        Sysctl::of_interface(&tun.name, "rp_filter", Wanted::NotStrict),
        // A decapsulated packet ends here and must never be forwarded (CVE-2020-10136).
        Sysctl::of_interface(&tun.name, "forwarding", Wanted::Exactly(0)),
    ];
    let addresses = vips.iter().map(|vip| Change::from(VipAddress { address: *vip, device: tun.clone() }));
    sysctls.into_iter().map(Change::Sysctl).chain(addresses).collect()
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
                "sysctl -w net.ipv4.conf.lvsr0.forwarding=0",
                "ip address add 10.0.0.9/32 dev lvsr0",
            ]
        );
    }
}
