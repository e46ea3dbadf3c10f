//! The table by itself: lives, limits, removals, both families.

use std::hash::BuildHasher;
use std::time::Duration;

use super::super::change::record::Record;
use super::super::{Activity, Connection, State};
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

fn get(table: &Table) -> Entry {
    table.get(&flow(1)).expect("an entry")
}

/// A packet of the connection; returns what the table reports.
fn packet(table: &Table, event: Event, now: Moment) -> Vec<Change> {
    let changes = Record::new();
    let is_kept = table.keep(&flow(1), &get(table), event, &Timeouts::default(), now, &changes);
    assert!(is_kept, "no other worker changed it");
    changes.take()
}

fn insert_flow(table: &Table, flow: Flow, real_server: Slot, event: Event, now: Moment) -> Inserted {
    let new = NewConnection { virtual_service: 1, real_server, event, is_known: false, template: None };
    table.insert(&flow, new, &Timeouts::default(), now, &Record::new())
}

fn insert(table: &Table, port: u16, now: Moment) -> Inserted {
    insert_flow(table, flow(port), SLOT, Event::Syn, now)
}

fn is_new(inserted: Inserted) -> bool {
    matches!(inserted, Inserted::New(_))
}

fn sweep(table: &Table, now: Moment) -> Vec<Change> {
    let changes = Record::new();
    table.sweep(&SlotSet::default(), now, &changes);
    changes.take()
}

#[test]
fn an_entry_lasts_as_long_as_the_timeout_of_its_state() {
    let table = Table::new(100, 1);
    assert!(is_new(insert(&table, 1, Moment::ZERO)));
    let last = Moment::from_nanos(Moment::from_secs(60).as_nanos() - 1);
    assert_eq!(table.peek(&flow(1), last), Some(SLOT));
    assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None);
    packet(&table, Event::Ack, last);
    let later = last.after(Duration::from_secs(899));
    assert_eq!(table.peek(&flow(1), later), Some(SLOT), "the packet has restarted the timer");
    packet(&table, Event::Fin, later);
    let end = later.after(Duration::from_secs(120));
    assert_eq!(table.peek(&flow(1), end), None);
    assert!(table.len() == 1 && !table.is_empty(), "it stays until it is removed");
    assert!(table.remove(&flow(1), &get(&table), end, &Record::new()));
    assert!(table.is_empty() && table.get(&flow(1)).is_none());
}

#[test]
fn every_change_is_reported_with_the_entry_that_it_made_or_ended() {
    let table = Table::new(100, 1);
    let changes = Record::new();
    let new = NewConnection {
        virtual_service: 1,
        real_server: SLOT,
        event: Event::Syn,
        is_known: false,
        template: None,
    };
    table.insert(&flow(1), new, &Timeouts::default(), Moment::ZERO, &changes);
    let begun = get(&table);
    assert_eq!(changes.take(), [Change::Added { flow: flow(1), entry: begun }]);
    assert_eq!(begun.state, State::SynRecv);
    table.insert(&flow(1), new, &Timeouts::default(), Moment::ZERO, &changes);
    assert_eq!(changes.take(), [], "the flow has an entry already");
    let moved = packet(&table, Event::Ack, Moment::from_secs(1));
    assert_eq!(moved, [Change::Moved { flow: flow(1), from: State::SynRecv, entry: get(&table) }]);
    assert_eq!(packet(&table, Event::Ack, Moment::from_secs(2)), [], "the state is the same");
    let entry = get(&table);
    let (early, ended) = (Moment::from_secs(3), entry.deadline);
    assert!(!table.remove(&flow(1), &begun, early, &changes) && changes.take().is_empty());
    assert!(table.remove(&flow(1), &entry, early, &changes));
    assert_eq!(changes.take(), [Change::Removed { flow: flow(1), entry, ended: early }]);
    table.insert(&flow(1), new, &Timeouts::default(), Moment::ZERO, &changes);
    let entry = get(&table);
    assert!(entry.deadline < ended);
    let expired = Change::Removed { flow: flow(1), entry, ended: entry.deadline };
    assert_eq!(sweep(&table, ended), [expired], "it ended when it expired, not when it was found");
}

/// Another worker is there between the look and what follows it.
#[test]
fn an_entry_that_has_changed_since_it_was_seen_is_not_removed() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    let (seen, now) = (get(&table), Moment::from_secs(1));
    packet(&table, Event::Syn, now);
    assert_eq!((get(&table).state, get(&table).real_server), (seen.state, seen.real_server));
    let changes = Record::new();
    assert!(!table.remove(&flow(1), &seen, now, &changes), "its timer was restarted");
    assert!(!table.remove(&flow(2), &seen, now, &changes), "there is none");
    assert_eq!((changes.take(), table.len(), table.removed()), (vec![], 1, 0));
}

#[test]
fn an_entry_is_kept_for_the_real_server_that_was_seen_only() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    let seen = get(&table);
    let keep = |flow, seen: &Entry| {
        let now = Moment::from_secs(1);
        table.keep(&flow, seen, Event::Ack, &Timeouts::default(), now, &Record::new())
    };
    assert!(!keep(flow(1), &Entry { real_server: OTHER, ..seen }));
    assert!(!keep(flow(2), &seen), "there is none");
    assert_eq!(get(&table), seen, "nothing has changed");
    packet(&table, Event::Ack, Moment::from_secs(1));
    assert!(keep(flow(1), &seen), "whatever its state is by now");
}

