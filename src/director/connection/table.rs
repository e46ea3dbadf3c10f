//! The connection table: flow → entry, shared by all workers.
//!
//! Two maps, so that IPv4 does not pay for IPv6 keys. No guard leaves this file: every operation copies what
//! the caller needs. An entry past its deadline counts as absent even before the sweep has removed it.
//!
//! The table decides nothing about real servers, of which it has only the slots. The caller looks at a copy and
//! decides what to do with the entry; the table does so if the entry is still what the caller saw. It reports each
//! [`Change`] to the caller's [`Subscriber`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::key::{FlowKey, Key, KeyV4, KeyV6};
use super::room::Room;
use super::shares::Shares;
use super::{Change, Entry, Event, Found, Inserted, NewConnection, Subscriber, Timeouts};
use crate::director::real_server::{Slot, SlotSet};
use crate::packet::Flow;
use crate::time::Moment;

/// Entries per shard of a full table. No lock may be held longer than 100 µs: visiting so many takes 4 µs,
/// and 60 µs if each of them ends and has a template.
const ENTRIES_PER_SHARD: usize = 256;

/// The entries of one address family.
type Map<K> = DashMap<K, Entry, SeedableRandomState>;

/// All connections of a director.
pub struct Table {
    pub(super) v4: Map<KeyV4>,
    pub(super) v6: Map<KeyV6>,
    entries: AtomicUsize,
    created: AtomicU64,
    removed: AtomicU64,
    connections_max: usize,
    room: Room,
    shares: Shares,
}

impl Table {
    /// An empty table for at most `connections_max` entries. `seed` keys the hash, which clients must not be
    /// able to predict.
    pub fn new(connections_max: usize, seed: u64) -> Table {
        let shards = shards(connections_max);
        let hasher = hasher(seed);
        Table {
            v4: DashMap::with_hasher_and_shard_amount(hasher.clone(), shards),
            v6: DashMap::with_hasher_and_shard_amount(hasher.clone(), shards),
            entries: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            connections_max,
            room: Room::new(connections_max),
            shares: Shares::new(connections_max, hasher),
        }
    }

    /// The same with a limit to one client's entries.
    pub fn with_connections_per_client_max(mut self, max: u32) -> Table {
        self.shares.limit(max);
        self
    }

    /// The number of entries, including expired ones that the sweep has not removed yet.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether no entry is left, not even an expired one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next new connection gets no entry.
    pub fn is_full(&self) -> bool {
        self.len() >= self.connections_max
    }

    /// Whether this flow gets an entry, or a note until there is room. `is_known` if it has a note that this packet
    /// confirms; a first packet for a full table is refused when it is added.
    pub fn has_room(&self, flow: &Flow, is_known: bool) -> bool {
        let entries = self.len();
        let is_full = is_known && entries >= self.connections_max;
        !is_full && self.room.has(flow.protocol, is_known, entries)
    }

