//! Fragments: the first one, which has the ports, decides, and later ones follow it. Nothing is reassembled.
//! A later fragment that arrives early waits briefly for the first.
//!
//! Each worker has its own: the kernel delivers all fragments of a packet to one queue, because it hashes
//! fragments by addresses and protocol only.
//!
//! Known fragments are kept in parts, and a source always uses the same part: a source that sends a million
//! first fragments evicts its own and those of a few others, but not everyone's.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::SeedableRandomState;

use super::connection::table::hasher;
use super::real_server::Slot;
use crate::packet::ip::FragmentKey;
use crate::time::Moment;

/// How long a first fragment is remembered: Linux's reassembly time (net.ipv4.ipfrag_time).
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How long a later fragment waits for its first: enough for reordering, not for loss.
const HELD_FOR: Duration = Duration::from_secs(1);
/// Maximum number of first fragments, per worker and part: the other fragments of a packet follow within
/// milliseconds.
const KNOWN_PER_PART_MAX: usize = 512;
const PARTS: usize = 64;
/// Maximum number of waiting fragments, per worker and of one source, and of their bytes.
const HELD_MAX: usize = 256;
const HELD_PER_SOURCE_MAX: usize = 45;
const HELD_BYTES_MAX: usize = 512 * 1024;

/// What later fragments do, as decided by the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentFate {
    /// Go to this real server.
    RealServer(Slot),
    /// Are fragments of an echo request, each of which is answered.
    Echo,
    /// Are the host's, like the first one.
    Host,
}

/// One worker's record of fragments.
pub struct Fragments {
    hasher: SeedableRandomState,
    known: Box<[Known]>,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// How many have been held so far.
    held_total: u64,
}

/// First fragments from the sources of one part.
struct Known {
    follow: HashMap<FragmentKey, (FragmentFate, Moment), SeedableRandomState>,
    /// Keys by age; all have the same lifetime.
    by_age: VecDeque<(FragmentKey, Moment)>,
}

struct Held {
    key: FragmentKey,
    waiting: Waiting,
    deadline: Moment,
}

/// A later fragment that waits, or has waited, for its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place among all that this worker has held, from 0.
    pub number: u64,
    /// As captured.
    pub packet: Vec<u8>,
}

impl Fragments {
    /// `seed` keys the hashes.
    pub fn new(seed: u64) -> Fragments {
        let part = |_| Known { follow: HashMap::with_hasher(hasher(seed)), by_age: VecDeque::new() };
        Fragments {
            hasher: hasher(seed),
            known: (0..PARTS).map(part).collect(),
            held: VecDeque::new(),
            held_bytes: 0,
            held_total: 0,
        }
    }

    /// The number of waiting fragments.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What the packet's first fragment has decided.
    pub fn find(&self, key: &FragmentKey, now: Moment) -> Option<FragmentFate> {
        let found = self.known[self.part(key)].follow.get(key);
        found.filter(|(_, deadline)| *deadline > now).map(|(follow, _)| *follow)
    }

    /// Records the decision of a first fragment; returns the later ones that waited for it, in the order of
    /// arrival.
    pub fn learn(&mut self, key: FragmentKey, follow: FragmentFate, now: Moment) -> Vec<Waiting> {
        let part = self.part(&key);
        self.known[part].learn(key, follow, now);
        let (released, held) =
            std::mem::take(&mut self.held).into_iter().partition(|held: &Held| held.key == key);
        self.held = held;
        let released: Vec<Waiting> = Vec::from(released).into_iter().map(|held: Held| held.waiting).collect();
        self.held_bytes -= released.iter().map(|waiting| waiting.packet.len()).sum::<usize>();
        released
    }

    fn part(&self, key: &FragmentKey) -> usize {
        usize::try_from(self.hasher.hash_one(key.source) % PARTS as u64).unwrap_or_default()
    }

    /// Holds a later fragment until its first arrives; false if there is no room for it.
    pub fn hold(&mut self, key: FragmentKey, packet: &[u8], now: Moment) -> bool {
        let of_source = self.held.iter().filter(|held| held.key.source == key.source).count();
        let has_room = self.held.len() < HELD_MAX
            && of_source < HELD_PER_SOURCE_MAX
            && self.held_bytes + packet.len() <= HELD_BYTES_MAX;
        if has_room {
            self.held_bytes += packet.len();
            let waiting = Waiting { number: self.held_total, packet: packet.to_vec() };
            self.held_total += 1;
            self.held.push_back(Held { key, waiting, deadline: now.after(HELD_FOR) });
        }
        has_room
    }

    /// A fragment that has waited too long and is no longer held.
    pub fn poll_expired(&mut self, now: Moment) -> Option<Waiting> {
        let is_over = self.held.front().is_some_and(|held| held.deadline <= now);
        let held = self.held.pop_front_if(|_| is_over)?;
        self.held_bytes -= held.waiting.packet.len();
        Some(held.waiting)
    }
}

impl Known {
    fn learn(&mut self, key: FragmentKey, follow: FragmentFate, now: Moment) {
        self.forget(now);
        let deadline = now.after(KNOWN_FOR);
        if self.follow.insert(key, (follow, deadline)).is_none() {
            self.by_age.push_back((key, deadline));
        }
    }

