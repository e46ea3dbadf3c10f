//! A running real server: its slot, its configuration, the path to it, and its live counts.
//!
//! The bottom of the director: schedulers choose among these, connections name one by its [`Slot`], and the
//! cluster lists them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::path::SoftState;
use super::server_errors::ServerErrors;
use crate::encapsulation;
use crate::health::{CheckConfig, OnDown};
use crate::packet::protocol;
use crate::time::Moment;

/// A place in a snapshot's list of real servers: an index and, above it, a generation. When a slot is given
/// to another real server its generation changes, so that an old number no longer finds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    const INDEX_BITS: u32 = 24;

    /// Only the low 24 bits of `index` count, room for 16,777,216 real servers.
    pub const fn new(index: u32, generation: u8) -> Slot {
        Slot(index & ((1 << Slot::INDEX_BITS) - 1) | (generation as u32) << Slot::INDEX_BITS)
    }

    /// The place in the snapshot's list, without the generation.
    pub const fn index(self) -> u32 {
        self.0 & ((1 << Slot::INDEX_BITS) - 1)
    }

    /// The slot of the next real server at the same index.
    pub const fn of_another(self) -> Slot {
        Slot(self.0.wrapping_add(1 << Slot::INDEX_BITS))
    }
}

/// A set of slots, looked up by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSet(Vec<Option<Slot>>);

impl SlotSet {
    /// Whether exactly this slot is in the set; another generation at its index is not.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.get(slot.index() as usize).is_some_and(|found| *found == Some(slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    /// Of two slots with one index the later one.
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = Vec::new();
        for slot in slots {
            let index = slot.index() as usize;
            if index >= set.len() {
                set.resize(index + 1, None);
            }
            set[index] = Some(slot);
        }
        SlotSet(set)
    }
}

/// A real server of one virtual service, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerConfig {
    /// For listings and metrics; its address unless the operator names it.
    pub name: String,
    /// IPv4 in every accepted configuration, because encapsulation supports only IPv4.
    pub rip: IpAddr,
    /// As configured, 0 to 2147483647; 0 is quiesced.
    pub weight: u32,
    /// At this many connections it stops getting new ones; 0: no limit (`ipvsadm -x`).
    pub upper_threshold: u32,
    /// Below this many it gets new ones again; 0: three quarters of the upper threshold (`ipvsadm -y`).
    pub lower_threshold: u32,
    /// `None`: taken from the host's routes.
    pub path_mtu: Option<u16>,
    /// The format that its daemon, or its kernel, decapsulates.
    pub encapsulation: &'static encapsulation::Row,
    /// `None`: those of its virtual service.
    pub checks: Option<Arc<[CheckConfig]>>,
    /// It serves only while the others have no quorum.
    pub is_sorry: bool,
}

impl RealServerConfig {
    /// A real server with every default, named by its address.
    pub fn new(rip: IpAddr, weight: u32) -> RealServerConfig {
        RealServerConfig {
            name: rip.to_string(),
            rip,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            path_mtu: None,
            encapsulation: encapsulation::DEFAULT,
            checks: None,
            is_sorry: false,
        }
    }
}

/// The host's route to one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The source address of the outer packets (DIP).
    pub source: Ipv4Addr,
    /// In bytes, outer packet included.
    pub mtu: u16,
}

/// Which of a real server's two counts includes a connection. As in IPVS, UDP is always inactive; TCP is
/// active while half open or established (tcp_state_active_table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// TCP, half open or established.
    Active,
    /// All others: closing TCP, and UDP.
    Inactive,
}

/// Whether a configuration has a real server, and what is expected of one that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is configured.
    Present,
    /// It was removed a moment ago and may come back: its connections wait.
    Awaited,
    /// It is not expected back.
    Removed,
}

