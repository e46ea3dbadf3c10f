//! The table by itself: lives, limits, removals, both families.

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
    assert!(table.len() == 1 && !table.is_empty());
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
    assert_eq!(find(Claim::Refuse, Moment::from_secs(59)), Found { answer: Answer::Refused, change: None });
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
    assert_eq!(table.peek(&flow(1), Moment::from_secs(60)), None, "half open: the reset restarts nothing");
    find(&table, Event::Ack, Moment::from_secs(40));
    find(&table, Event::Rst, Moment::from_secs(50));
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
    assert!((0..16).all(|client| insert(client) == Inserted::New));
    assert!((16..250).all(|client| insert(client) == Inserted::Full));
    assert_eq!((table.len(), table.connections_max()), (16, 16));
    let mut removed = 0;
    table.sweep(Moment::from_secs(60), |_| false, |_| removed += 1);
    assert_eq!((removed, table.len()), (16, 0));
    insert(1);
    assert_eq!(
        insert_flow(&table, of(1), OTHER, Event::Syn, Moment::ZERO),
        Inserted::Existing { real_server: SLOT }
    );
    table.sweep(Moment::ZERO, |slot| slot == SLOT, |_| removed += 1);
    assert_eq!((removed, table.len()), (17, 0));
    assert_eq!((table.created(), table.removed()), (17, 17));
}

#[test]
fn whoever_comes_second_on_a_flow_takes_nothing_of_his_share() {
    let table = Table::new(100, 1).with_connections_per_client_max(2);
    insert(&table, 1, Moment::ZERO);
    for _ in 0..10 {
        assert_eq!(insert(&table, 1, Moment::ZERO), Inserted::Existing { real_server: SLOT });
    }
    assert_eq!((insert(&table, 2, Moment::ZERO), table.len()), (Inserted::New, 2));
    assert_eq!(insert(&table, 3, Moment::ZERO), Inserted::Full);
}

#[test]
fn an_entry_that_has_come_back_to_life_is_not_given_up() {
    let table = Table::new(100, 1);
    insert(&table, 1, Moment::ZERO);
    let times = std::cell::Cell::new(0);
    // Another worker is there between the look and the removal.
    let claim = |_, _| match times.replace(times.get() + 1) {
        0 => Claim::GiveUp,
        _ => Claim::Follow,
    };
    let found = table.find(&flow(1), Event::Ack, &Timeouts::default(), claim, Moment::ZERO);
    assert_eq!(found, Found { answer: Answer::Unknown, change: None });
    assert_eq!((times.get(), table.peek(&flow(1), Moment::ZERO)), (2, Some(SLOT)));
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
    let mut clients = Vec::new();
    table.sweep(
        Moment::from_secs(60),
        |_| false,
        |change| match change {
            Change::Removed { client, .. } => clients.push(client),
            Change::Moved { .. } => panic!("{change:?}"),
        },
    );
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
    assert_eq!(inserted, Inserted::New);
    assert_eq!(table.peek(&udp, Moment::from_secs(299)), Some(SLOT));
    assert_eq!(table.peek(&udp, Moment::from_secs(300)), None);
}

#[test]
fn the_hasher_uses_its_seed() {
    let hash = |seed| hasher(seed).hash_one(7u64);
    assert_ne!(hash(1), hash(2));
}
