//! The state of the path to a real server, in addition to its route: the soft state of RFC 2003 §5.
//!
//! ```text
//!              a packet reads one word, which usually means "nothing known"
//!   worker ──────────────▶ ┌────────────┐ ◀────────── [`super::path_errors`]: ICMP about the outer packets
//!                          │ SoftState  │  path MTU (10 min), a pending error (10 s), suspicion and a report that
//!                          │            │  the host cannot be reached (30 s)
//!                          └────────────┘
//! ```
//! One for each RIP, shared by all virtual services it serves and by all snapshots.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::reply::IcmpError;
use crate::encapsulation::identification::Identifications;
use crate::time::Moment;

/// The smallest path MTU that is accepted: RFC 791 §3.1 requires every host to accept 576 bytes, and a
/// smaller claim is an attempt to force fragmentation.
pub const MTU_MIN: u16 = 576;

/// RFC 1191 §6.3 recommends 10 minutes before a larger size is tried again.
const MTU_FOR: Duration = Duration::from_secs(600);

/// How long an error is kept for the sender of the next packet: later packets are unrelated to it.
const PENDING_FOR: Duration = Duration::from_secs(10);

/// The shortest time between two such errors: a forger can disturb one packet's sender per second.
const PENDING_PAUSE: Duration = Duration::from_secs(1);

/// How long one "protocol unreachable" marks the real server as suspect, and one "host unreachable" as unreachable.
const SUSPECT_FOR: Duration = Duration::from_secs(30);

const MTU: u32 = 1;
const PENDING_ERROR: u32 = 2;

/// The soft state of one path. Its parts are read and written separately: it is only a hint, and the next
/// error corrects it.
#[derive(Debug, Default)]
pub struct SoftState {
    /// Which of the other parts are set.
    known: AtomicU32,
    mtu: AtomicU16,
    /// Nanoseconds of a [`Moment`], like all `_until` fields.
    mtu_until: AtomicU64,
    /// An [`IcmpError`] by its index.
    pending_error: AtomicUsize,
    pending_until: AtomicU64,
    no_error_until: AtomicU64,
    suspect_until: AtomicU64,
    /// An [`IcmpError`] by its index.
    unreachable_error: AtomicUsize,
    unreachable_until: AtomicU64,
    /// The identifications of the outer packets.
    pub identifications: Identifications,
}

impl SoftState {
    /// `first` is the first identification.
    pub fn new(first: u16) -> SoftState {
        SoftState { identifications: Identifications::new(first), ..SoftState::default() }
    }

    fn knows(&self, what: u32) -> bool {
        self.known.load(Ordering::Relaxed) & what != 0
    }

    /// The path MTU reported by routers, outer packet included, in bytes.
    pub fn mtu(&self, now: Moment) -> Option<u16> {
        if !self.knows(MTU) {
            return None;
        }
        if now.as_nanos() >= self.mtu_until.load(Ordering::Relaxed) {
            self.known.fetch_and(!MTU, Ordering::Relaxed);
            return None;
        }
        Some(self.mtu.load(Ordering::Relaxed))
    }

    /// Records a router's report, but never raises the known MTU (RFC 1191 §3). True if it changed.
    pub fn lower_mtu(&self, mtu: u16, now: Moment) -> bool {
        let mtu = mtu.max(MTU_MIN);
        if self.mtu(now).is_some_and(|known| known <= mtu) {
            return false;
        }
        self.mtu.store(mtu, Ordering::Relaxed);
        self.mtu_until.store(now.after(MTU_FOR).as_nanos(), Ordering::Relaxed);
        self.known.fetch_or(MTU, Ordering::Relaxed);
        true
    }

    /// Records what a probe of the director's own has measured, whatever routers have reported.
    pub fn measure_mtu(&self, mtu: u16, now: Moment) {
        self.mtu.store(mtu.max(MTU_MIN), Ordering::Relaxed);
        self.mtu_until.store(now.after(MTU_FOR).as_nanos(), Ordering::Relaxed);
        self.known.fetch_or(MTU, Ordering::Relaxed);
    }

