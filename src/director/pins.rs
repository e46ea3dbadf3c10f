//! The flows of probes: which real server each of them goes to.
//!
//! ```text
//! check ─▶ own socket, DIP:61000→VIP:80 ─▶ TUN ─▶ pinned to RIP ─▶ wrapped, no entry, no counts
//! ```
//! A check pins its flow before its first packet leaves. A packet from one of the director's own addresses follows its
//! pin, or is refused as ever (RFC 2003 §3.2). A pin names the real server by its slot, and by its RIP when a change of the
//! configuration has given it another one; weight and state do not matter.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use foldhash::quality::RandomState;

use super::cluster::Cluster;
use super::real_server::{RealServer, Slot};
use crate::packet::icmp::{self, quoted_flow};
use crate::packet::{Flow, Ip, probe, protocol};
use crate::time::Moment;

/// Pins that are added before the expired ones are removed.
const SWEPT_AT_LEAST: usize = 64;

/// Where one flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pin {
    slot: Slot,
    rip: Ipv4Addr,
    until: Moment,
    /// Distinguishes it from an earlier pin of the same flow.
    number: u64,
}

/// The pinned flows, shared by all workers.
#[derive(Default)]
pub struct Pins {
    by_flow: DashMap<Flow, Pin, RandomState>,
    last: AtomicU64,
    /// Pins to add before the next removal of the expired ones.
    before_sweep: AtomicUsize,
}

/// A pin as long as this exists; dropping it removes the pin.
#[must_use]
pub struct Pinned {
    pins: Arc<Pins>,
    flow: Flow,
    number: u64,
}

/// Whether a flow is that of a probe, and where it goes.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// It is not pinned.
    Unpinned,
    /// To this real server, present in the configuration and on another host.
    To(&'a Arc<RealServer>),
    /// The real server is no longer configured, or has become the director's own host.
    Stale,
}

impl Pins {
    /// Leads a flow to a real server of any snapshot until then. A later pin of the same flow replaces it.
    pub fn pin(self: &Arc<Pins>, flow: Flow, server: &RealServer, until: Moment, now: Moment) -> Pinned {
        self.sweep_now_and_then(now);
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let pin = Pin { slot: server.slot, rip: server.rip, until, number };
        self.by_flow.insert(flow, pin);
        Pinned { pins: self.clone(), flow, number }
    }

    /// The pins that have not been removed.
    pub fn len(&self) -> usize {
        self.by_flow.len()
    }

    /// Whether there is no pin.
    pub fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    /// Where the flow of a packet from an own address goes.
    pub fn find<'a>(&self, cluster: &'a Cluster, flow: &Flow, now: Moment) -> Found<'a> {
        let Some(pin) = self.living(flow, now) else { return Found::Unpinned };
        let fits =
            |server: &&Arc<RealServer>| server.rip == pin.rip && server.is_present() && !server.is_local;
        let other = || {
            let server = cluster.find(flow)?.real_servers.iter().find(fits);
            server.or_else(|| cluster.real_server_at(pin.rip).filter(fits))
        };
        cluster.real_server(pin.slot).filter(fits).or_else(other).map_or(Found::Stale, Found::To)
    }

    fn living(&self, flow: &Flow, now: Moment) -> Option<Pin> {
        self.by_flow.get(flow).map(|pin| *pin).filter(|pin| now < pin.until)
    }

    /// Each removal looks at every pin, so it pays off only after as many have been added.
    fn sweep_now_and_then(&self, now: Moment) {
        let next = |left: usize| Some(left.checked_sub(1).unwrap_or(self.len().max(SWEPT_AT_LEAST)));
        if self.before_sweep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) == Ok(0) {
            self.by_flow.retain(|_, pin| now < pin.until);
        }
    }
}

impl Pinned {
    /// The flow that is pinned.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Lets the pin end at this moment, or earlier if it was to: a connection's last segment is still in flight when its
    /// socket is closed.
    pub fn end_at(mut self, until: Moment) {
        if let Some(mut pin) = self.pins.by_flow.get_mut(&self.flow)
            && pin.number == self.number
        {
            pin.until = pin.until.min(until);
        }
        // No pin has this number, so that nothing is removed.
        self.number = u64::MAX;
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pins.by_flow.remove_if(&self.flow, |_, pin| pin.number == self.number);
    }
}

/// Whether a packet from an own address may be pinned: its source port, or its identifier, is one of a probe's.
pub fn may_be_pinned(flow: &Flow) -> bool {
    probe::PORTS.contains(&flow.client_port)
}

/// The flow of a quoted packet that may be a probe: as [`quoted_flow`], and that of an echo request, whose identifier is
/// in the client's port.
pub fn quoted_probe(quoted: &Ip) -> Option<Flow> {
    let flow = match quoted_flow(quoted) {
        Ok(flow) => flow,
        Err(_) => {
            let upper = quoted.upper().ok().filter(|upper| !upper.is_later_fragment())?;
            let message = upper.payload;
            // The checksum covers more than is quoted.
            let is_echo = upper.protocol == protocol::ICMP
                && message.len() >= icmp::HEADER
                && icmp::field::KIND.read(message) == icmp::ECHO_REQUEST;
            let identifier = is_echo.then(|| icmp::field::IDENTIFIER.read(message))?;
            Flow::of(quoted, protocol::ICMP, identifier, 0)
        }
    };
    may_be_pinned(&flow).then_some(flow)
}
