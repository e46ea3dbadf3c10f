//! The director's host: routes every VIP to the TUN device and answers ARP for it.
//!
//! ```text
//! VIP is            captured by                                        ARP answered through
//! not local         route   VIP/32 dev lvsd0 in table main              proxy neighbour
//!                   and rule, so that no packet escapes when the VIP becomes local
//! local             rule    iif eth0 lookup 7690; VIP/32 dev lvsd0 there  proxy neighbour
//! ```
//!
//! A captured local VIP needs the proxy entry too: the kernel's ARP looks up the VIP like a packet that
//! arrived on the interface (arp_process()), finds the TUN device, and would not answer.
//!
//! The interface forwards packets of any destination from then on; an operator who does not want a router
//! there must filter. The kernel also turns its LRO off and does not turn it on again (dev_disable_lro()).
//! `send_redirects` is the only setting for `all` that is ever written.

mod announcing;
mod claiming;
mod devices;
mod incoming;
mod leftovers;
mod settings;
mod vip_state;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::PROTOCOL;
use super::announce::ANNOUNCEMENTS;
use super::change::Device;
use super::changes::{Changes, HostChanges};
use super::claims::Claims;
use super::error::HostError;
use super::follow::{Event, Follower, Notice};
use super::journal::JournalPlace;
use super::netlink::{Fate, Interface, Netlink};
use super::reach::reach;
use super::refusal::Reach;
use super::strays::{Stray, Strays};
use crate::trouble::Found;

use incoming::Incoming;
pub use settings::{Announce, Capture, CaptureMode};
pub use vip_state::VipState;

/// What a director needs to know about its host.
#[derive(Debug, Clone)]
pub struct DirectorHostOptions {
    /// The interfaces on which packets for the VIPs arrive.
    pub interfaces: Vec<String>,
    /// The TUN device; it exists and is up.
    pub tun: String,
    /// Those of the configuration at the start; an IPv6 one is refused.
    pub vips: Vec<IpAddr>,
    /// The configuration key `outer_source`.
    pub outer_source: Option<Ipv4Addr>,
    /// The configuration key `capture`.
    pub capture: CaptureMode,
    /// The configuration key `announce`.
    pub announce: Announce,
    /// Whether the settings are made or only printed.
    pub changes: HostChanges,
    /// Where the journal of changes is; `None`: no journal.
    pub journal: Option<JournalPlace>,
}

/// The host of a running director. Dropping it without [`DirectorHost::stop`] leaves the changes in place.
pub struct DirectorHost {
    options: DirectorHostOptions,
    netlink: Netlink,
    changes: Changes,
    follower: Follower,
    incoming: Incoming,
    tun: Device,
    vips: BTreeMap<Ipv4Addr, VipState>,
    /// The VIPs to announce, with [`Announce::WhenHealthy`].
    healthy: BTreeSet<Ipv4Addr>,
    /// Names of the devices that were up when last checked, the TUN device included.
    up: BTreeSet<String>,
    /// The interfaces of the configuration that did not exist when last checked.
    missing: BTreeSet<String>,
    /// The device that had each name of the configuration last.
    named: BTreeMap<String, Device>,
    strays: Strays,
    claims: Claims,
    /// The last reported problem, so that a lasting one is logged only once.
    complaint: Option<String>,
}

impl DirectorHost {
    /// [`DirectorHost::open`], [`DirectorHost::prepare`] and [`DirectorHost::announce`].
    pub async fn start(options: DirectorHostOptions) -> Result<DirectorHost, HostError> {
        let mut host = DirectorHost::open(options).await?;
        host.prepare().await?;
        host.announce().await;
        Ok(host)
    }