    /// A packet of this size has passed: forgets a smaller path MTU.
    pub fn pass_mtu(&self, mtu: u16, now: Moment) {
        if self.mtu(now).is_some_and(|known| known < mtu) {
            self.known.fetch_and(!MTU, Ordering::Relaxed);
        }
    }

    /// Records an error for the sender of the next packet: one without an MTU, which has its own place.
    pub fn set_pending_error(&self, error: IcmpError, now: Moment) {
        if now.as_nanos() < self.no_error_until.load(Ordering::Relaxed) {
            return;
        }
        self.no_error_until.store(now.after(PENDING_PAUSE).as_nanos(), Ordering::Relaxed);
        self.pending_error.store(error.index(), Ordering::Relaxed);
        self.pending_until.store(now.after(PENDING_FOR).as_nanos(), Ordering::Relaxed);
        self.known.fetch_or(PENDING_ERROR, Ordering::Relaxed);
    }

    /// Takes the error for a packet's sender; each is returned once.
    pub fn take_pending_error(&self, now: Moment) -> Option<IcmpError> {
        if !self.knows(PENDING_ERROR)
            || self.known.fetch_and(!PENDING_ERROR, Ordering::Relaxed) & PENDING_ERROR == 0
        {
            return None;
        }
        let is_due = now.as_nanos() < self.pending_until.load(Ordering::Relaxed);
        let index = self.pending_error.load(Ordering::Relaxed);
        IcmpError::ALL.get(index).copied().filter(|_| is_due)
    }

    /// Records that the host receives no encapsulated packets. True if this is new.
    pub fn suspect(&self, now: Moment) -> bool {
        let is_news = !self.is_suspect(now);
        self.suspect_until.store(now.after(SUSPECT_FOR).as_nanos(), Ordering::Relaxed);
        is_news
    }

    /// Records that the path ends before the host.
    pub fn note_unreachable(&self, error: IcmpError, now: Moment) {
        self.unreachable_error.store(error.index(), Ordering::Relaxed);
        self.unreachable_until.store(now.after(SUSPECT_FOR).as_nanos(), Ordering::Relaxed);
    }

    /// What was recorded last by [`SoftState::note_unreachable`], for a while.
    pub fn unreachable(&self, now: Moment) -> Option<IcmpError> {
        let is_known = now.as_nanos() < self.unreachable_until.load(Ordering::Relaxed);
        let index = self.unreachable_error.load(Ordering::Relaxed);
        IcmpError::ALL.get(index).copied().filter(|_| is_known)
    }

