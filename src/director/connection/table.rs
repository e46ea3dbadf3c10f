//! The connection table: flow → entry, shared by all workers.
//!
//! Two maps, so that IPv4 does not pay for IPv6 keys. No guard leaves this file: every operation
//! copies out what the caller needs. An entry past its deadline is treated as absent even before the
//! sweep has come by.
//!
//! The table does not know real servers; it names them by slot and reports each [`Change`] so that the
//! caller keeps their counts.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::{Event, State, Timeouts};
use crate::packet::{Flow, protocol};
use crate::time::Moment;

/// Entries a shard should hold when the table is full: sweeping one takes about 15 µs (crates.md §3),
/// and no lock may be held longer than 100 µs.
const ENTRIES_PER_SHARD: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct KeyV4 {
    client: Ipv4Addr,
    vip: Ipv4Addr,
    client_port: u16,
    vip_port: u16,
    protocol: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct KeyV6 {
    client: Ipv6Addr,
    vip: Ipv6Addr,
    client_port: u16,
    vip_port: u16,
    protocol: u8,
}

enum Key {
    V4(KeyV4),
    V6(KeyV6),
}

impl Key {
    fn of(flow: &Flow) -> Key {
        let Flow { protocol, client_port, vip_port, .. } = *flow;
        match (flow.client, flow.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Key::V4(KeyV4 { client, vip, client_port, vip_port, protocol })
            }
            (client, vip) => {
                Key::V6(KeyV6 { client: v6(client), vip: v6(vip), client_port, vip_port, protocol })
            }
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Moment,
    real_server: u32,
    state: State,
}

impl Entry {
    fn is_expired(&self, now: Moment) -> bool {
        self.deadline <= now
    }

    fn activity(&self) -> Activity {
        Activity::of(self.state)
    }
}

/// In which of a real server's two counts a connection stands (ipvs.md §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Active,
    Inactive,
}

impl Activity {
    pub const fn of(state: State) -> Activity {
        if state.is_active() { Activity::Active } else { Activity::Inactive }
    }
}

/// What happened to one real server's counts; the caller books it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Moved { real_server: u32, to: Activity },
    Removed { real_server: u32, from: Activity },
}

/// What a lookup found, and what it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Slot of the connection's real server; `None` if there is no live entry.
    pub real_server: Option<u32>,
    pub change: Option<Change>,
}

/// What became of a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New {
        activity: Activity,
    },
    /// Another worker was faster; its choice stands.
    Existing {
        real_server: u32,
    },
    Full,
}

/// All connections of a director.
pub struct Table {
    v4: DashMap<KeyV4, Entry, SeedableRandomState>,
    v6: DashMap<KeyV6, Entry, SeedableRandomState>,
    entries: AtomicUsize,
    created: AtomicU64,
    removed: AtomicU64,
    connections_max: usize,
}

impl Table {
    /// An empty table for at most `connections_max` entries. `seed` keys the hash: clients must not be
    /// able to guess it.
    pub fn new(connections_max: usize, seed: u64) -> Table {
        let shards = (connections_max / ENTRIES_PER_SHARD).next_power_of_two().clamp(16, 16_384);
        let hasher = SeedableRandomState::with_seed(seed, shared_seed(seed));
        Table {
            v4: DashMap::with_hasher_and_shard_amount(hasher.clone(), shards),
            v6: DashMap::with_hasher_and_shard_amount(hasher, shards),
            entries: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            connections_max,
        }
    }

    /// Entries, including those past their deadline that the sweep has not met yet.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries ever removed.
    pub fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Entries ever made.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Looks a packet's connection up, applies `event` to its state and restarts its timer.
    ///
    /// An entry that has expired, that a SYN finds closing, or whose real server `is_usable` refuses is
    /// removed and reported, so that the packet is scheduled anew at once.
    pub fn find(
        &self,
        flow: &Flow,
        event: Event,
        timeouts: &Timeouts,
        is_usable: impl Fn(u32) -> bool,
        now: Moment,
    ) -> Found {
        match Key::of(flow) {
            Key::V4(key) => self.find_in(&self.v4, &key, event, timeouts, is_usable, now),
            Key::V6(key) => self.find_in(&self.v6, &key, event, timeouts, is_usable, now),
        }
    }

