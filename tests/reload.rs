//! A file read again by a running director: what has changed in it is applied, what was changed
//! by hand meanwhile stays, and the running configuration can be saved and read again.

use std::collections::BTreeSet;

#[path = "reload/director.rs"]
mod director;
#[path = "operations/generated.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod generated;
#[path = "reload/keys.rs"]
mod keys;
#[path = "reload/parts.rs"]
mod parts;

use director::{Director, Refusal, read};
use keys::{BASE, Hand, Live, MATCHER, Place, ROWS, Row, file};

const MANUAL: &str = include_str!("../config/director.toml");

type Value = (Place, &'static str, &'static str);

impl Row {
    fn changed(&self) -> Value {
        (self.place, self.key, self.other)
    }

    fn by_hand(&self) -> Option<(&Hand, Vec<Value>)> {
        let Live::ByHand(hand) = &self.live else { return None };
        let values = [&[(self.place, self.key, hand.value)], hand.also].concat();
        Some((hand, values))
    }

    fn is_live(&self) -> bool {
        !matches!(self.live, Live::Restart)
    }
}

fn live() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.is_live())
}

/// Two keys of one service that set one thing.
fn are_one(a: &Row, b: &Row) -> bool {
    a.place == b.place && MATCHER.contains(&a.key) && MATCHER.contains(&b.key)
}

/// The keys that the manual shows in one of its sections, commented out or not.
fn shown(section: &str) -> BTreeSet<&str> {
    let lines = section.lines().filter(|line| !line.starts_with("# "));
    lines.filter_map(|line| line.trim_start_matches('#').split_once(" = ")).map(|(key, _)| key).collect()
}

#[test]
fn every_key_of_the_manual_has_its_row() {
    let (top, rest) = MANUAL.split_once("\n[[virtual_service]]\n").expect("a service");
    let (service, server) = rest.split_once("\n[[virtual_service.real_server]]\n").expect("a real server");
    let rows = |is_in: fn(Place) -> bool| -> Vec<&str> {
        ROWS.iter().filter(|row| is_in(row.place)).map(|row| row.key).collect()
    };
    let sections = [
        (top, rows(|place| place == Place::Top)),
        (service, rows(|place| matches!(place, Place::Service(_)))),
        (server, rows(|place| matches!(place, Place::Server(..)))),
    ];
    for (section, rows) in sections {
        let mut keys = shown(section);
        assert!(keys.len() >= 6, "{keys:?}");
        // It has no second value.
        keys.remove("encapsulation");
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), keys);
        assert_eq!(rows.len(), keys.len(), "a key has two rows: {rows:?}");
    }
}

#[test]
fn the_values_of_a_row_mean_different_things() {
    let base = read(BASE);
    assert_eq!(read(&file(&[])), base);
    for row in ROWS {
        let changed = read(&file(&[row.changed()]));
        assert_ne!(changed, base, "{row:?}");
        if let Some((_, values)) = row.by_hand() {
            assert_ne!(read(&file(&values)), base, "{row:?}");
        }
    }
}

#[test]
fn a_reload_refuses_a_key_that_needs_a_restart_and_changes_nothing() {
    for row in ROWS.iter().filter(|row| !row.is_live()) {
        let mut director = Director::start(BASE);
        let weighed = (Place::Server(0, 0), "weight", "9");
        let refused = director.reload(&file(&[row.changed(), weighed])).unwrap_err();
        assert_eq!(refused, Refusal::NeedsRestart(vec![row.key]));
        assert_eq!(director.in_force(), read(BASE), "{row:?}");
    }
}

#[test]
fn a_key_changed_in_the_file_is_active_after_a_reload_and_named() {
    for row in live() {
        let mut director = Director::start(BASE);
        let told = director.reload(&file(&[row.changed()])).expect("a live key");
        assert_eq!(director.in_force(), read(&file(&[row.changed()])), "{row:?}");
        let place = match row.place {
            Place::Top => (None, None),
            Place::Service(at) => (Some(["web", "dns"][at]), None),
            Place::Server(at, server) => (Some(["web", "dns"][at]), Some(["server1", "server2"][server])),
        };
        let seen = told.iter().map(|difference| {
            let place = (difference.virtual_service.as_deref(), difference.real_server.as_deref());
            assert!(difference.from != difference.to, "{difference:?}");
            (place, difference.key.as_deref())
        });
        let seen: Vec<_> = seen.collect();
        let expected = match row.key {
            // A secret.
            "hash_key" => vec![],
            // One real server less, one more.
            "rip" => vec![(place, None), (place, None)],
            key if MATCHER.contains(&key) => vec![(place, Some("match"))],
            // The service without a value of its own follows.
            key @ ("unknown_tcp" | "on_removed" | "timeouts.tcp" | "timeouts.tcp_fin" | "timeouts.udp"
            | "check" | "check_agreement" | "on_down" | "quorum" | "hysteresis" | "min_healthy"
            | "slow_start")
                if row.place == Place::Top =>
            {
                vec![(place, Some(key)), ((Some("dns"), None), Some(key))]
            }
            key => vec![(place, Some(key))],
        };
        assert_eq!(seen, expected, "{row:?}");
        let back = director.reload(BASE).expect("a live key");
        assert_eq!(director.in_force(), read(BASE), "{row:?}");
        assert_eq!(back.len(), told.len(), "{row:?}: {back:?}");
    }
}

#[test]
fn what_an_operation_sets_is_what_a_file_would_set() {
    for row in live() {
        let Some((hand, values)) = row.by_hand() else { continue };
        let mut director = Director::start(BASE);
        director.told(hand.operations);
        assert_eq!(director.in_force(), read(&file(&values)), "{row:?}");
    }
}

#[test]
fn a_reload_keeps_what_was_set_by_hand_whatever_other_key_it_changes() {
    for row in live() {
        let Some((hand, by_hand)) = row.by_hand() else { continue };
        let mut director = Director::start(BASE);
        director.told(hand.operations);
        assert_eq!(director.reload(BASE), Ok(vec![]), "{row:?}");
        assert_eq!(director.in_force(), read(&file(&by_hand)), "{row:?}");
        for other in live().filter(|other| !std::ptr::eq(*other, row) && !are_one(row, other)) {
            let mut director = Director::start(BASE);
            director.told(hand.operations);
            director.reload(&file(&[other.changed()])).expect("a live key");
            let expected = file(&[&by_hand[..], &[other.changed()]].concat());
            assert_eq!(director.in_force(), read(&expected), "by hand {row:?}\nthe file {other:?}");
        }
    }
}

#[test]
fn a_reload_applies_a_key_that_the_file_changes_even_if_it_was_set_by_hand() {
    for row in live().filter(|row| row.key != "rip") {
        let Some((hand, by_hand)) = row.by_hand() else { continue };
        let mut director = Director::start(BASE);
        director.told(hand.operations);
        director.reload(&file(&[row.changed()])).expect("a live key");
        let expected = file(&[&by_hand[..], &[row.changed()]].concat());
        assert_eq!(director.in_force(), read(&expected), "{row:?}");
    }
}
