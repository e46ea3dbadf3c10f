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

mod settings;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::announce::{self, ANNOUNCEMENTS};
use super::change::{Device, capture_rule};
use super::changes::{Changes, HostChanges};
use super::error::HostError;
use super::follow::{Event, Follower, Notice, TICK};
use super::netlink::rule;
use super::netlink::{Interface, Netlink};
use super::refusal::{Here, Reach, check_route};
use super::{CAPTURE_TABLE, PROTOCOL};
use crate::trouble::{Found, TroubleKind};

pub use settings::{Announce, Capture, CaptureMode};

/// What a director needs to know about its host.
#[derive(Debug, Clone)]
pub struct DirectorHostOptions {
    /// The interface on which packets for the VIPs arrive.
    pub interface: String,
    /// The TUN device; it exists and is up.
    pub tun: String,
    /// Those of the configuration at the start; an IPv6 one is refused.
    pub vips: Vec<IpAddr>,
    /// The configuration key `capture`.
    pub capture: CaptureMode,
    /// The configuration key `announce`.
    pub announce: Announce,
    /// Whether the settings are made or only printed.
    pub changes: HostChanges,
}

/// One VIP and its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipState {
    /// Whether the host accepts packets for the VIP, which is one of its addresses on whichever device.
    pub is_local: bool,
    /// Whether the VIP is at this host for its neighbours: an address of `interface` or of another device that uses
    /// ARP, as on the master of a VRRP pair. One on `lo`, or on the TUN device of a real server's daemon, only serves.
    pub is_on_link: bool,
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
    interface: Device,
    tun: Device,
    vips: BTreeMap<Ipv4Addr, VipState>,
    /// Whether both devices were up when last checked.
    is_up: bool,
    is_interface_up: bool,
    is_interface_missing: bool,
    /// The last reported problem, so that a lasting one is logged only once.
    complaint: Option<String>,
}

impl DirectorHost {
    /// Prepares the host and follows it from then on. If anything fails, all changes are undone.
    ///
    /// Needs a tokio runtime with timers, CAP_NET_ADMIN, and CAP_NET_RAW for announcements.
    pub async fn start(options: DirectorHostOptions) -> Result<DirectorHost, HostError> {
        let netlink = Netlink::open()?;
        let interface = Device::from(&netlink.interface(&options.interface).await?);
        let tun = match (netlink.interface(&options.tun).await, options.changes) {
            (Err(HostError::NoInterface(name)), HostChanges::Print) => Device { name, index: 0 },
            (tun, _) => Device::from(&tun?),
        };
        // Subscribed before the first query, so that no change is missed in between.
        let follower = Follower::open()?;
        let changes = Changes::new(netlink.clone(), options.changes);
        let wanted = options.vips.clone();
        let mut host = DirectorHost {
            options,
            netlink,
            changes,
            follower,
            interface,
            tun,
            vips: BTreeMap::new(),
            is_up: true,
            is_interface_up: true,
            is_interface_missing: false,
            complaint: None,
        };
        let on_link = host.on_link().await?;
        for vip in wanted {
            let vip = ipv4_of(vip)?;
            let state = host.look_at(vip, &on_link).await?;
            host.vips.insert(vip, state);
        }
        if let Err(error) = host.settle().await {
            host.changes.undo_made().await;
            return Err(error);
        }
        host.sweep_leftovers().await;
        for (vip, state) in &host.vips {
            tracing::info!("host: VIP {vip} is captured by {}", state.capture);
        }
        host.send_announcements(Notice::Changed).await;
        Ok(host)
    }

