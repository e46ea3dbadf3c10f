//! The director's host: routes every VIP to the TUN device and answers ARP for it.
//!
//! ```text
//! VIP is            captured by                                        ARP answered through
//! not local         route   VIP/32 dev lvsd0 in table main              proxy neighbour
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
mod incoming;
mod leftovers;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::PROTOCOL;
use super::announce::ANNOUNCEMENTS;
use super::change::Device;
use super::changes::{Changes, HostChanges};
use super::error::HostError;
use super::follow::{Event, Follower, Notice, TICK};
use super::journal::JournalPlace;
use super::netlink::{Fate, Netlink};
use super::refusal::{OuterSource, check_route};
use super::strays::{Stray, Strays};

use incoming::Incoming;
pub use settings::{Announce, Capture, CaptureMode};

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

/// One VIP and its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipState {
    /// Whether the VIP is also an address of this host, as on the master of a VRRP pair.
    pub is_local: bool,
    /// May change while the director runs, when the VIP becomes a local address.
    pub capture: Capture,
    /// Whether the host answers ARP for it.
    pub is_answered: bool,
    /// The number of gratuitous ARPs still to send.
    announcements: u8,
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
    /// Names of the devices that were up when last checked, the TUN device included.
    up: BTreeSet<String>,
    /// The interfaces of the configuration that did not exist when last checked.
    missing: BTreeSet<String>,
    strays: Strays,
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
        let mut incoming = Incoming::default();
        for name in &options.interfaces {
            incoming.listed.push(Device::from(&netlink.interface(name).await?));
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
            missing: BTreeSet::new(),
            strays: Strays::default(),
            complaint: None,
        };
        for vip in wanted {
            let vip = ipv4_of(vip)?;
            let state = host.look_at(vip).await?;
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
            tracing::debug!("host: {error}");
        }
        for (vip, state) in &self.vips {
            tracing::info!("host: VIP {vip} is captured by {}", state.capture);
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
        let is_vip = |address: &IpAddr| matches!(address, IpAddr::V4(address) if vips.contains_key(address));
        follower
            .wait(|event| match event {
                Event::Address(address) => is_vip(address),
                Event::Link(name) => {
                    *name == tun.name || options.interfaces.contains(name) || incoming.has(name)
                }
                Event::RouteGone(route) => {
                    route.protocol == PROTOCOL || vips.contains_key(&route.destination)
                }
                Event::RouteCame(_) => false,
                Event::Rule | Event::Lost => true,
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
        let complaint = Some(error.to_string());
        if self.complaint != complaint {
            tracing::warn!("host: {error}; trying again every {} s", TICK.as_secs());
            self.complaint = complaint;
        }
        if matches!(error, HostError::Connection { .. })
            && let Ok(netlink) = Netlink::open()
        {
            self.changes.reconnect(netlink.clone());
            self.netlink = netlink;
        }
    }

    /// Captures more VIPs: all of them or none.
    pub async fn add_vips(&mut self, vips: &[IpAddr]) -> Result<(), HostError> {
        let mut added = Vec::new();
        for vip in vips {
            let vip = ipv4_of(*vip)?;
            if !self.vips.contains_key(&vip) {
                added.push((vip, self.look_at(vip).await?));
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
            tracing::info!("host: VIP {vip} is captured by {}", state.capture);
        }
        self.send_announcements(Notice::Changed).await;
        Ok(())
    }

    /// Releases VIPs. A VIP that is not captured is not an error.
    pub async fn remove_vips(&mut self, vips: &[IpAddr]) -> Result<(), HostError> {
        let mut is_any = false;
        for vip in vips {
            if self.vips.remove(&ipv4_of(*vip)?).is_some() {
                tracing::info!("host: VIP {vip} is no longer captured");
                is_any = true;
            }
        }
        if !is_any {
            return Ok(());
        }
        self.find_holders().await?;
        self.settle().await
    }

    /// The source address, device and path MTU that the kernel would use for a real server; refuses real
    /// servers whose packets would come back here: a VIP, an address of this host, or a route through the capture.
    pub async fn outer_source(&self, rip: IpAddr) -> Result<OuterSource, HostError> {
        let vips: Vec<IpAddr> = self.vips.keys().map(|vip| IpAddr::V4(*vip)).collect();
        check_route(&self.netlink.route_to(rip).await?, &vips, &self.tun.name, self.options.outer_source)
    }

    /// As [`DirectorHost::outer_source`], for many real servers. One without a route is omitted, and logged
    /// if it `is_reported`.
    ///
    /// # Errors
    /// Only real servers that cannot work on this host.
    pub async fn routes_to(
        &self,
        rips: impl IntoIterator<Item = IpAddr>,
        is_reported: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<(IpAddr, OuterSource)>, HostError> {
        let mut found = Vec::new();
        for rip in rips {
            match self.outer_source(rip).await {
                Ok(route) => found.push((rip, route)),
                Err(error @ HostError::Refused(_)) => return Err(error),
                Err(error) if is_reported(rip) => tracing::warn!(
                    "director: no route to real server {rip}: {error}; keeping it, traffic resumes when a route appears"
                ),
                Err(_) => {}
            }
        }
        Ok(found)
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
        for vip in self.vips.keys().copied().collect::<Vec<_>>() {
            let before = self.vips[&vip];
            let mut state = self.look_at(vip).await?;
            if before.is_answered == state.is_answered {
                state.announcements = before.announcements;
            }
            if before.is_local != state.is_local {
                let news = if state.is_local { "is now" } else { "is no longer" };
                tracing::info!("host: VIP {vip} {news} a local address");
            }
            if before.capture != state.capture {
                tracing::info!("host: VIP {vip} is now captured by {}", state.capture);
            }
            self.vips.insert(vip, state);
        }
        self.find_holders().await?;
        self.settle().await?;
        self.changes.audit().await;
        self.send_announcements(notice).await;
        self.look_for_strays().await
    }

    /// Detects devices that were recreated or came up again. False while none of the interfaces exists.
    async fn follow_devices(&mut self) -> Result<bool, HostError> {
        let (mut listed, mut up) = (Vec::new(), BTreeSet::new());
        for name in &self.options.interfaces {
            match self.netlink.interface(name).await {
                Ok(interface) => {
                    listed.push(Device::from(&interface));
                    up.extend(interface.is_up.then(|| name.clone()));
                    self.missing.remove(name);
                }
                Err(error @ HostError::NoInterface(_)) => {
                    if self.missing.insert(name.clone()) {
                        tracing::warn!("host: {error}; waiting until it appears");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if listed.is_empty() {
            return Ok(false);
        }
        let is_tun_up = self.netlink.interface(&self.tun.name).await.is_ok_and(|tun| tun.is_up);
        up.extend(is_tun_up.then(|| self.tun.name.clone()));
        let is_new = listed.iter().any(|device| !self.incoming.listed.contains(device));
        let is_raised = !up.is_subset(&self.up);
        self.incoming.listed = listed;
        self.up = up;
        if is_new || is_raised {
            // When a device goes down, the kernel removes its proxy neighbours and routes; the neighbours
            // themselves may have changed.
            self.changes.forget_repairs();
            self.announce_again();
        }
        Ok(true)
    }

    async fn look_for_strays(&mut self) -> Result<(), HostError> {
        let with_arp = self.netlink.arp_interfaces().await?;
        let others = with_arp.into_iter().filter(|found| found.is_up && !self.incoming.has(&found.name));
        let others: Vec<String> = others.map(|interface| interface.name).collect();
        self.strays.follow(&others, self.vips.keys().copied());
        Ok(())
    }

    /// Looks for the devices that have a VIP as an address. A VIP that moves from one to another is announced again.
    async fn find_holders(&mut self) -> Result<(), HostError> {
        let local = self.vips.iter().filter(|(_, state)| state.is_local).map(|(vip, _)| *vip);
        let before = self.incoming.holders.clone();
        self.incoming.find_holders(&self.netlink, local).await?;
        for (vip, state) in self.vips.iter_mut().filter(|(_, state)| state.is_answered) {
            if before.get(vip) != self.incoming.holders.get(vip) {
                state.announcements = ANNOUNCEMENTS;
            }
        }
        Ok(())
    }

    async fn look_at(&self, vip: Ipv4Addr) -> Result<VipState, HostError> {
        let is_local = self.netlink.is_local(vip).await?;
        let capture = self.options.capture.of(is_local, self.options.announce);
        if is_local && capture == Capture::Route && !self.vips.get(&vip).is_some_and(|state| state.is_local) {
            tracing::warn!(
                "host: VIP {vip} is a local address, which a route cannot capture; set capture = \"auto\""
            );
        }
        let is_answered = self.options.announce.is_answered(is_local);
        let announcements = if is_answered { ANNOUNCEMENTS } else { 0 };
        Ok(VipState { is_local, capture, is_answered, announcements })
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