/// A real server of one virtual service in the snapshot.
pub struct RealServer {
    /// By which connections and templates point to it.
    pub slot: Slot,
    /// Slot of its virtual service.
    pub virtual_service: u16,
    /// As configured.
    pub config: RealServerConfig,
    /// The weight that the schedulers see.
    pub weight: u32,
    /// While it is down: what happens to its connections.
    pub on_down: Option<OnDown>,
    /// The RIP; encapsulation supports only IPv4.
    pub rip: Ipv4Addr,
    /// The configured MTU, where there is one, and otherwise the route's.
    pub path: Path,
    /// It is the director's own host (LocalNode of IPVS): packets go to the host's stack as they are.
    pub is_local: bool,
    /// What errors from the path have shown; shared by all real servers with this RIP.
    pub soft: Arc<SoftState>,
    /// Whether the configuration has it; its slot stays while connections point to it.
    pub presence: Presence,
    /// Shared with every other snapshot that contains this slot.
    pub live: Arc<Live>,
}

/// The values that change with every connection; shared by all snapshots.
#[derive(Debug, Default)]
pub struct Live {
    /// Active connections in the upper half, inactive ones in the lower: one that moves is never missing, nor counted
    /// twice.
    connections: AtomicU64,
    persistent: AtomicU32,
    /// New connections since the real server got its slot; each datagram of a one-packet service counts.
    pub connections_total: AtomicU64,
    /// Of its TCP connections.
    pub handshakes: Handshakes,
    /// IP_VS_DEST_F_OVERLOAD of IPVS: no new connections until the count falls below the lower threshold.
    pub is_overloaded: AtomicBool,
    /// The upper one in the upper half, 0 for none, and the lower one in the lower half.
    thresholds: AtomicU64,
    /// Most real servers never have any.
    errors: OnceLock<Box<ServerErrors>>,
}

/// The handshakes of TCP connections, as far as the client's packets show them.
#[derive(Debug, Default)]
pub struct Handshakes {
    begun: AtomicU64,
    completed: AtomicU64,
}

impl Handshakes {
    /// Books a SYN that began a connection.
    pub fn book_begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Books the client's first ACK.
    pub fn book_completed(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    /// Those begun and those completed so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.completed.load(Ordering::Relaxed))
    }
}

impl Live {
    /// The counts of a real server in use.
    #[cfg(test)]
    pub(crate) fn of(active: u32, inactive: u32) -> Live {
        let live = Live::default();
        live.connections.store(u64::from(active) << 32 | u64::from(inactive), Ordering::Relaxed);
        live
    }

    #[cfg(test)]
    pub(crate) fn set_active(&self, active: u32) {
        let connections = u64::from(active) << 32 | u64::from(self.inactive());
        self.connections.store(connections, Ordering::Relaxed);
    }