    /// Waits for a reason to check the host. Cancel-safe: made for `tokio::select!`, with
    /// [`DirectorHost::on_notice`] in the arm's body.
    pub async fn wait(&mut self) -> Notice {
        let DirectorHost { options, follower, vips, interface, tun, .. } = self;
        follower
            .wait(|event| {
                let is_concerned = match event {
                    // A VIP, a local real server's address, or the source of outer packets.
                    Event::Address(address) => address.is_ipv4(),
                    Event::Link(link) => {
                        let is_own = |device: &Device| link.index == device.index || link.name == device.name;
                        is_own(interface) || is_own(tun) || link.name == options.interface
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
        if let Err(error) = self.settle().await {
            added.iter().for_each(|(vip, _)| _ = self.vips.remove(vip));
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
        if is_any { self.settle().await } else { Ok(()) }
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
        let mut vips: BTreeSet<IpAddr> = served.clone();
        vips.extend(self.vips.keys().map(|vip| IpAddr::V4(*vip)));
        let vips = Vec::from_iter(vips);
        let route = self.netlink.route_to(rip).await?;
        let of_device = match route.source.is_some_and(|source| vips.contains(&source)) {
            true => self.netlink.addresses(route.interface.index).await?,
            false => Vec::new(),
        };
        let of_device: Vec<IpAddr> = of_device.into_iter().map(|(address, _)| address).collect();
        let here = Here { vips: &vips, served, tun: &self.tun.name, outer_source, of_device: &of_device };
        check_route(&route, &here)
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
        let name = &self.options.interface;
        let of_interface = |kind, text: String| Found { kind, subject: name.clone(), text };
        let mut found = Vec::new();
        if self.is_interface_missing {
            let text = format!("interface {name} does not exist; waiting until it appears");
            found.push(of_interface(TroubleKind::InterfaceMissing, text));
        } else if !self.is_interface_up {
            let text = format!("interface {} is down, or its link has no carrier", self.interface.name);
            found.push(of_interface(TroubleKind::InterfaceDown, text));
        }
        found.extend(self.complaint.as_ref().map(|complaint| Found {
            kind: TroubleKind::HostUnknown,
            subject: String::new(),
            text: format!("{complaint}; trying again every {} s", TICK.as_secs()),
        }));
        if found.is_empty() {
            // What the kernel removes together with the interface comes back with it.
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

    /// The VIPs and their states.
    pub fn vips(&self) -> &BTreeMap<Ipv4Addr, VipState> {
        &self.vips
    }

    /// The ledger: entries for a metric, commands for `--no-host-changes`.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Undoes everything, newest first.
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
                tracing::info!("host: VIP {vip} {news} a local address");
            }
            if before.is_answered != state.is_answered {
                let news = if state.is_answered { "answers" } else { "no longer answers" };
                tracing::info!("host: {} {news} ARP for VIP {vip}", self.interface.name);
            }
            if before.capture != state.capture {
                tracing::info!("host: VIP {vip} is now captured by {}", state.capture);
            }
            self.vips.insert(vip, state);
        }
        self.settle().await?;
        self.changes.audit().await;
        self.send_announcements(notice).await;
        Ok(())
    }

    /// Detects devices that were recreated or came up again. False while the interface does not exist.
    async fn follow_devices(&mut self) -> Result<bool, HostError> {
        let tun = self.netlink.interface(&self.tun.name).await.ok();
        let is_tun_new = tun.as_ref().is_some_and(|tun| tun.index != self.tun.index);
        self.tun = tun.as_ref().map_or_else(|| self.tun.clone(), Device::from);
        let Some(interface) = self.find_interface().await? else {
            self.is_interface_missing = true;
            return Ok(false);
        };
        let is_new = is_tun_new || self.interface.index != interface.index;
        let is_tun_up = tun.is_some_and(|tun| tun.is_up);
        let was_up = std::mem::replace(&mut self.is_up, interface.is_up && is_tun_up);
        (self.is_interface_missing, self.is_interface_up) = (false, interface.is_up);
        self.interface = Device::from(&interface);
        if is_new || (!was_up && self.is_up) {
            // When a device goes down, the kernel removes its proxy neighbours and routes; the neighbours
            // themselves may have changed.
            self.changes.forget_repairs();
            let is_silent = self.options.announce == Announce::Never;
            for state in self.vips.values_mut().filter(|state| state.is_answered && !is_silent) {
                state.announcements = ANNOUNCEMENTS;
            }
        }
        Ok(true)
    }

    /// The interface with the configured name, otherwise the one that had it and was renamed.
    async fn find_interface(&mut self) -> Result<Option<Interface>, HostError> {
        let found = match self.netlink.interface(&self.options.interface).await {
            Err(HostError::NoInterface(_)) if self.interface.index > 0 => {
                self.netlink.interface_of_index(self.interface.index).await
            }
            found => found,
        };
        let found = match found {
            Err(error) if error.is_gone() => return Ok(None),
            found => found?,
        };
        if found.index == self.interface.index && found.name != self.interface.name {
            let (before, name) = (&self.interface.name, &found.name);
            tracing::warn!(
                "host: interface {before} has been renamed {name}; using it under this name. It is \"{}\" in the configuration",
                self.options.interface
            );
            self.changes.rename_interface(before, &Device::from(&found));
        }
        Ok(Some(found))
    }

    /// The addresses by which neighbours find this host.
    async fn on_link(&self) -> Result<HashSet<Ipv4Addr>, HostError> {
        let links = self.netlink.interfaces().await?;
        let counts = |link: &&Interface| link.uses_arp || link.index == self.interface.index;
        let indices: HashSet<u32> = links.iter().filter(counts).map(|link| link.index).collect();
        let addresses = self.netlink.all_addresses().await?;
        Ok(addresses.iter().filter(|found| indices.contains(&found.0)).map(|found| found.1).collect())
    }

    async fn look_at(&self, vip: Ipv4Addr, on_link: &HashSet<Ipv4Addr>) -> Result<VipState, HostError> {
        let is_on_link = on_link.contains(&vip);
        let is_local = self.netlink.is_local(vip).await?;
        let capture = self.options.capture.of(is_local, self.options.announce);
        if is_local && capture == Capture::Route && !self.vips.get(&vip).is_some_and(|state| state.is_local) {
            tracing::warn!(
                "host: VIP {vip} is a local address, which a route cannot capture; set capture = \"auto\""
            );
        }
        let is_answered = self.options.announce.is_answered(is_on_link);
        let is_announced = is_answered && self.options.announce != Announce::Never;
        let announcements = if is_announced { ANNOUNCEMENTS } else { 0 };
        Ok(VipState { is_local, is_on_link, capture, is_answered, announcements })
    }

    async fn settle(&mut self) -> Result<(), HostError> {
        let wanted = settings::wanted(&self.interface, &self.tun, &self.vips);
        self.changes.settle(&wanted).await
    }

    /// The first announcement of a VIP is sent at once, the others with the ticks.
    async fn send_announcements(&mut self, notice: Notice) {
        if self.options.changes == HostChanges::Print || !self.is_up {
            return;
        }
        let is_due = |state: &VipState| match notice {
            Notice::Tick => state.announcements > 0,
            Notice::Changed | Notice::Paths => state.announcements == ANNOUNCEMENTS,
        };
        let mut due = Vec::new();
        for (vip, state) in self.vips.iter_mut().filter(|(_, state)| is_due(state)) {
            state.announcements -= 1;
            due.push(*vip);
        }
        if due.is_empty() {
            return;
        }
        let interface = self.interface.name.clone();
        let announced = tokio::task::spawn_blocking(move || match announce::announce(&interface, &due) {
            Ok(()) => tracing::debug!("host: announced {due:?} on {interface}"),
            Err(error) => tracing::warn!("host: {error}"),
        });
        if let Err(error) = announced.await {
            tracing::error!("host: cannot announce VIPs: {error}");
        }
    }

    /// Removes what a killed predecessor left for VIPs that are no longer served.
    async fn sweep_leftovers(&mut self) {
        if self.options.changes == HostChanges::Print {
            return;
        }
        if let Err(error) = self.sweep().await {
            tracing::warn!("host: cannot clean up after a killed daemon: {error}");
        }
    }

    async fn sweep(&mut self) -> Result<(), HostError> {
        let interface = &self.interface;
        for proxy in self.netlink.proxies().await? {
            let is_leftover = proxy.protocol == PROTOCOL
                && proxy.index == interface.index
                && !self.vips.contains_key(&proxy.address);
            // Another director on the same interface has a route for it, or the VIP as an address.
            if is_leftover && !self.netlink.is_captured_or_local(proxy.address).await? {
                self.netlink.delete_proxy(proxy.address, proxy.index).await?;
                tracing::info!("host: removed proxy neighbour {} left by a killed daemon", proxy.address);
            }
        }
        let is_wanted = self.vips.values().any(|state| state.capture != Capture::Route);
        let rules = self.netlink.rules().await?;
        let leftover =
            capture_rule::find(&rules, &interface.name).filter(|found| rule::protocol(found) == PROTOCOL);
        if let Some(rule) = leftover.filter(|_| !is_wanted)
            && self.netlink.routes_in(CAPTURE_TABLE).await?.is_empty()
        {
            self.netlink.delete_rule(rule.clone()).await?;
            tracing::info!("host: removed the capture rule of {} left by a killed daemon", interface.name);
        }
        Ok(())
    }
}

fn ipv4_of(vip: IpAddr) -> Result<Ipv4Addr, HostError> {
    match vip {
        IpAddr::V4(vip) => Ok(vip),
        IpAddr::V6(_) => Err(HostError::Refused(format!(
            "VIP {vip} cannot be captured: only IPv4 VIPs are supported; remove it or use an IPv4 address"
        ))),
    }
}
