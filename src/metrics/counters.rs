//! Counters of one worker. Only its owner writes, so that a count is a load and a store without a locked
//! instruction; any thread may read.

use std::io;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::director::path_errors::{Handled, Kind, Outcome};
use crate::director::route::FoundBy;
use crate::director::server_errors::Cause;
use crate::director::verdict::{DropReason, ReplyKind, Tracking, Verdict};
use crate::realserver::verdict::{DropReason as RefusalReason, Verdict as RealserverVerdict};

/// A count with a single writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Only for the owner. `u64::MAX` subtracts 1, as the count wraps around.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// At any time, from any thread; it may be late by a few packets.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One count per value of an enumeration. `Default` of arrays ends at length 32.
#[derive(Debug)]
pub struct Counts<const N: usize>([Count; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Counts<N> {
        Counts(std::array::from_fn(|_| Count::default()))
    }
}

impl<const N: usize> Deref for Counts<N> {
    type Target = [Count; N];

    fn deref(&self) -> &[Count; N] {
        &self.0
    }
}

/// Packets and bytes of one slot.
#[derive(Debug, Default)]
pub struct Traffic {
    /// A super-packet counts once.
    pub packets: Count,
    /// IP length, headers included.
    pub bytes: Count,
}

impl Traffic {
    fn add(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// Traffic by slot, growing in chunks that never move, so that a reader needs no lock.
pub struct BySlot {
    chunks: Box<[OnceLock<Box<[Traffic]>>]>,
}

const CHUNK: usize = 256;
/// 1,048,576 slots: 16,000 virtual services with 64 real servers each.
const CHUNKS: usize = 4096;

impl Default for BySlot {
    fn default() -> BySlot {
        BySlot { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl BySlot {
    /// The traffic of a slot. Beyond the last chunk, slots share one entry instead of failing.
    pub fn slot(&self, slot: u32) -> &Traffic {
        let slot = (slot as usize).min(CHUNK * CHUNKS - 1);
        let chunk =
            self.chunks[slot / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Traffic::default()).collect());
        &chunk[slot % CHUNK]
    }

    /// Packets and bytes of a slot; zero for a slot that was never used.
    pub fn read(&self, slot: u32) -> (u64, u64) {
        let slot = slot as usize;
        let chunk = self.chunks.get(slot / CHUNK).and_then(OnceLock::get);
        chunk.map_or((0, 0), |chunk| (chunk[slot % CHUNK].packets.get(), chunk[slot % CHUNK].bytes.get()))
    }
}

/// Send errors by cause.
#[derive(Debug, Default)]
pub struct Errors {
    counts: [Count; Cause::ALL.len()],
}

impl Errors {
    /// Counts one packet.
    pub fn add(&self, error: &io::Error) {
        let cause = Cause::of_errno(error.raw_os_error().unwrap_or(0));
        self.counts[cause as usize].add(1);
    }

    /// The count of each cause.
    pub fn read(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.iter().zip(&self.counts).map(|(cause, count)| (*cause, count.get()))
    }
}

/// The counters of one worker of a director.
#[derive(Default)]
pub struct DirectorCounters {
    /// Every packet read from the TUN device.
    pub received: Traffic,
    /// Sent to a real server: encapsulated, or handed to the host's own stack if that is the real server.
    pub transmitted: Count,
    /// Handed to the host's own stack, because they belong to no virtual service.
    pub passed: Count,
    /// Of the transmitted packets, those without an entry.
    pub stateless: Count,
    /// Of the transmitted packets, those without an entry because of `new_connections_per_second_max`.
    pub flood: Count,
    /// Of the transmitted packets, those of checks.
    pub probes: Count,
    /// Packets held now, waiting for another one.
    pub held: Count,
    /// By [`ReplyKind::index`].
    pub replied: Counts<{ ReplyKind::COUNT }>,
    /// By [`DropReason`], in the order of its values.
    pub dropped: Counts<{ DropReason::ALL.len() }>,
    /// Replies that the kernel refused to send; what it refused to send to a real server is counted there.
    pub errors: Errors,
    /// Senders that got an error about the path while their packets were forwarded.
    pub told: Count,
    /// Forwarded packets, by the service's slot.
    pub virtual_services: BySlot,
    /// Forwarded packets, by the real server's slot; bytes without the outer header.
    pub real_servers: BySlot,
}

impl DirectorCounters {
    /// Counts one packet of `bytes` with its fate.
    pub fn count(&self, verdict: &Verdict, bytes: usize) {
        self.received.add(bytes);
        self.count_fate(verdict, bytes);
    }

    /// Counts the late fate of a held packet.
    pub fn count_late(&self, verdict: &Verdict, bytes: usize) {
        self.held.add(u64::MAX);
        self.count_fate(verdict, bytes);
    }

    fn count_fate(&self, verdict: &Verdict, bytes: usize) {
        match verdict {
            Verdict::Transmit(route) if route.found_by == FoundBy::Probe => {
                self.transmitted.add(1);
                self.probes.add(1);
            }
            Verdict::Transmit(route) => {
                self.transmitted.add(1);
                self.stateless.add(u64::from(route.tracking == Tracking::None));
                self.flood.add(u64::from(route.tracking == Tracking::Flood));
                self.virtual_services.slot(route.virtual_service.into()).add(bytes);
                self.real_servers.slot(route.real_server.index()).add(bytes);
            }
            Verdict::Reply(reply) => self.replied[reply.kind.index()].add(1),
            Verdict::Pass => self.passed.add(1),
            Verdict::Hold => self.held.add(1),
            Verdict::Drop(reason) => self.dropped[*reason as usize].add(1),
        }
    }
}

/// Counters of the ICMP errors about a director's outer packets.
#[derive(Default)]
pub struct PathCounters {
    handled: [[Count; Outcome::ALL.len()]; Kind::ALL.len()],
    /// Errors that could not be sent to clients.
    pub errors: Errors,
}

impl PathCounters {
    /// Counts one error by its kind and its outcome, unless a real server's counts include it.
    pub fn count(&self, handled: &Handled) {
        if handled.real_server.is_none() {
            self.handled[handled.kind as usize][handled.outcome as usize].add(1);
        }
    }

    /// Errors since the start of the daemon that are about no real server.
    pub fn read(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.handled[kind as usize][outcome as usize].get()
    }
}

/// The counters of a real server's worker.
#[derive(Default)]
pub struct RealserverCounters {
    /// Encapsulated packets; bytes with the outer header.
    pub received: Traffic,
    /// By the real server's drop reason, in the order of its values.
    pub dropped: Counts<{ RefusalReason::ALL.len() }>,
    /// Packets that the kernel refused to accept from the TUN device.
    pub errors: Errors,
    /// Of the delivered packets, those whose ECN marks RFC 6040 §4.2 calls currently unused.
    pub surprising_ecn: Count,
    /// By the VIP's index in the configuration.
    pub delivered: BySlot,
}

impl RealserverCounters {
    /// Counts one packet: `outer` bytes received, `inner` bytes delivered if it was.
    pub fn count(&self, verdict: &RealserverVerdict, outer: usize, inner: usize) {
        self.received.add(outer);
        match verdict {
            RealserverVerdict::Deliver(delivery) => {
                self.delivered.slot(u32::try_from(delivery.vip).unwrap_or(u32::MAX)).add(inner);
                self.surprising_ecn.add(u64::from(delivery.has_surprising_ecn));
            }
            RealserverVerdict::Drop(reason) => self.dropped[*reason as usize].add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;
    use crate::director::real_server::Slot;
    use crate::director::verdict::Route;
    use crate::realserver::verdict::Delivery;

    #[test]
    fn a_packet_counts_with_its_fate_and_nowhere_else() {
        let counters = DirectorCounters::default();
        let verdict = Verdict::Transmit(Route::of(1, Slot::new(300, 1), [10, 0, 0, 1].into()));
        counters.count(&verdict, 100);
        counters.count(&Verdict::Drop(DropReason::SendError), 60);
        counters.count(&Verdict::Pass, 40);
        counters.errors.add(&io::Error::from_raw_os_error(libc::ENOBUFS));
        let fates = (counters.transmitted.get(), counters.passed.get(), counters.held.get());
        assert_eq!((counters.received.packets.get(), fates), (3, (1, 1, 0)));
        assert_eq!(counters.real_servers.read(300), (1, 100));
        assert_eq!(counters.dropped[DropReason::SendError as usize].get(), 1);
        assert!(counters.errors.read().any(|cause| cause == (Cause::NoBuffer, 1)));
    }

    /// RFC 6040 §4.2, the combinations of figure 4 that are currently unused or dangerous.
    #[test]
    fn surprising_marks_are_counted() {
        let counters = RealserverCounters::default();
        for has_surprising_ecn in [true, false, true] {
            counters.count(&RealserverVerdict::Deliver(Delivery { vip: 0, has_surprising_ecn }), 60, 40);
        }
        assert_eq!((counters.surprising_ecn.get(), counters.delivered.read(0)), (2, (3, 120)));
    }

    #[test]
    fn slots_far_apart_have_counters_of_their_own() {
        let traffic = BySlot::default();
        traffic.slot(5).add(1);
        traffic.slot(70_000).add(2);
        assert_eq!((traffic.read(5), traffic.read(70_000), traffic.read(6)), ((1, 1), (1, 2), (0, 0)));
        assert_eq!(traffic.read(u32::MAX), (0, 0));
        traffic.slot(u32::MAX).add(3);
    }
}
