//! Fragments: the first one, which has the ports, decides; later ones follow it (decisions.md C9). Nothing is
//! reassembled. Later ones that arrive early wait a moment for the first.
//!
//! Each worker has its own: the kernel gives all fragments of a packet to one queue, for it hashes
//! fragments by addresses and protocol alone.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::quality::SeedableRandomState;

use super::cluster::Slot;
use super::connection::table::hasher;
use crate::packet::fragment::FragmentKey;
use crate::time::Moment;

/// How long a first fragment is remembered: Linux's own reassembly time (net.ipv4.ipfrag_time).
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How long a later fragment waits for its first: reordering, not loss.
const HELD_FOR: Duration = Duration::from_secs(1);
/// First fragments remembered at once, per worker.
const KNOWN_MAX: usize = 8192;
/// Fragments that wait at once, per worker, of one source, and their bytes together.
const HELD_MAX: usize = 256;
const HELD_PER_SOURCE_MAX: usize = 45;
const HELD_BYTES_MAX: usize = 512 * 1024;

/// One worker's memory of fragments.
pub struct Fragments {
    known: HashMap<FragmentKey, (Slot, Moment), SeedableRandomState>,
    /// Keys by age; each lives equally long.
    known_by_age: VecDeque<(FragmentKey, Moment)>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

struct Held {
    key: FragmentKey,
    packet: Vec<u8>,
    deadline: Moment,
}

impl Fragments {
    /// `seed` keys the hash.
    pub fn new(seed: u64) -> Fragments {
        Fragments {
            known: HashMap::with_hasher(hasher(seed)),
            known_by_age: VecDeque::new(),
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Fragments that wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The real server of a packet's first fragment.
    pub fn find(&self, key: &FragmentKey, now: Moment) -> Option<Slot> {
        self.known.get(key).filter(|(_, deadline)| *deadline > now).map(|(slot, _)| *slot)
    }

    /// A first fragment went to `real_server`; gives back the later ones that waited for it, in the order
    /// of their arrival.
    pub fn learn(&mut self, key: FragmentKey, real_server: Slot, now: Moment) -> Vec<Vec<u8>> {
        self.forget(now);
        let deadline = now.after(KNOWN_FOR);
        if self.known.insert(key, (real_server, deadline)).is_none() {
            self.known_by_age.push_back((key, deadline));
        }
        let (released, held) =
            std::mem::take(&mut self.held).into_iter().partition(|held: &Held| held.key == key);
        self.held = held;
        let released: Vec<Vec<u8>> = Vec::from(released).into_iter().map(|held: Held| held.packet).collect();
        self.held_bytes -= released.iter().map(Vec::len).sum::<usize>();
        released
    }

    /// Lets a later fragment wait for its first; false if there is no room for it.
    pub fn hold(&mut self, key: FragmentKey, packet: &[u8], now: Moment) -> bool {
        let of_source = self.held.iter().filter(|held| held.key.source == key.source).count();
        let has_room = self.held.len() < HELD_MAX
            && of_source < HELD_PER_SOURCE_MAX
            && self.held_bytes + packet.len() <= HELD_BYTES_MAX;
        if has_room {
            self.held_bytes += packet.len();
            self.held.push_back(Held { key, packet: packet.to_vec(), deadline: now.after(HELD_FOR) });
        }
        has_room
    }

    /// Gives up a fragment that has waited long enough.
    pub fn poll_expired(&mut self, now: Moment) -> Option<Vec<u8>> {
        let is_over = self.held.front().is_some_and(|held| held.deadline <= now);
        let held = self.held.pop_front_if(|_| is_over)?;
        self.held_bytes -= held.packet.len();
        Some(held.packet)
    }

    /// Drops first fragments that are over, and the oldest if there are too many.
    fn forget(&mut self, now: Moment) {
        while let Some((key, deadline)) = self.known_by_age.front().copied() {
            if deadline > now && self.known.len() < KNOWN_MAX {
                break;
            }
            self.known_by_age.pop_front();
            // One whose identification came again lives on to its own deadline.
            let renewed =
                self.known.get(&key).map(|(_, renewed)| *renewed).filter(|renewed| *renewed > deadline);
            match renewed.filter(|_| self.known.len() < KNOWN_MAX) {
                Some(renewed) => self.known_by_age.push_back((key, renewed)),
                None => drop(self.known.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: u8, identification: u16) -> FragmentKey {
        FragmentKey { source: [10, 0, 0, source], destination: [10, 0, 1, 1], protocol: 17, identification }
    }

    const SERVER: Slot = Slot::new(3, 1);

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
        assert_eq!(fragments.learn(key(1, 1), SERVER, Moment::ZERO), [vec![1], vec![3]]);
        assert_eq!((fragments.held(), fragments.poll_expired(Moment::from_millis(999))), (1, None));
        assert_eq!(fragments.poll_expired(Moment::from_secs(1)), Some(vec![2]));
        assert_eq!((fragments.held(), fragments.held_bytes), (0, 0));
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
        for id in 0..u16::MAX {
            fragments.learn(key(1, id), SERVER, Moment::ZERO);
        }
        assert!(fragments.known.len() <= KNOWN_MAX && fragments.known_by_age.len() <= KNOWN_MAX);
        assert_eq!(fragments.find(&key(1, u16::MAX - 1), Moment::ZERO), Some(SERVER), "the newest is known");
    }

    #[test]
    fn an_identification_that_comes_again_lives_on() {
        let mut fragments = Fragments::new(1);
        fragments.learn(key(1, 1), SERVER, Moment::ZERO);
        fragments.learn(key(1, 1), Slot::new(4, 1), Moment::from_secs(20));
        fragments.learn(key(1, 2), SERVER, Moment::from_secs(40));
        assert_eq!(fragments.find(&key(1, 1), Moment::from_secs(49)), Some(Slot::new(4, 1)));
        fragments.learn(key(1, 3), SERVER, Moment::from_secs(60));
        assert!(!fragments.known.contains_key(&key(1, 1)));
    }
}