    fn find_in<K: Eq + Hash>(
        &self,
        map: &DashMap<K, Entry, SeedableRandomState>,
        key: &K,
        event: Event,
        timeouts: &Timeouts,
        is_usable: impl Fn(u32) -> bool,
        now: Moment,
    ) -> Found {
        let is_over = |entry: &Entry| {
            entry.is_expired(now)
                || event == Event::Syn && entry.state.is_closing()
                || !is_usable(entry.real_server)
        };
        match map.get_mut(key) {
            None => return Found { real_server: None, change: None },
            Some(mut entry) if !is_over(&entry) => {
                let change = advance(&mut entry, event, timeouts, now);
                return Found { real_server: Some(entry.real_server), change };
            }
            Some(_) => {}
        }
        let removed = map.remove_if(key, |_, entry| is_over(entry));
        let change = removed.map(|(_, entry)| self.book_removal(&entry));
        Found { real_server: None, change }
    }

    /// The real server of a connection, without touching its state or timer.
    pub fn peek(&self, flow: &Flow, now: Moment) -> Option<u32> {
        let entry = match Key::of(flow) {
            Key::V4(key) => self.v4.get(&key).map(|entry| *entry),
            Key::V6(key) => self.v6.get(&key).map(|entry| *entry),
        };
        entry.filter(|entry| !entry.is_expired(now)).map(|entry| entry.real_server)
    }

    /// Remembers that `flow` goes to `real_server`; its first packet was `event`.
    pub fn insert(
        &self,
        flow: &Flow,
        real_server: u32,
        event: Event,
        timeouts: &Timeouts,
        now: Moment,
    ) -> Inserted {
        let born = if flow.protocol == protocol::UDP { State::Udp } else { State::None };
        let mut entry = Entry { deadline: now, real_server, state: born };
        advance(&mut entry, event, timeouts, now);
        match Key::of(flow) {
            Key::V4(key) => self.insert_in(&self.v4, key, entry),
            Key::V6(key) => self.insert_in(&self.v6, key, entry),
        }
    }

    fn insert_in<K: Eq + Hash>(
        &self,
        map: &DashMap<K, Entry, SeedableRandomState>,
        key: K,
        entry: Entry,
    ) -> Inserted {
        // Claimed before the lock and given back on failure, so that workers together stay below the limit.
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            return Inserted::Full;
        }
        match map.entry(key) {
            Slot::Occupied(slot) => {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                Inserted::Existing { real_server: slot.get().real_server }
            }
            Slot::Vacant(slot) => {
                let activity = entry.activity();
                slot.insert(entry);
                self.created.fetch_add(1, Ordering::Relaxed);
                Inserted::New { activity }
            }
        }
    }

    /// Removes every entry past its deadline, shard by shard; no lock is held longer than one shard takes.
    pub fn sweep(&self, now: Moment, mut on_change: impl FnMut(Change)) {
        self.v4.retain(|_, entry| self.keep(entry, now, &mut on_change));
        self.v6.retain(|_, entry| self.keep(entry, now, &mut on_change));
    }

    fn keep(&self, entry: &Entry, now: Moment, on_change: &mut impl FnMut(Change)) -> bool {
        let is_kept = !entry.is_expired(now);
        if !is_kept {
            on_change(self.book_removal(entry));
        }
        is_kept
    }

    fn book_removal(&self, entry: &Entry) -> Change {
        self.removed.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        Change::Removed { real_server: entry.real_server, from: entry.activity() }
    }
}

/// Applies `event` and restarts the timer; says whether the entry moved between the two counts.
fn advance(entry: &mut Entry, event: Event, timeouts: &Timeouts, now: Moment) -> Option<Change> {
    let before = entry.activity();
    entry.state = entry.state.next(event);
    entry.deadline = now.after(timeouts.of(entry.state));
    let to = entry.activity();
    (before != to).then_some(Change::Moved { real_server: entry.real_server, to })
}

fn shared_seed(seed: u64) -> &'static SharedSeed {
    // foldhash borrows its shared seed for ever; it is leaked once per process.
    static SHARED: std::sync::OnceLock<SharedSeed> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| SharedSeed::from_u64(seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15))
}

