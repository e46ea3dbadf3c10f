//! The connection table: flow → entry, shared by all workers.
//!
//! Two maps, so that IPv4 does not pay for IPv6 keys. No guard leaves this file: every operation
//! copies out what the caller needs. An entry past its deadline is treated as absent even before the
//! sweep has come by.
//!
//! The table does not know real servers; it names them by slot and reports each [`Change`] so that the
//! caller keeps their counts.

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

/// Entries a shard should hold when the table is full. No lock may be held longer than 100 µs: looking
/// through so many takes 4 µs, and 60 µs if each of them ends and hangs on a template.
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
    /// An empty table for at most `connections_max` entries. `seed` keys the hash: clients must not be
    /// able to guess it.
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

    /// Entries, including those past their deadline that the sweep has not met yet.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.connections_max
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
    /// `claim` judges the real server, given its slot and the connection's state. An entry that has
    /// expired, that a SYN finds closing, or that is given up is removed and reported.
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
            // ipvs.md §8: a connection that hangs on a template keeps its entry, for its server is decided anyway.
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

    /// The real server of a connection, without touching its state or timer.
    pub fn peek(&self, flow: &Flow, now: Moment) -> Option<Slot> {
        let entry = match Key::of(flow) {
            Key::V4(key) => self.v4.get(&key).map(|entry| *entry),
            Key::V6(key) => self.v6.get(&key).map(|entry| *entry),
        };
        entry.filter(|entry| !entry.is_expired(now)).map(|entry| entry.real_server)
    }

    /// Remembers a connection, unless the flow has one or there are too many, of all or of its client.
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
        // Claimed before the lock and given back on failure, so that workers together stay below the limit.
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

    /// Removes every entry past its deadline, and those that `is_given_up` names by their real server's
    /// slot, shard by shard; no lock is held longer than one shard takes.
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

/// Shards of a table that is swept, for at most `entries_max` entries.
pub(in crate::director) fn shards(entries_max: usize) -> usize {
    (entries_max / ENTRIES_PER_SHARD).next_power_of_two().clamp(16, 65_536)
}

/// A keyed hash for tables that clients fill.
pub(in crate::director) fn hasher(seed: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(seed, shared_seed(seed))
}