#[test]
fn a_forged_reset_never_lengthens_a_life() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    packet(&table, Event::Rst, Moment::from_secs(30));
    assert_eq!(table.peek(&flow(1), Moment::from_secs(59)), Some(SLOT));
    assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None, "half open: the reset restarts nothing");
    packet(&table, Event::Ack, Moment::from_secs(40));
    packet(&table, Event::Rst, Moment::from_secs(50));
    assert_eq!(table.peek(&flow(1), Moment::from_secs(59)), Some(SLOT), "no faster than CLOSE");
    assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None);
}

#[test]
fn a_listing_shows_what_lives() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    let v6 = Flow { client: "2001:db8::7".parse().unwrap(), vip: "2001:db8::1".parse().unwrap(), ..flow(9) };
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

/// Each client has its share of 16 entries, two, so that it is the table that is full.
#[test]
fn nothing_goes_above_the_limit_and_the_first_choice_stands() {
    let table = Table::new(16, 1);
    let of = |client: u8| Flow { client: [203, 0, 113, client].into(), ..flow(1) };
    let insert = |client| insert_flow(&table, of(client), SLOT, Event::Syn, Moment::ZERO);
    assert!((0..16).all(|client| is_new(insert(client))));
    assert!((16..250).all(|client| insert(client) == Inserted::Full));
    assert_eq!((table.len(), table.connections_max()), (16, 16));
    assert_eq!((sweep(&table, Moment::from_secs(60)).len(), table.len()), (16, 0));
    let Inserted::New(first) = insert(1) else { panic!("there is room") };
    let second = insert_flow(&table, of(1), OTHER, Event::Syn, Moment::ZERO);
    assert_eq!((second, first.real_server), (Inserted::Existing(first), SLOT));
    let changes = Record::new();
    table.sweep(&SlotSet::from_iter([OTHER]), Moment::ZERO, &changes);
    assert_eq!((changes.take().len(), table.len()), (0, 1));
    table.sweep(&SlotSet::from_iter([SLOT]), Moment::ZERO, &changes);
    assert_eq!((changes.take().len(), table.len()), (1, 0));
    assert_eq!((table.created(), table.removed()), (17, 17));
}

#[test]
fn a_flow_that_has_an_entry_adds_nothing_to_the_share_of_its_client() {
    let table = Table::new(100, 1).with_connections_per_client_max(2);
    insert(&table, 1, Moment::ZERO);
    for _ in 0..10 {
        assert_eq!(insert(&table, 1, Moment::ZERO), Inserted::Existing(get(&table)));
    }
    assert!(is_new(insert(&table, 2, Moment::ZERO)) && table.len() == 2);
    assert_eq!(insert(&table, 3, Moment::ZERO), Inserted::Full);
}

#[test]
fn a_reset_that_begins_an_entry_lets_it_live_as_a_closed_one() {
    let table = Table::new(100, 1);
    insert_flow(&table, flow(1), SLOT, Event::Rst, Moment::ZERO);
    assert_eq!(table.peek(&flow(1), Moment::from_secs(9)), Some(SLOT));
    assert_eq!(table.peek(&flow(1), Moment::from_secs(10)), None);
}

#[test]
fn entries_of_both_families_are_swept() {
    let table = Table::new(100, 1);
    let v6 = Flow { client: "2001:db8::7".parse().unwrap(), vip: "2001:db8::1".parse().unwrap(), ..flow(9) };
    insert(&table, 1, Moment::ZERO);
    insert_flow(&table, v6, OTHER, Event::Syn, Moment::ZERO);
    let client = |change| match change {
        Change::Removed { flow, .. } => flow.client,
        other => panic!("{other:?}"),
    };
    let mut clients: Vec<_> = sweep(&table, Moment::from_secs(60)).into_iter().map(client).collect();
    clients.sort();
    assert_eq!((clients, table.len()), (vec![flow(1).client, v6.client], 0));
}

/// dashmap takes powers of two only.
#[test]
fn a_shard_is_small_enough_to_be_locked_for_a_moment() {
    assert_eq!([0, 4096, 8192, 1 << 20, 1 << 30].map(shards), [16, 16, 32, 4096, 65_536]);
}

#[test]
fn udp_stays_inactive_and_lives_300_seconds() {
    let table = Table::new(10, 1);
    let udp = Flow { protocol: 17, ..flow(1) };
    let inserted = insert_flow(&table, udp, SLOT, Event::Datagram, Moment::ZERO);
    assert!(matches!(inserted, Inserted::New(entry) if entry.activity() == Activity::Inactive));
    assert_eq!(table.peek(&udp, Moment::from_secs(299)), Some(SLOT));
    assert_eq!(table.peek(&udp, Moment::from_secs(300)), None);
}

#[test]
fn the_hasher_uses_its_seed() {
    let hash = |seed| hasher(seed).hash_one(7u64);
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_packet_is_applied_at_once_if_its_real_server_serves_and_the_entry_lives() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    let changes = Record::new();
    let find = |port, serving: &[Slot], secs| {
        let (serving, now) = (serving.iter().copied().collect(), Moment::from_secs(secs));
        table.find(&flow(port), Event::Ack, &serving, &Timeouts::default(), now, &changes)
    };
    let begun = get(&table);
    assert_eq!(find(1, &[OTHER], 1), Found::Seen(begun));
    assert_eq!(find(1, &[SLOT], 60), Found::Seen(begun), "it has expired");
    assert_eq!(find(2, &[SLOT], 1), Found::Unknown);
    assert_eq!((get(&table), changes.take()), (begun, vec![]), "nothing has changed");
    assert_eq!(find(1, &[SLOT], 1), Found::Kept(SLOT));
    let (from, entry) = (State::SynRecv, get(&table));
    assert_eq!((entry.state, entry.deadline), (State::Established, Moment::from_secs(901)));
    assert_eq!(changes.take(), [Change::Moved { flow: flow(1), from, entry }]);
}