    /// Looks at the host and follows it from then on; changes nothing.
    ///
    /// Needs a tokio runtime with timers.
    pub async fn open(options: DirectorHostOptions) -> Result<DirectorHost, HostError> {
        let netlink = Netlink::open()?;
        let (mut incoming, mut named) = (Incoming::default(), BTreeMap::new());
        for name in &options.interfaces {
            let device = Device::from(&netlink.interface(name).await?);
            named.insert(name.clone(), device.clone());
            incoming.listed.push(device);
        }
        let tun = match (netlink.interface(&options.tun).await, options.changes) {
            (Err(HostError::NoInterface(name)), HostChanges::Print) => Device { name, index: 0 },
            (tun, _) => Device::from(&tun?),
        };
        // Subscribed before the first query, so that no change is missed in between.
        let follower = Follower::open()?;
        let changes = Changes::new(netlink.clone(), options.changes, options.journal.as_ref());
        let wanted = options.vips.clone();
        let mut host = DirectorHost {
            options,
            netlink,
            changes,
            follower,
            up: incoming.listed.iter().chain([&tun]).map(|device| device.name.clone()).collect(),
            incoming,
            tun,
            vips: BTreeMap::new(),
            healthy: BTreeSet::new(),
            missing: BTreeSet::new(),
            named,
            strays: Strays::default(),
            claims: Claims::default(),
            complaint: None,
        };
        let on_link = host.on_link().await?;
        for vip in wanted {
            let vip = ipv4_of(vip)?;
            let state = host.look_at(vip, &on_link).await?;
            host.vips.insert(vip, state);
        }
        host.find_holders().await?;
        Ok(host)
    }

    /// Prepares the host: packets for the VIPs reach the device from then on. If anything fails, all changes are undone.
    ///
    /// Needs CAP_NET_ADMIN.
    pub async fn prepare(&mut self) -> Result<(), HostError> {
        if let Err(error) = self.settle().await {
            self.changes.undo_made().await;
            return Err(error);
        }
        self.changes.undo_inherited().await;
        self.sweep_leftovers().await;
        if let Err(error) = self.look_for_strays().await {
            tracing::debug!(kind = "host_error", "host: {error}");
        }
        for (vip, state) in &self.vips {
            tracing::info!(kind = "captured", vip = %vip, "host: VIP {vip} is captured by {}", state.capture);
        }
        Ok(())
    }

    /// Announces the VIPs for the first time. The last step of a start, because the neighbours remember it for minutes.
    ///
    /// Needs CAP_NET_RAW.
    pub async fn announce(&mut self) {
        self.send_announcements(Notice::Changed).await;
    }

    /// Waits for a reason to check the host. Cancel-safe: made for `tokio::select!`, with
    /// [`DirectorHost::on_notice`] in the arm's body.
    pub async fn wait(&mut self) -> Notice {
        let DirectorHost { follower, vips, incoming, tun, options, .. } = self;
        follower
            .wait(|event| {
                let is_concerned = match event {
                    // A VIP, a local real server's address, or the source of outer packets.
                    Event::Address(address) => address.is_ipv4(),
                    Event::Link(link) => {
                        let is_own = |device: &Device| link.index == device.index || link.name == device.name;
                        is_own(tun)
                            || incoming.devices().into_iter().any(is_own)
                            || options.interfaces.contains(&link.name)
                    }
                    Event::RouteGone(route) => {
                        route.protocol == PROTOCOL || vips.contains_key(&route.destination)
                    }
                    Event::RouteCame(route) if route.protocol == PROTOCOL => return None,
                    Event::RouteCame(_) => false,
                    Event::Rule | Event::Lost => true,
                };
                Some(if is_concerned { Notice::Changed } else { Notice::Paths })
            })
            .await
    }

    /// Follows the host: switches VIPs between route and rule, repairs what was undone, repeats announcements.
    /// Failures are logged; the next notice tries again. Not cancel-safe.
    pub async fn on_notice(&mut self, notice: Notice) {
        let Err(error) = self.follow(notice).await else {
            self.complaint = None;
            return;
        };
        self.complaint = Some(error.to_string());
        if matches!(error, HostError::Connection { .. })
            && let Ok(netlink) = Netlink::open()
        {
            self.changes.reconnect(netlink.clone());
            self.netlink = netlink;
        }
    }