    /// The number of entries that no second packet has confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.room.unconfirmed()
    }

    /// The number of entries removed so far.
    pub fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// The number of entries added so far.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// The limit to [`Table::len`], as configured.
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Looks up the entry of a packet other than a SYN. If its real server is one of `serving`, there is nothing to
    /// decide, and the packet is applied at once; otherwise the caller gets a copy.
    pub fn find(
        &self,
        flow: &Flow,
        event: Event,
        serving: &SlotSet,
        timeouts: &Timeouts,
        now: Moment,
        changes: &impl Subscriber,
    ) -> Found {
        let may_keep = |entry: &Entry| !entry.is_expired(now) && serving.contains(entry.real_server);
        let after = |entry: &Entry| entry.after(event, timeouts, now);
        match Key::of(flow) {
            Key::V4(key) => self.find_in(&self.v4, &key, may_keep, after, changes),
            Key::V6(key) => self.find_in(&self.v6, &key, may_keep, after, changes),
        }
    }

    /// A copy of the flow's entry, even if it has expired.
    pub fn get(&self, flow: &Flow) -> Option<Entry> {
        match Key::of(flow) {
            Key::V4(key) => self.v4.get(&key).map(|entry| *entry),
            Key::V6(key) => self.v6.get(&key).map(|entry| *entry),
        }
    }

    /// The real server of a connection.
    pub fn peek(&self, flow: &Flow, now: Moment) -> Option<Slot> {
        let entry = self.get(flow).filter(|entry| !entry.is_expired(now))?;
        Some(entry.real_server)
    }

    /// Applies a packet to the entry that `seen` was copied from; returns false, and does nothing, if the flow
    /// belongs to no real server any more, or to another one.
    pub fn keep(
        &self,
        flow: &Flow,
        seen: &Entry,
        event: Event,
        timeouts: &Timeouts,
        now: Moment,
        changes: &impl Subscriber,
    ) -> bool {
        let may_keep = |entry: &Entry| entry.real_server == seen.real_server;
        let after = |entry: &Entry| entry.after(event, timeouts, now);
        let found = match Key::of(flow) {
            Key::V4(key) => self.find_in(&self.v4, &key, may_keep, after, changes),
            Key::V6(key) => self.find_in(&self.v6, &key, may_keep, after, changes),
        };
        matches!(found, Found::Kept(_))
    }

    /// Removes the entry that `seen` was copied from; returns false, and does nothing, if it has changed since.
    pub fn remove(&self, flow: &Flow, seen: &Entry, now: Moment, changes: &impl Subscriber) -> bool {
        match Key::of(flow) {
            Key::V4(key) => self.remove_in(&self.v4, key, seen, now, changes),
            Key::V6(key) => self.remove_in(&self.v6, key, seen, now, changes),
        }
    }

    fn remove_in<K: FlowKey>(
        &self,
        map: &Map<K>,
        key: K,
        seen: &Entry,
        now: Moment,
        changes: &impl Subscriber,
    ) -> bool {
        let is_same = |key: &K, entry: &Entry| {
            let is_same = entry == seen;
            if is_same {
                self.report_removal(key, entry, now, changes);
            }
            is_same
        };
        map.remove_if(&key, is_same).is_some()
    }

    fn find_in<K: FlowKey>(
        &self,
        map: &Map<K>,
        key: &K,
        may_keep: impl Fn(&Entry) -> bool,
        after: impl Fn(&Entry) -> Entry,
        changes: &impl Subscriber,
    ) -> Found {
        let Some(mut entry) = map.get_mut(key) else { return Found::Unknown };
        if !may_keep(&entry) {
            return Found::Seen(*entry);
        }
        let from = entry.state;
        *entry = after(&entry);
        if entry.state != from {
            self.room.change(from, entry.state);
            changes.on_change(&Change::Moved { flow: key.flow(), from, entry: *entry });
        }
        Found::Kept(entry.real_server)
    }

    /// Adds a connection, unless the flow has one or there are too many, in total or of its client.
    pub fn insert(
        &self,
        flow: &Flow,
        new: NewConnection,
        timeouts: &Timeouts,
        now: Moment,
        changes: &impl Subscriber,
    ) -> Inserted {
        let entry = Entry::begin(&new, flow.protocol, timeouts, now);
        match Key::of(flow) {
            Key::V4(key) => self.insert_in(&self.v4, key, entry, now, changes),
            Key::V6(key) => self.insert_in(&self.v6, key, entry, now, changes),
        }
    }

    fn insert_in<K: FlowKey>(
        &self,
        map: &Map<K>,
        key: K,
        entry: Entry,
        now: Moment,
        changes: &impl Subscriber,
    ) -> Inserted {
        // Reserved before the lock and released on failure, so that all workers together stay below the
        // limit.
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        if entries >= self.connections_max {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            return Inserted::Full;
        }
        let flow = key.flow();
        if !self.shares.claim(flow.client, entries) {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            return Inserted::Full;
        }
        match map.entry(key) {
            Place::Occupied(place) => {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                self.shares.release(flow.client);
                Inserted::Existing(*place.get())
            }
            Place::Vacant(place) => {
                let entry = self.room.add(entry, now);
                changes.on_change(&Change::Added { flow, entry });
                place.insert(entry);
                self.created.fetch_add(1, Ordering::Relaxed);
                Inserted::New(entry)
            }
        }
    }

    /// Removes every entry past its deadline, and those whose real server is `given_up`, shard by shard; no lock
    /// is held longer than one shard takes.
    pub fn sweep(&self, given_up: &SlotSet, now: Moment, changes: &impl Subscriber) {
        self.sweep_in(&self.v4, given_up, now, changes);
        self.sweep_in(&self.v6, given_up, now, changes);
    }

    fn sweep_in<K: FlowKey>(&self, map: &Map<K>, given_up: &SlotSet, now: Moment, changes: &impl Subscriber) {
        map.retain(|key, entry| {
            let is_kept = !entry.is_expired(now) && !given_up.contains(entry.real_server);
            if !is_kept {
                self.report_removal(key, entry, now, changes);
            }
            is_kept
        });
    }

    fn report_removal<K: FlowKey>(&self, key: &K, entry: &Entry, now: Moment, changes: &impl Subscriber) {
        let (flow, ended) = (key.flow(), entry.deadline.min(now));
        self.removed.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.shares.release(flow.client);
        self.room.remove(entry);
        changes.on_change(&Change::Removed { flow, entry: *entry, ended });
    }
}

/// The number of shards of a swept table for at most `entries_max` entries.
pub(in crate::director) fn shards(entries_max: usize) -> usize {
    (entries_max / ENTRIES_PER_SHARD).next_power_of_two().clamp(16, 65_536)
}

/// A keyed hash for tables that clients can fill.
pub(in crate::director) fn hasher(seed: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(seed, shared_seed(seed))
}

fn shared_seed(seed: u64) -> &'static SharedSeed {
    // foldhash borrows its shared seed for the static lifetime; it is leaked once per process.
    static SHARED: std::sync::OnceLock<SharedSeed> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| SharedSeed::from_u64(seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests;