    /// True for a while after [`SoftState::suspect`].
    pub fn is_suspect(&self, now: Moment) -> bool {
        now.as_nanos() < self.suspect_until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_size_replaces_what_is_known_and_a_larger_one_that_passes_ends_it() {
        let soft = SoftState::default();
        assert!(soft.lower_mtu(1400, Moment::ZERO));
        soft.measure_mtu(1450, Moment::from_secs(1));
        assert_eq!(soft.mtu(Moment::from_secs(600)), Some(1450));
        assert_eq!(soft.mtu(Moment::from_secs(601)), None);
        soft.measure_mtu(68, Moment::ZERO);
        assert_eq!(soft.mtu(Moment::ZERO), Some(MTU_MIN));
        soft.pass_mtu(MTU_MIN, Moment::ZERO);
        assert_eq!(soft.mtu(Moment::ZERO), Some(MTU_MIN));
        soft.pass_mtu(MTU_MIN + 1, Moment::ZERO);
        assert_eq!(soft.mtu(Moment::ZERO), None);
    }

    #[test]
    fn a_host_that_cannot_be_reached_is_known_for_half_a_minute() {
        let soft = SoftState::default();
        assert_eq!(soft.unreachable(Moment::ZERO), None);
        soft.note_unreachable(IcmpError::HostUnreachable, Moment::ZERO);
        soft.note_unreachable(IcmpError::NetUnreachable, Moment::from_secs(5));
        assert_eq!(soft.unreachable(Moment::from_secs(34)), Some(IcmpError::NetUnreachable));
        assert_eq!(soft.unreachable(Moment::from_secs(35)), None);
    }

    #[test]
    fn a_path_mtu_is_lowered_never_raised_and_forgotten() {
        let soft = SoftState::default();
        assert_eq!(soft.mtu(Moment::ZERO), None);
        assert!(soft.lower_mtu(1400, Moment::ZERO));
        assert!(!soft.lower_mtu(1450, Moment::from_secs(1)));
        assert!(
            !soft.lower_mtu(1400, Moment::from_secs(1)),
            "the same value is not a change, and lasts no longer"
        );
        assert!(soft.lower_mtu(68, Moment::from_secs(2)));
        assert_eq!(soft.mtu(Moment::from_secs(601)), Some(MTU_MIN));
        assert_eq!(soft.mtu(Moment::from_secs(602)), None);
        assert!(soft.lower_mtu(1450, Moment::from_secs(603)));
        assert_eq!(soft.mtu(Moment::from_secs(603)), Some(1450));
    }

    #[test]
    fn a_pending_error_is_taken_once_and_lapses() {
        let soft = SoftState::default();
        assert_eq!(soft.take_pending_error(Moment::ZERO), None);
        soft.set_pending_error(IcmpError::HostUnreachable, Moment::ZERO);
        assert_eq!(soft.take_pending_error(Moment::from_secs(9)), Some(IcmpError::HostUnreachable));
        assert_eq!(soft.take_pending_error(Moment::from_secs(9)), None);
        soft.set_pending_error(IcmpError::NetUnreachable, Moment::from_secs(10));
        soft.set_pending_error(IcmpError::HostUnreachable, Moment::from_millis(10_999));
        assert_eq!(
            soft.take_pending_error(Moment::from_secs(11)),
            Some(IcmpError::NetUnreachable),
            "one a second"
        );
        soft.set_pending_error(IcmpError::HostUnreachable, Moment::from_secs(11));
        assert_eq!(soft.take_pending_error(Moment::from_millis(20_999)), Some(IcmpError::HostUnreachable));
        soft.set_pending_error(IcmpError::HostUnreachable, Moment::from_secs(30));
        assert_eq!(soft.take_pending_error(Moment::from_secs(40)), None);
    }

    #[test]
    fn a_path_mtu_and_a_pending_error_do_not_touch_each_other() {
        let soft = SoftState::default();
        soft.set_pending_error(IcmpError::HostUnreachable, Moment::ZERO);
        assert_eq!(soft.mtu(Moment::ZERO), None);
        assert!(soft.lower_mtu(1400, Moment::ZERO));
        let pending = soft.take_pending_error(Moment::ZERO);
        assert_eq!(pending, Some(IcmpError::HostUnreachable), "not lost with a size that is learnt");
        assert_eq!(soft.mtu(Moment::ZERO), Some(1400), "not lost with an error that is taken");
        assert!(soft.lower_mtu(1300, Moment::ZERO));
        assert_eq!(soft.take_pending_error(Moment::ZERO), None, "not due again with a size that is learnt");
        soft.set_pending_error(IcmpError::NetUnreachable, Moment::from_secs(599));
        assert_eq!(soft.mtu(Moment::from_secs(599)), Some(1300), "not lost with an error that is due");
        assert_eq!(soft.mtu(Moment::from_secs(600)), None);
        let pending = soft.take_pending_error(Moment::from_secs(600));
        assert_eq!(pending, Some(IcmpError::NetUnreachable), "not lost with a size that is forgotten");
    }

    #[test]
    fn suspicion_passes() {
        let soft = SoftState::default();
        assert!(!soft.is_suspect(Moment::ZERO));
        assert!(soft.suspect(Moment::ZERO) && !soft.suspect(Moment::ZERO));
        assert!(soft.is_suspect(Moment::from_secs(29)) && !soft.is_suspect(Moment::from_secs(30)));
        assert!(soft.suspect(Moment::from_secs(30)) && !soft.suspect(Moment::from_secs(50)));
        assert!(soft.is_suspect(Moment::from_secs(79)), "from the last error on");
        assert!(!soft.is_suspect(Moment::from_secs(80)));
    }
}
