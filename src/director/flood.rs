//! The flood rule: above a rate of new connections, and when too many entries belong to flows of one packet, new flows
//! get no entry but are still forwarded. Established connections are not affected, and none is evicted.
//!
//! If the scheduler decides by hash alone, it decides again for every packet. Otherwise a small table of
//! fixed size remembers the choice for a few seconds; newer flows overwrite older ones.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::SeedableRandomState;

use super::connection::table::hasher;
use super::real_server::Slot;
use crate::packet::Flow;
use crate::time::Moment;

/// Entries of the short-lived table: 3 MiB per worker, allocated in the first flood. At 100,000 new flows per second
/// a client has more than a second to answer a SYN-ACK.
const ENTRIES: usize = 131_072;

/// Places where a flow may be stored, so that few collide while the table is half empty.
const WAYS: usize = 4;

const SETS: u64 = (ENTRIES / WAYS) as u64;

/// As long as a client may take to answer a SYN and become a normal connection after the flood.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Entry {
    /// The flow's hash: two flows with the same hash share a real server for a few seconds.
    tag: u64,
    deadline: Moment,
    real_server: Slot,
}

/// One worker's count of new connections and its short-lived table.
pub struct Flood {
    hasher: SeedableRandomState,
    /// Start of the second being counted.
    second: Moment,
    /// Flows of that second with their first packet, and with the packet that confirmed them.
    counts: [u32; 2],
    entries: Vec<Entry>,
}

/// The places where a flow may be stored.
fn set_of(tag: u64) -> std::ops::Range<usize> {
    let first = usize::try_from(tag % SETS).unwrap_or_default() * WAYS;
    first..first + WAYS
}

impl Flood {
    /// `seed` keys the hash.
    pub fn new(seed: u64) -> Flood {
        Flood { hasher: hasher(seed), second: Moment::ZERO, counts: [0; 2], entries: Vec::new() }
    }

    /// Counts a packet that would add an entry; true if the rate is above the limit. Flows whose second packet has
    /// come do not compete with those that sent one.
    pub fn is_above(&mut self, max: u32, is_known: bool, now: Moment) -> bool {
        if now.since(self.second) >= SECOND {
            self.second = now;
            self.counts = [0; 2];
        }
        let count = &mut self.counts[usize::from(is_known)];
        *count = count.saturating_add(1);
        *count > max
    }

    /// The real server that a flow got during a flood.
    pub fn recall(&self, flow: &Flow, now: Moment) -> Option<Slot> {
        if self.entries.is_empty() {
            return None;
        }
        let tag = self.hasher.hash_one(flow);
        let entry = self.entries[set_of(tag)].iter().find(|entry| entry.tag == tag)?;
        (entry.deadline > now).then_some(entry.real_server)
    }

    /// Records the real server for a few seconds.
    pub fn remember(&mut self, flow: &Flow, real_server: Slot, now: Moment) {
        if self.entries.is_empty() {
            self.entries =
                vec![Entry { tag: 0, deadline: Moment::ZERO, real_server: Slot::new(0, 0) }; ENTRIES];
        }
        let tag = self.hasher.hash_one(flow);
        let set = &mut self.entries[set_of(tag)];
        // The flow's own place, otherwise the one that expires first.
        let own = set.iter().position(|entry| entry.tag == tag);
        let oldest = || (0..WAYS).min_by_key(|way| set[*way].deadline).unwrap_or(0);
        let way = own.unwrap_or_else(oldest);
        set[way] = Entry { tag, deadline: now.after(LIFETIME), real_server };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client_port: u16) -> Flow {
        let (client, vip) = ("203.0.113.7".parse().unwrap(), "172.25.3.100".parse().unwrap());
        Flow { protocol: 6, client, client_port, vip, vip_port: 80 }
    }

    #[test]
    fn the_count_restarts_every_second() {
        let mut flood = Flood::new(1);
        let above = |flood: &mut Flood, ms| flood.is_above(2, false, Moment::from_millis(ms));
        assert_eq!([0, 1, 2, 999].map(|ms| above(&mut flood, ms)), [false, false, true, true]);
        assert_eq!([1000, 1001, 1500].map(|ms| above(&mut flood, ms)), [false, false, true]);
        assert!((0..1000).all(|_| !flood.is_above(u32::MAX, false, Moment::ZERO)));
    }

    #[test]
    fn confirmed_flows_have_a_limit_of_their_own() {
        let mut flood = Flood::new(1);
        let mut above = |is_known| flood.is_above(1, is_known, Moment::from_secs(1));
        assert_eq!([false, false, true, true, false].map(&mut above), [false, true, false, true, true]);
    }

    #[test]
    fn a_flow_is_remembered_for_a_few_seconds() {
        let mut flood = Flood::new(1);
        assert_eq!(flood.recall(&flow(1), Moment::ZERO), None);
        flood.remember(&flow(1), Slot::new(7, 0), Moment::ZERO);
        assert_eq!(flood.recall(&flow(1), Moment::from_secs(9)), Some(Slot::new(7, 0)));
        assert_eq!(flood.recall(&flow(2), Moment::from_secs(9)), None);
        assert_eq!(flood.recall(&flow(1), Moment::from_secs(10)), None);
    }

    #[test]
    fn a_flow_is_given_no_other_flows_server_and_few_are_forgotten_early() {
        let mut flood = Flood::new(1);
        let flows = 0..u16::try_from(ENTRIES / WAYS - 1).unwrap();
        let (server, at) =
            (|port: u16| Slot::new(port.into(), 1), |port: u16| Moment::from_nanos(port.into()));
        for port in flows.clone() {
            flood.remember(&flow(port), server(port), at(port));
            assert_eq!(flood.recall(&flow(port), at(port)), Some(server(port)));
        }
        let now = at(flows.end);
        let recalled = |port: u16| flood.recall(&flow(port), now);
        assert!(flows.clone().all(|port| recalled(port).is_none_or(|found| found == server(port))));
        let forgotten = flows.clone().filter(|port| recalled(*port).is_none()).count();
        // Where flows are spread evenly 0.4 % find their set full: P(k > 4) for a mean of 1.
        assert!(forgotten < flows.len() / 100, "{forgotten} of a quarter of the table");
        assert!((flows.end..flows.end * 2).all(|port| recalled(port).is_none()), "never remembered");
    }

    #[test]
    fn the_sets_divide_the_table() {
        let sets = (0..ENTRIES / WAYS).map(|tag| set_of(tag as u64));
        assert!(sets.flatten().eq(0..ENTRIES));
        assert_eq!(set_of(u64::MAX), ENTRIES - WAYS..ENTRIES);
    }
}