/// Bytes of one IPv4 entry with its key, before the map's overhead; a test holds it down.
#[cfg(test)]
const ENTRY_V4_BYTES: usize = size_of::<(KeyV4, Entry)>();

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;
    use std::time::Duration;

    use super::*;

    fn flow(port: u16) -> Flow {
        Flow {
            protocol: 6,
            client: "203.0.113.7".parse().unwrap(),
            client_port: port,
            vip: "172.25.3.100".parse().unwrap(),
            vip_port: 80,
        }
    }

    fn find(table: &Table, event: Event, now: Moment) -> Found {
        table.find(&flow(1), event, &Timeouts::default(), |_| true, now)
    }

    fn insert(table: &Table, port: u16, now: Moment) -> Inserted {
        table.insert(&flow(port), 3, Event::Syn, &Timeouts::default(), now)
    }

    #[test]
    fn an_entry_is_small() {
        // 112 bytes per connection at the map's mean load of 0.48 (crates.md §3) leave 53 for the pair.
        const { assert!(ENTRY_V4_BYTES <= 48) };
    }

    #[test]
    fn an_entry_lives_as_long_as_its_state_says() {
        let table = Table::new(100, 1);
        assert_eq!(insert(&table, 1, Moment::ZERO), Inserted::New { activity: Activity::Active });
        let last = Moment::from_nanos(Moment::from_secs(60).as_nanos() - 1);
        assert_eq!(table.peek(&flow(1), last), Some(3));
        assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None);
        assert_eq!(find(&table, Event::Ack, last).real_server, Some(3));
        let later = last.after(Duration::from_secs(899));
        assert_eq!(
            find(&table, Event::Fin, later).change,
            Some(Change::Moved { real_server: 3, to: Activity::Inactive })
        );
        assert_eq!(table.len(), 1);
        let gone = find(&table, Event::Ack, later.after(Duration::from_secs(120)));
        assert_eq!(gone.real_server, None);
        assert_eq!(gone.change, Some(Change::Removed { real_server: 3, from: Activity::Inactive }));
        assert!(table.is_empty());
    }

    #[test]
    fn a_syn_on_a_closing_connection_is_a_new_connection() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        find(&table, Event::Ack, Moment::ZERO);
        assert_eq!(find(&table, Event::Syn, Moment::ZERO).real_server, Some(3));
        find(&table, Event::Fin, Moment::ZERO);
        assert_eq!(find(&table, Event::Ack, Moment::ZERO).real_server, Some(3));
        assert_eq!(find(&table, Event::Syn, Moment::ZERO).real_server, None);
    }

    #[test]
    fn a_connection_whose_server_is_gone_is_given_up() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        let found = table.find(&flow(1), Event::Ack, &Timeouts::default(), |slot| slot != 3, Moment::ZERO);
        assert_eq!(found.change, Some(Change::Removed { real_server: 3, from: Activity::Active }));
    }

    #[test]
    fn nothing_goes_above_the_limit_and_the_first_choice_stands() {
        let table = Table::new(2, 1);
        insert(&table, 1, Moment::ZERO);
        assert_eq!(
            table.insert(&flow(1), 9, Event::Syn, &Timeouts::default(), Moment::ZERO),
            Inserted::Existing { real_server: 3 }
        );
        insert(&table, 2, Moment::ZERO);
        assert_eq!(insert(&table, 3, Moment::ZERO), Inserted::Full);
        let mut removed = 0;
        table.sweep(Moment::from_secs(60), |_| removed += 1);
        assert_eq!((removed, table.len()), (2, 0));
    }

    #[test]
    fn udp_stays_inactive_and_lives_300_seconds() {
        let table = Table::new(10, 1);
        let udp = Flow { protocol: 17, ..flow(1) };
        let inserted = table.insert(&udp, 0, Event::Datagram, &Timeouts::default(), Moment::ZERO);
        assert_eq!(inserted, Inserted::New { activity: Activity::Inactive });
        assert_eq!(table.peek(&udp, Moment::from_secs(299)), Some(0));
        assert_eq!(table.peek(&udp, Moment::from_secs(300)), None);
    }

    #[test]
    fn the_hasher_uses_its_seed() {
        let hash = |seed| SeedableRandomState::with_seed(seed, shared_seed(seed)).hash_one(7u64);
        assert_ne!(hash(1), hash(2));
    }
}