    /// The active connections, in the sense of IPVS: see [`super::connection::State::is_active`].
    pub fn active(&self) -> u32 {
        (self.connections.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Closing TCP connections and UDP flows.
    pub fn inactive(&self) -> u32 {
        (self.connections.load(Ordering::Relaxed) & 0xffff_ffff) as u32
    }

    /// active × 256 + inactive, as ip_vs_dest_conn_overhead() of IPVS.
    fn overhead(&self) -> u64 {
        let both = self.connections.load(Ordering::Relaxed);
        (both >> 32) * 256 + (both & u64::from(u32::MAX))
    }

    /// Persistence templates.
    pub fn persistent(&self) -> u32 {
        self.persistent.load(Ordering::Relaxed)
    }

    /// Active and inactive connections, without templates.
    pub fn connections(&self) -> u64 {
        let both = self.connections.load(Ordering::Relaxed);
        (both >> 32) + (both & u64::from(u32::MAX))
    }

    /// Whether connections or templates point to it.
    pub fn is_referenced(&self) -> bool {
        self.connections() > 0 || self.persistent() > 0
    }

    /// The errors of the path to it, to count one more.
    pub fn errors(&self) -> &ServerErrors {
        self.errors.get_or_init(Box::default)
    }

    /// The errors of the path to it, if there were any.
    pub fn errors_so_far(&self) -> Option<&ServerErrors> {
        self.errors.get().map(|errors| &**errors)
    }

    /// Books that a template now points here.
    pub fn book_template(&self) {
        self.persistent.fetch_add(1, Ordering::Relaxed);
    }

    /// Books that a template no longer points here.
    pub fn book_template_end(&self) {
        self.persistent.fetch_sub(1, Ordering::Relaxed);
    }

    /// Books a new connection.
    pub fn book_new(&self, activity: Activity) {
        self.connections.fetch_add(one(activity), Ordering::Relaxed);
        self.judge_load();
    }

    /// Books that a connection moved to the other count.
    pub fn book_move(&self, to: Activity) {
        let from = if to == Activity::Active { Activity::Inactive } else { Activity::Active };
        self.connections.fetch_add(one(to).wrapping_sub(one(from)), Ordering::Relaxed);
    }

    /// Books that a connection ended.
    pub fn book_end(&self, activity: Activity) {
        self.connections.fetch_sub(one(activity), Ordering::Relaxed);
        self.judge_load();
    }

    /// Sets the thresholds and judges the load by them.
    pub fn limit(&self, upper: u32, lower: u32) {
        let lower = if lower == 0 { upper - upper / 4 } else { lower.min(upper) };
        self.thresholds.store(u64::from(upper) << 32 | u64::from(lower), Ordering::Relaxed);
        self.judge_load();
    }

    /// Sets or clears the overload flag: set at the upper threshold, cleared below the lower one, otherwise
    /// unchanged. IPVS follows this rule since its fix "properly update the overload flag on dest edit".
    fn judge_load(&self) {
        let thresholds = self.thresholds.load(Ordering::Relaxed);
        let (upper, lower) = (thresholds >> 32, thresholds & u64::from(u32::MAX));
        let total = self.connections();
        if upper == 0 || total < lower {
            if self.is_overloaded.load(Ordering::Relaxed) {
                self.is_overloaded.store(false, Ordering::Relaxed);
            }
        } else if total >= upper {
            self.is_overloaded.store(true, Ordering::Relaxed);
        }
    }
}

const fn one(activity: Activity) -> u64 {
    match activity {
        Activity::Active => 1 << 32,
        Activity::Inactive => 1,
    }
}

impl RealServer {
    /// As the schedulers see it; 0 is quiesced.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether the configuration has it.
    pub fn is_present(&self) -> bool {
        self.presence == Presence::Present
    }

    /// Whether every connection to it continues, as far as its health decides.
    pub fn keeps_all(&self) -> bool {
        matches!(self.on_down, None | Some(OnDown::Quiesce))
    }

    /// Whether a flow of this protocol stays with it, as far as its health decides.
    pub fn keeps(&self, protocol: u8) -> bool {
        match self.on_down {
            None | Some(OnDown::Quiesce) => true,
            Some(OnDown::Drain) => protocol != protocol::UDP,
            Some(OnDown::Remove) => false,
        }
    }

    /// Whether it may get new connections.
    pub fn is_eligible(&self) -> bool {
        self.weight > 0 && !self.live.is_overloaded.load(Ordering::Relaxed)
    }

    /// As [`Live::active`], wide enough for products with weights.
    pub fn active(&self) -> u64 {
        self.live.active().into()
    }

    /// The load in the sense of IPVS: an active connection counts as much as 256 inactive ones.
    pub fn overhead(&self) -> u64 {
        self.live.overhead()
    }

    /// The largest outer packet, in bytes, that fits the path without fragmentation.
    pub fn path_mtu(&self, now: Moment) -> u16 {
        self.soft.mtu(now).map_or(self.path.mtu, |told| told.min(self.path.mtu))
    }

    /// The largest inner packet, in bytes, that fits the path without fragmentation.
    pub fn inner_mtu(&self, now: Moment) -> u16 {
        self.path_mtu(now).saturating_sub(self.config.encapsulation.overhead)
    }
}
