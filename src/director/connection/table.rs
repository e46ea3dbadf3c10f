//! The connection table: flow → entry, shared by all workers.
//!
//! Two maps, so that IPv4 does not pay for IPv6 keys. No guard leaves this file: every operation copies what
//! the caller needs. An entry past its deadline counts as absent even before the sweep has removed it.
//!
//! The table does not know real servers: it names them by slot and reports each [`Change`], so that the
//! caller can keep their counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::entry::{Answer, Change, Claim, Entry, Found, Inserted, NewConnection, advance};
use super::key::{FlowKey, Key, KeyV4, KeyV6};
use super::shares::Shares;
use super::{Event, State, Timeouts};
use crate::director::real_server::Slot;
use crate::packet::Flow;
use crate::time::Moment;

/// Entries per shard of a full table. No lock may be held longer than 100 µs: visiting so many takes 4 µs,
/// and 60 µs if each of them ends and has a template.
const ENTRIES_PER_SHARD: usize = 256;

/// All connections of a director.
pub struct Table {
    pub(super) v4: DashMap<KeyV4, Entry, SeedableRandomState>,
    pub(super) v6: DashMap<KeyV6, Entry, SeedableRandomState>,
    entries: AtomicUsize,
    created: AtomicU64,
    removed: AtomicU64,
    connections_max: usize,
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

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.connections_max
    }

    /// The number of entries removed so far.
    pub fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// The number of entries added so far.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Looks up a packet's connection, applies `event` to its state and restarts its timer.
    ///
    /// `claim` decides by the real server's slot and the connection's state. An entry is removed and reported
    /// if it has expired, if a SYN finds it closing, or if `claim` gives it up.
    pub fn find(
        &self,
        flow: &Flow,
        event: Event,
        timeouts: &Timeouts,
        claim: impl Fn(Slot, State) -> Claim,
        now: Moment,
    ) -> Found {
        match Key::of(flow) {
            Key::V4(key) => self.find_in(&self.v4, &key, event, timeouts, claim, now),
            Key::V6(key) => self.find_in(&self.v6, &key, event, timeouts, claim, now),
        }
    }

    fn find_in<K: FlowKey>(
        &self,
        map: &DashMap<K, Entry, SeedableRandomState>,
        key: &K,
        event: Event,
        timeouts: &Timeouts,
        claim: impl Fn(Slot, State) -> Claim,
        now: Moment,
    ) -> Found {
        let judge = |entry: &Entry| {
            // As in IPVS (`conn_reuse_mode`), a connection with a template keeps its entry, because its real
            // server stays the same anyway.
            let is_reuse = event == Event::Syn && entry.state.is_closing() && entry.template.is_none();
            let is_over = entry.is_expired(now) || is_reuse;
            if is_over { Claim::GiveUp } else { claim(entry.real_server, entry.state) }
        };
        let unchanged = |answer| Found { answer, change: None };
        match map.get_mut(key) {
            None => return unchanged(Answer::Unknown),
            Some(mut entry) => match judge(&entry) {
                Claim::Follow => {
                    let change = advance(&mut entry, event, timeouts, now);
                    return Found { answer: Answer::Known(entry.real_server), change };
                }
                Claim::Refuse => return unchanged(Answer::Refused),
                Claim::GiveUp => {}
            },
        }
        let removed = map.remove_if(key, |_, entry| judge(entry) == Claim::GiveUp);
        let change = removed.map(|(key, entry)| self.book_removal(&key, &entry, now));
        Found { answer: Answer::Unknown, change }
    }

    /// The real server of a connection, without changing its state or timer.
    pub fn peek(&self, flow: &Flow, now: Moment) -> Option<Slot> {
        let entry = match Key::of(flow) {
            Key::V4(key) => self.v4.get(&key).map(|entry| *entry),
            Key::V6(key) => self.v6.get(&key).map(|entry| *entry),
        };
        entry.filter(|entry| !entry.is_expired(now)).map(|entry| entry.real_server)
    }

    /// Adds a connection, unless the flow has one or there are too many, in total or of its client.
    pub fn insert(&self, flow: &Flow, new: NewConnection, timeouts: &Timeouts, now: Moment) -> Inserted {
        let born = State::born(flow.protocol);
        let NewConnection { virtual_service, real_server, event, template } = new;
        let mut entry = Entry { deadline: now, virtual_service, real_server, state: born, template };
        advance(&mut entry, event, timeouts, now);
        match Key::of(flow) {
            Key::V4(key) => self.insert_in(&self.v4, key, entry),
            Key::V6(key) => self.insert_in(&self.v6, key, entry),
        }
    }

    fn insert_in<K: FlowKey>(
        &self,
        map: &DashMap<K, Entry, SeedableRandomState>,
        key: K,
        entry: Entry,
    ) -> Inserted {
        // Reserved before the lock and released on failure, so that all workers together stay below the
        // limit.
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        if entries >= self.connections_max {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            return Inserted::Full;
        }
        let client = key.flow().client;
        if !self.shares.claim(client, entries) {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            return Inserted::Full;
        }
        match map.entry(key) {
            Place::Occupied(slot) => {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                self.shares.release(client);
                Inserted::Existing { real_server: slot.get().real_server }
            }
            Place::Vacant(slot) => {
                slot.insert(entry);
                self.created.fetch_add(1, Ordering::Relaxed);
                Inserted::New
            }
        }
    }

    /// Removes every entry past its deadline, and those whose real server's slot `is_given_up`, shard by
    /// shard; no lock is held longer than one shard takes.
    pub fn sweep(&self, now: Moment, is_given_up: impl Fn(Slot) -> bool, mut on_change: impl FnMut(Change)) {
        let is_over = |entry: &Entry| entry.is_expired(now) || is_given_up(entry.real_server);
        self.sweep_in(&self.v4, now, &is_over, &mut on_change);
        self.sweep_in(&self.v6, now, &is_over, &mut on_change);
    }

    fn sweep_in<K: FlowKey>(
        &self,
        map: &DashMap<K, Entry, SeedableRandomState>,
        now: Moment,
        is_over: &impl Fn(&Entry) -> bool,
        on_change: &mut impl FnMut(Change),
    ) {
        map.retain(|key, entry| {
            let is_kept = !is_over(entry);
            if !is_kept {
                on_change(self.book_removal(key, entry, now));
            }
            is_kept
        });
    }

    fn book_removal<K: FlowKey>(&self, key: &K, entry: &Entry, now: Moment) -> Change {
        self.removed.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        let Entry { virtual_service, real_server, template, .. } = *entry;
        let ended = entry.deadline.min(now);
        let (from, client) = (entry.activity(), key.flow().client);
        self.shares.release(client);
        Change::Removed { real_server, from, ended, virtual_service, client, template }
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
