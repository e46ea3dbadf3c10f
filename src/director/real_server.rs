//! A real server in force: its slot, what is configured, what is known of the way to it, and its live counts.
//!
//! The bottom of the director: schedulers choose among these, connections name one by its [`Slot`], and the
//! cluster lists them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::path::SoftState;
use crate::encapsulation;
use crate::time::Moment;

/// A place in a snapshot's list of real servers: an index and, above it, a generation. A slot that is given
/// to another real server has another generation, so that whoever still holds the old number finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    const INDEX_BITS: u32 = 24;

    pub const fn new(index: u32, generation: u8) -> Slot {
        Slot(index & ((1 << Slot::INDEX_BITS) - 1) | (generation as u32) << Slot::INDEX_BITS)
    }

    pub const fn index(self) -> u32 {
        self.0 & ((1 << Slot::INDEX_BITS) - 1)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerConfig {
    pub name: String,
    pub rip: IpAddr,
    /// 0 to 65535; 0 is quiesced.
    pub weight: u32,
    /// From this many connections on it gets no new ones; 0: no limit (`ipvsadm -x`).
    pub upper_threshold: u32,
    /// Below this many it gets new ones again; 0: three quarters of the upper one (`ipvsadm -y`).
    pub lower_threshold: u32,
    /// `None`: what the host's routes say.
    pub path_mtu: Option<u16>,
}

impl RealServerConfig {
    /// A real server with every default, called by its address.
    pub fn new(rip: IpAddr, weight: u32) -> RealServerConfig {
        let name = rip.to_string();
        RealServerConfig { name, rip, weight, upper_threshold: 0, lower_threshold: 0, path_mtu: None }
    }
}

/// What the host's routes say about the way to one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Our address on that way (DIP).
    pub source: Ipv4Addr,
    /// In bytes, outer packet included.
    pub mtu: u16,
}

/// In which of a real server's two counts a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Active,
    Inactive,
}

/// A real server of one virtual service, in force.
pub struct RealServer {
    pub slot: Slot,
    pub virtual_service: u16,
    pub config: RealServerConfig,
    /// The RIP; only IPv4 can be encapsulated to.
    pub rip: Ipv4Addr,
    pub path: Path,
    /// What errors from the path have taught; one for all real servers of this RIP.
    pub soft: Arc<SoftState>,
    pub encapsulation: &'static encapsulation::Row,
    /// False once it has left the configuration; its slot stays while connections point to it.
    pub is_present: bool,
    pub live: Arc<Live>,
}

/// What changes with every connection; shared by all snapshots.
#[derive(Debug, Default)]
pub struct Live {
    active: AtomicI32,
    inactive: AtomicI32,
    persistent: AtomicI32,
    pub connections_total: AtomicU64,
    pub is_overloaded: AtomicBool,
}

impl Live {
    /// A real server's counts in the middle of its life.
    #[cfg(test)]
    pub(crate) fn of(active: u32, inactive: u32) -> Live {
        let live = Live::default();
        live.set_active(active);
        live.inactive.store(inactive as i32, Ordering::Relaxed);
        live
    }

    #[cfg(test)]
    pub(crate) fn set_active(&self, active: u32) {
        self.active.store(active as i32, Ordering::Relaxed);
    }

    fn count(&self, activity: Activity) -> &AtomicI32 {
        match activity {
            Activity::Active => &self.active,
            Activity::Inactive => &self.inactive,
        }
    }

    /// Those in a state that [`super::connection::State::is_active`] names.
    pub fn active(&self) -> u32 {
        read(&self.active)
    }

    pub fn inactive(&self) -> u32 {
        read(&self.inactive)
    }

    /// Persistence templates.
    pub fn persistent(&self) -> u32 {
        read(&self.persistent)
    }

    /// Active and inactive ones; templates are none.
    pub fn connections(&self) -> u64 {
        u64::from(self.active()) + u64::from(self.inactive())
    }

    /// Connections or templates point to it.
    pub fn is_referenced(&self) -> bool {
        self.connections() > 0 || self.persistent() > 0
    }
}

/// Below zero for the moment in which one worker has booked an end and another not yet the move before it.
fn read(count: &AtomicI32) -> u32 {
    count.load(Ordering::Relaxed).max(0) as u32
}

impl RealServer {
    pub fn weight(&self) -> u32 {
        self.config.weight
    }

    /// May be given new connections.
    pub fn is_eligible(&self) -> bool {
        self.config.weight > 0 && !self.live.is_overloaded.load(Ordering::Relaxed)
    }

    pub fn active(&self) -> u64 {
        self.live.active().into()
    }

    /// ipvs.md §3.1: active × 256 + inactive.
    pub fn overhead(&self) -> u64 {
        self.active() * 256 + u64::from(self.live.inactive())
    }

    /// Largest outer packet that needs no fragmentation on the way, in bytes.
    pub fn path_mtu(&self, now: Moment) -> u16 {
        self.soft.mtu(now).map_or(self.path.mtu, |told| told.min(self.path.mtu))
    }

    /// Largest inner packet that needs no fragmentation on the way, in bytes.
    pub fn inner_mtu(&self, now: Moment) -> u16 {
        self.path_mtu(now).saturating_sub(self.encapsulation.overhead)
    }

    /// Books that a template came to point here, or ceased to.
    pub fn book_template(&self, step: i32) {
        self.live.persistent.fetch_add(step, Ordering::Relaxed);
    }

    /// Books a new connection; before it is in the table, where a sweep might meet it at once.
    pub fn book_new(&self, activity: Activity) {
        self.live.count(activity).fetch_add(1, Ordering::Relaxed);
        self.judge_load();
    }

    /// Books that a connection moved to the other count.
    pub fn book_move(&self, to: Activity) {
        let from = if to == Activity::Active { Activity::Inactive } else { Activity::Active };
        // In this order: counted twice for a moment, it could set another worker's overload flag, which stays.
        self.live.count(from).fetch_sub(1, Ordering::Relaxed);
        self.live.count(to).fetch_add(1, Ordering::Relaxed);
    }

    /// Books that a connection ended.
    pub fn book_end(&self, activity: Activity) {
        self.live.count(activity).fetch_sub(1, Ordering::Relaxed);
        self.judge_load();
    }

    /// Sets or clears the overload flag (ipvs.md §7, the one rule of 2026-07): set from the upper
    /// threshold on, cleared below the lower one, else left as it was.
    pub fn judge_load(&self) {
        let upper = u64::from(self.config.upper_threshold);
        let total = self.live.connections();
        let lower = match u64::from(self.config.lower_threshold) {
            0 => upper - upper / 4,
            lower => lower,
        };
        if upper == 0 || total < lower.min(upper) {
            if self.live.is_overloaded.load(Ordering::Relaxed) {
                self.live.is_overloaded.store(false, Ordering::Relaxed);
            }
        } else if total >= upper {
            self.live.is_overloaded.store(true, Ordering::Relaxed);
        }
    }
}