    /// Removes expired first fragments, and the oldest if there are too many.
    fn forget(&mut self, now: Moment) {
        let is_full = |known: &Known| known.follow.len() >= KNOWN_PER_PART_MAX;
        while let Some((key, deadline)) = self.by_age.front().copied() {
            if deadline > now && !is_full(self) {
                break;
            }
            self.by_age.pop_front();
            // If its identification was reused, the newer one keeps its own deadline.
            let renewed =
                self.follow.get(&key).map(|(_, renewed)| *renewed).filter(|renewed| *renewed > deadline);
            match renewed.filter(|_| !is_full(self)) {
                Some(renewed) => self.by_age.push_back((key, renewed)),
                None => drop(self.follow.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ip::FragmentId;

    fn key(source: u8, identification: u16) -> FragmentKey {
        FragmentKey {
            source: [10, 0, 0, source].into(),
            destination: [10, 0, 1, 1].into(),
            id: FragmentId { protocol: Some(17), identification: identification.into() },
        }
    }

    const SERVER: FragmentFate = FragmentFate::RealServer(Slot::new(3, 1));

    #[test]
    fn later_ones_follow_the_first_for_a_while() {
        let mut fragments = Fragments::new(1);
        assert_eq!(fragments.find(&key(1, 1), Moment::ZERO), None);
        fragments.learn(key(1, 1), SERVER, Moment::ZERO);
        assert_eq!(fragments.find(&key(1, 1), Moment::from_secs(29)), Some(SERVER));
        assert_eq!(fragments.find(&key(1, 2), Moment::ZERO), None);
        assert_eq!(fragments.find(&key(1, 1), Moment::from_secs(30)), None);
    }

    #[test]
    fn early_ones_are_released_in_order_or_given_up() {
        let mut fragments = Fragments::new(1);
        for (id, byte) in [(1, 1), (2, 2), (1, 3)] {
            assert!(fragments.hold(key(1, id), &[byte], Moment::ZERO));
        }
        let waiting = |number, packet| Waiting { number, packet };
        let released = fragments.learn(key(1, 1), SERVER, Moment::ZERO);
        assert_eq!(released, [waiting(0, vec![1]), waiting(2, vec![3])]);
        assert_eq!((fragments.held(), fragments.poll_expired(Moment::from_millis(999))), (1, None));
        assert_eq!(fragments.poll_expired(Moment::from_secs(1)), Some(waiting(1, vec![2])));
        assert_eq!((fragments.held(), fragments.held_bytes), (0, 0));
        assert!(fragments.hold(key(1, 3), &[4], Moment::from_secs(1)));
        assert_eq!(fragments.poll_expired(Moment::from_secs(2)), Some(waiting(3, vec![4])));
    }

    #[test]
    fn number_bytes_and_sources_are_bounded() {
        let mut fragments = Fragments::new(1);
        let held = (0..100).filter(|id| fragments.hold(key(1, *id), &[0], Moment::ZERO)).count();
        assert_eq!(held, HELD_PER_SOURCE_MAX);
        let others = (2..=255).filter(|source| fragments.hold(key(*source, 1), &[0], Moment::ZERO)).count();
        assert_eq!(held + others, HELD_MAX);
        let mut fragments = Fragments::new(1);
        let big = vec![0; 60_000];
        assert_eq!((0..30).filter(|source| fragments.hold(key(*source, 1), &big, Moment::ZERO)).count(), 8);
    }

    /// An attack: a million first fragments, each with its own identification.
    #[test]
    fn one_source_with_many_first_fragments_pushes_out_its_own() {
        let mut fragments = Fragments::new(1);
        let others: Vec<FragmentKey> = (2..=101).map(|source| key(source, 7)).collect();
        for other in &others {
            fragments.learn(*other, FragmentFate::Echo, Moment::ZERO);
        }
        for round in 0..1_000_000u32 {
            fragments.learn(key(1, (round & 0xffff) as u16), SERVER, Moment::ZERO);
        }
        let known: usize = fragments.known.iter().map(|known| known.follow.len()).sum();
        let by_age: usize = fragments.known.iter().map(|known| known.by_age.len()).sum();
        assert_eq!(known, by_age);
        assert!(known <= KNOWN_PER_PART_MAX + others.len(), "{known}");
        assert_eq!(
            fragments.find(&key(1, (999_999u32 & 0xffff) as u16), Moment::ZERO),
            Some(SERVER),
            "the newest is known"
        );
        let left = others.iter().filter(|other| fragments.find(other, Moment::ZERO).is_some()).count();
        assert!(left >= 90, "{left} of 100 other sources are still known");
    }

    #[test]
    fn an_identification_that_comes_again_lives_on() {
        let mut fragments = Fragments::new(1);
        fragments.learn(key(1, 1), SERVER, Moment::ZERO);
        fragments.learn(key(1, 1), FragmentFate::RealServer(Slot::new(4, 1)), Moment::from_secs(20));
        fragments.learn(key(1, 2), SERVER, Moment::from_secs(40));
        assert_eq!(
            fragments.find(&key(1, 1), Moment::from_secs(49)),
            Some(FragmentFate::RealServer(Slot::new(4, 1)))
        );
        fragments.learn(key(1, 3), SERVER, Moment::from_secs(60));
        assert_eq!(fragments.find(&key(1, 1), Moment::from_secs(60)), None);
        let part = &fragments.known[fragments.part(&key(1, 1))];
        assert!(!part.follow.contains_key(&key(1, 1)));
    }
}