fn shared_seed(seed: u64) -> &'static SharedSeed {
    // foldhash borrows its shared seed for ever; it is leaked once per process.
    static SHARED: std::sync::OnceLock<SharedSeed> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| SharedSeed::from_u64(seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;
    use std::time::Duration;

    use super::super::{Activity, Connection};
    use super::*;

    const SLOT: Slot = Slot::new(3, 0);
    const OTHER: Slot = Slot::new(4, 0);

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
        table.find(&flow(1), event, &Timeouts::default(), |_, _| Claim::Follow, now)
    }

    fn insert_flow(table: &Table, flow: Flow, real_server: Slot, event: Event, now: Moment) -> Inserted {
        let new = NewConnection { virtual_service: 1, real_server, event, template: None };
        table.insert(&flow, new, &Timeouts::default(), now)
    }

    fn insert(table: &Table, port: u16, now: Moment) -> Inserted {
        insert_flow(table, flow(port), SLOT, Event::Syn, now)
    }

    fn removed(from: Activity, ended: Moment) -> Option<Change> {
        let client = flow(1).client;
        Some(Change::Removed { real_server: SLOT, from, ended, virtual_service: 1, client, template: None })
    }

    #[test]
    fn an_entry_lives_as_long_as_its_state_says() {
        let table = Table::new(100, 1);
        assert_eq!(insert(&table, 1, Moment::ZERO), Inserted::New);
        let last = Moment::from_nanos(Moment::from_secs(60).as_nanos() - 1);
        assert_eq!(table.peek(&flow(1), last), Some(SLOT));
        assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None);
        assert_eq!(find(&table, Event::Ack, last).answer, Answer::Known(SLOT));
        let later = last.after(Duration::from_secs(899));
        assert_eq!(
            find(&table, Event::Fin, later).change,
            Some(Change::Moved { real_server: SLOT, to: Activity::Inactive })
        );
        assert_eq!(table.len(), 1);
        let gone = find(&table, Event::Ack, later.after(Duration::from_secs(120)));
        assert_eq!(gone.answer, Answer::Unknown);
        assert_eq!(gone.change, removed(Activity::Inactive, later.after(Duration::from_secs(120))));
        assert!(table.is_empty());
    }

    #[test]
    fn a_syn_on_a_closing_connection_is_a_new_connection() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        find(&table, Event::Ack, Moment::ZERO);
        assert_eq!(find(&table, Event::Syn, Moment::ZERO).answer, Answer::Known(SLOT));
        find(&table, Event::Fin, Moment::ZERO);
        assert_eq!(find(&table, Event::Ack, Moment::ZERO).answer, Answer::Known(SLOT));
        assert_eq!(find(&table, Event::Syn, Moment::ZERO).answer, Answer::Unknown);
    }

    #[test]
    fn a_connection_whose_server_is_gone_is_given_up_or_refused() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        let find = |claim, now| table.find(&flow(1), Event::Ack, &Timeouts::default(), |_, _| claim, now);
        assert_eq!(
            find(Claim::Refuse, Moment::from_secs(59)),
            Found { answer: Answer::Refused, change: None }
        );
        assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None, "a refusal does not restart the timer");
        assert_eq!(
            find(Claim::GiveUp, Moment::from_secs(59)).change,
            removed(Activity::Active, Moment::from_secs(59))
        );
    }

    #[test]
    fn a_forged_reset_never_lengthens_a_life() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        assert_eq!(find(&table, Event::Rst, Moment::from_secs(30)).answer, Answer::Known(SLOT));
        assert_eq!(table.peek(&flow(1), Moment::from_secs(59)), Some(SLOT));
        assert_eq!(
            table.peek(&flow(1), Moment::from_secs(60)),
            None,
            "half open: the reset restarts nothing"
        );
        find(&table, Event::Ack, Moment::from_secs(40));
        find(&table, Event::Rst, Moment::from_secs(50));
        assert_eq!(table.peek(&flow(1), Moment::from_secs(59)), Some(SLOT), "no faster than CLOSE");
        assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None);
    }

    #[test]
    fn a_listing_shows_what_lives() {
        let table = Table::new(100, 1);
        insert(&table, 1, Moment::ZERO);
        let v6 =
            Flow { client: "2001:db8::7".parse().unwrap(), vip: "2001:db8::1".parse().unwrap(), ..flow(9) };
        insert_flow(&table, v6, OTHER, Event::Ack, Moment::ZERO);
        let listed = |secs| -> Vec<Connection> {
            (0..table.parts()).flat_map(|part| table.part(part, Moment::from_secs(secs))).collect()
        };
        let mut shown = listed(10);
        shown.sort_by_key(|connection| connection.real_server);
        let expected = |flow, real_server, state, secs| Connection {
            flow,
            virtual_service: 1,
            real_server,
            state,
            expires_in: Duration::from_secs(secs),
        };
        assert_eq!(
            shown,
            [expected(flow(1), SLOT, State::SynRecv, 50), expected(v6, OTHER, State::Established, 890)]
        );
        assert!(listed(60).iter().all(|connection| connection.real_server == OTHER));
        assert_eq!((listed(60).len(), listed(900).len()), (1, 0));
        assert!(table.part(table.parts(), Moment::ZERO).is_empty());
    }

    #[test]
    fn nothing_goes_above_the_limit_and_the_first_choice_stands() {
        let table = Table::new(2, 1);
        insert(&table, 1, Moment::ZERO);
        assert_eq!(
            insert_flow(&table, flow(1), OTHER, Event::Syn, Moment::ZERO),
            Inserted::Existing { real_server: SLOT }
        );
        insert(&table, 2, Moment::ZERO);
        assert_eq!(insert(&table, 3, Moment::ZERO), Inserted::Full);
        let mut removed = 0;
        table.sweep(Moment::from_secs(60), |_| false, |_| removed += 1);
        assert_eq!((removed, table.len()), (2, 0));
        insert(&table, 1, Moment::ZERO);
        table.sweep(Moment::ZERO, |slot| slot == SLOT, |_| removed += 1);
        assert_eq!((removed, table.len()), (3, 0));
    }

    #[test]
    fn udp_stays_inactive_and_lives_300_seconds() {
        let table = Table::new(10, 1);
        let udp = Flow { protocol: 17, ..flow(1) };
        let inserted = insert_flow(&table, udp, SLOT, Event::Datagram, Moment::ZERO);
        assert_eq!(inserted, Inserted::New);
        assert_eq!(table.peek(&udp, Moment::from_secs(299)), Some(SLOT));
        assert_eq!(table.peek(&udp, Moment::from_secs(300)), None);
    }

    #[test]
    fn the_hasher_uses_its_seed() {
        let hash = |seed| hasher(seed).hash_one(7u64);
        assert_ne!(hash(1), hash(2));
    }
}