    /// Captures more VIPs: all of them or none.
    pub async fn add_vips(&mut self, vips: &[IpAddr]) -> Result<(), HostError> {
        let (mut added, on_link) = (Vec::new(), self.on_link().await?);
        for vip in vips {
            let vip = ipv4_of(*vip)?;
            if !self.vips.contains_key(&vip) {
                added.push((vip, self.look_at(vip, &on_link).await?));
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        self.vips.extend(added.iter().copied());
        self.find_holders().await?;
        if let Err(error) = self.settle().await {
            added.iter().for_each(|(vip, _)| _ = self.vips.remove(vip));
            self.find_holders().await?;
            // Undoes the part that succeeded.
            self.settle().await?;
            return Err(error);
        }
        for (vip, state) in added {
            tracing::info!(kind = "captured", vip = %vip, "host: VIP {vip} is captured by {}", state.capture);
        }
        self.send_announcements(Notice::Changed).await;
        Ok(())
    }

    /// Releases VIPs. A VIP that is not captured is not an error.
    pub async fn remove_vips(&mut self, vips: &[IpAddr]) -> Result<(), HostError> {
        let mut is_any = false;
        for vip in vips {
            if self.vips.remove(&ipv4_of(*vip)?).is_some() {
                tracing::info!(kind = "released", vip = %vip, "host: VIP {vip} is no longer captured");
                is_any = true;
            }
        }
        if !is_any {
            return Ok(());
        }
        self.find_holders().await?;
        self.settle().await
    }

    /// How packets reach a real server that serves these VIPs, by the kernel's routes: this host, or the source address,
    /// device and path MTU; refuses real servers whose packets would come back here: a VIP, or a route through the
    /// capture.
    pub async fn reach(
        &self,
        rip: IpAddr,
        served: &BTreeSet<IpAddr>,
        outer_source: Option<Ipv4Addr>,
    ) -> Result<Reach, HostError> {
        let vips = self.vips.keys().map(|vip| IpAddr::V4(*vip));
        reach(&self.netlink, rip, served, vips, &self.tun.name, outer_source).await
    }

    /// As [`DirectorHost::reach`], for many real servers with the VIPs that each serves. One without a route is omitted.
    ///
    /// # Errors
    /// Only real servers that cannot work on this host.
    pub async fn routes_to<'a>(
        &self,
        rips: impl IntoIterator<Item = (&'a IpAddr, &'a BTreeSet<IpAddr>)>,
        outer_source: Option<Ipv4Addr>,
    ) -> Result<Vec<(IpAddr, Reach)>, HostError> {
        let mut found = Vec::new();
        for (rip, served) in rips {
            let rip = *rip;
            match self.reach(rip, served, outer_source).await {
                Ok(route) => found.push((rip, route)),
                Err(error @ HostError::Refused(_)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// The daemon has restored its device: whatever the kernel removed with it is to be repaired at once.
    pub fn on_device_restored(&mut self) {
        self.changes.forget_repairs();
    }

    /// What is wrong as of the last notice.
    pub fn troubles(&self) -> Vec<Found> {
        let mut found = self.device_troubles();
        found.extend(devices::complaint(self.complaint.as_deref()));
        if found.is_empty() {
            // What the kernel removes together with an interface comes back with it.
            found.extend(self.changes.troubles());
        }
        found
    }

    /// Those of the VIPs, captured or not yet, for which the host accepts packets.
    pub async fn local_among(
        &self,
        vips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<HashSet<IpAddr>, HostError> {
        let mut local = HashSet::new();
        for vip in vips {
            let IpAddr::V4(v4) = vip else { continue };
            let is_local = match self.vips.get(&v4) {
                Some(state) => state.is_local,
                None => self.netlink.is_local(v4).await?,
            };
            if is_local {
                local.insert(vip);
            }
        }
        Ok(local)
    }

    /// Packets for the VIPs that have arrived on interfaces other than those of the configuration, some of many.
    pub fn take_strays(&mut self) -> Vec<Stray> {
        self.strays.read()
    }

    /// Whether the kernel sends a client's packet for the VIP to the device if it arrives on this interface.
    pub async fn is_captured(&self, interface: &str, client: Ipv4Addr, vip: Ipv4Addr) -> bool {
        let Ok(found) = self.netlink.interface(interface).await else { return true };
        let fate = self.netlink.fate(vip, client, found.index).await;
        fate.is_ok_and(|fate| fate == Fate::Forwarded(self.tun.index))
    }

    /// The interfaces of the configuration.
    pub fn interfaces(&self) -> &[String] {
        &self.options.interfaces
    }

    /// The VIPs and their states.
    pub fn vips(&self) -> &BTreeMap<Ipv4Addr, VipState> {
        &self.vips
    }

    /// The ledger: entries for a metric, commands for `--no-host-changes`.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Undoes everything, newest first; nothing if [`DirectorHost::prepare`] has not been called.
    pub async fn stop(mut self) {
        self.changes.undo_all().await;
    }

    async fn follow(&mut self, notice: Notice) -> Result<(), HostError> {
        if self.follower.is_deaf() {
            self.follower = Follower::open()?;
        }
        if !self.follow_devices().await? {
            return Ok(());
        }
        let on_link = self.on_link().await?;
        for vip in self.vips.keys().copied().collect::<Vec<_>>() {
            let before = self.vips[&vip];
            let mut state = self.look_at(vip, &on_link).await?;
            if before.is_answered == state.is_answered {
                state.announcements = before.announcements;
            }
            if before.is_local != state.is_local {
                let news = if state.is_local { "is now" } else { "is no longer" };
                tracing::info!(kind = "local_address", vip = %vip, "host: VIP {vip} {news} a local address");
            }
            if before.is_answered != state.is_answered {
                let news = if state.is_answered { "answers" } else { "no longer answers" };
                tracing::info!("host: this host {news} ARP for VIP {vip}");
            }
            if before.capture != state.capture {
                tracing::info!(kind = "captured", vip = %vip, "host: VIP {vip} is now captured by {}", state.capture);
            }
            self.vips.insert(vip, state);
        }
        self.find_holders().await?;
        self.settle().await?;
        self.changes.audit().await;
        self.send_announcements(notice).await;
        self.look_for_strays().await
    }

    async fn look_for_strays(&mut self) -> Result<(), HostError> {
        let links = self.netlink.interfaces().await?;
        let is_other = |found: &Interface| found.uses_arp && found.is_up && !self.incoming.has(&found.name);
        let others: Vec<Device> = links.iter().filter(|link| is_other(link)).map(Device::from).collect();
        self.strays.follow(&others, self.vips.keys().copied());
        self.listen_for_claims(&links);
        Ok(())
    }

    /// Looks for the devices that have a VIP as an address. A VIP that moves from one to another is announced again.
    async fn find_holders(&mut self) -> Result<(), HostError> {
        let local = self.vips.iter().filter(|(_, state)| state.is_local).map(|(vip, _)| *vip);
        let before = self.incoming.holders.clone();
        self.incoming.find_holders(&self.netlink, local).await?;
        let is_announcing = self.options.announce != Announce::Never;
        for (vip, state) in self.vips.iter_mut().filter(|(_, state)| state.is_answered && is_announcing) {
            if before.get(vip) != self.incoming.holders.get(vip) {
                state.announcements = ANNOUNCEMENTS;
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), HostError> {
        let wanted = settings::wanted(&self.incoming, &self.tun, &self.vips);
        self.changes.settle(&wanted).await
    }
}

pub(super) fn ipv4_of(vip: IpAddr) -> Result<Ipv4Addr, HostError> {
    match vip {
        IpAddr::V4(vip) => Ok(vip),
        IpAddr::V6(_) => Err(HostError::Refused(format!(
            "VIP {vip} cannot be captured: only IPv4 VIPs are supported; remove it or use an IPv4 address"
        ))),
    }
}
