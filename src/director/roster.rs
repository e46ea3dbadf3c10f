//! The roster: the live counts of every slot, which all snapshots of a cluster share.
//!
//! A slot belongs to one real server as long as a snapshot contains it, or a connection or a template points to
//! it. So a worker that meets a slot which its own snapshot does not contain still finds the counts.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::real_server::{Live, Slot};

/// Read without a lock; changed by one build of a snapshot at a time.
#[derive(Default)]
pub struct Roster {
    /// By the slot's index.
    places: ArcSwap<Vec<Place>>,
    /// The number of snapshots built so far.
    builds: Mutex<u64>,
}

#[derive(Clone)]
struct Place {
    slot: Slot,
    /// The number of the first snapshot that contains the slot.
    since: u64,
    live: Arc<Live>,
}

impl Place {
    /// Whether no snapshot contains the slot any more, and nothing points to it.
    fn is_free(&self) -> bool {
        let is_last = Arc::strong_count(&self.live) == 1;
        // The worker that dropped the last snapshot may have booked a connection before.
        fence(Ordering::Acquire);
        is_last && !self.live.is_referenced()
    }
}

impl Roster {
    /// Calls `book` with the counts of a slot, unless the slot has been given to another real server.
    pub fn with(&self, slot: Slot, book: impl FnOnce(&Live)) {
        let places = self.places.load();
        if let Some(place) = find(&places, slot) {
            book(&place.live);
        }
    }

    /// The number of the first snapshot that contains the slot.
    pub fn since(&self, slot: Slot) -> Option<u64> {
        find(&self.places.load(), slot).map(|place| place.since)
    }

    /// The slots to which connections or templates point.
    pub fn referenced(&self) -> Vec<Slot> {
        let places = self.places.load();
        places.iter().filter(|place| place.live.is_referenced()).map(|place| place.slot).collect()
    }

    /// Begins the build of a snapshot.
    pub fn build(&self) -> Build<'_> {
        let mut number = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        Build { number, roster: self, places: self.places.load_full(), next: 0, added: Vec::new() }
    }
}

fn find(places: &[Place], slot: Slot) -> Option<&Place> {
    places.get(slot.index() as usize).filter(|place| place.slot == slot)
}

/// The build of one snapshot. It adds nothing to the roster until [`Build::finish`].
pub struct Build<'a> {
    roster: &'a Roster,
    number: MutexGuard<'a, u64>,
    places: Arc<Vec<Place>>,
    /// Places before this one are taken.
    next: usize,
    added: Vec<Place>,
}

impl Build<'_> {
    /// The snapshot's number; later snapshots have higher ones.
    pub fn number(&self) -> u64 {
        *self.number
    }

    /// A slot for a new real server, with its counts.
    pub fn add(&mut self) -> (Slot, Arc<Live>) {
        let mut before = self.places.iter().enumerate().skip(self.next);
        let free = before.find(|(_, place)| place.is_free());
        let (index, slot) = match free {
            Some((index, place)) => (index, place.slot.of_another()),
            None => {
                let index = self.next.max(self.places.len());
                (index, Slot::new(u32::try_from(index).unwrap_or(u32::MAX), 1))
            }
        };
        self.next = index + 1;
        let live = Arc::<Live>::default();
        self.added.push(Place { slot, since: self.number(), live: live.clone() });
        (slot, live)
    }

    /// Makes the new slots known. Call it before the snapshot is published.
    pub fn finish(self) {
        if self.added.is_empty() {
            return;
        }
        let mut places = Vec::clone(&self.places);
        for place in self.added {
            match places.get_mut(place.slot.index() as usize) {
                Some(former) => *former = place,
                None => places.push(place),
            }
        }
        self.roster.places.store(Arc::new(places));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::real_server::Activity;

    fn add(roster: &Roster, count: usize) -> Vec<(Slot, Arc<Live>)> {
        let mut build = roster.build();
        let added = (0..count).map(|_| build.add()).collect();
        build.finish();
        added
    }

    fn active(roster: &Roster, slot: Slot) -> Option<u32> {
        let mut found = None;
        roster.with(slot, |live| found = Some(live.active()));
        found
    }

    #[test]
    fn a_slot_is_given_away_when_no_snapshot_has_it_and_nothing_points_to_it() {
        let roster = Roster::default();
        let mut first = add(&roster, 3);
        let slots: Vec<Slot> = first.iter().map(|(slot, _)| *slot).collect();
        assert_eq!(slots, [0, 1, 2].map(|index| Slot::new(index, 1)));
        // The second has a connection, the third a snapshot, the first neither.
        let (_kept, busy) = (first.pop(), first.pop());
        busy.expect("three").1.book_new(Activity::Active);
        first.clear();
        let second: Vec<Slot> = add(&roster, 3).into_iter().map(|(slot, _)| slot).collect();
        assert_eq!(second, [Slot::new(0, 2), Slot::new(3, 1), Slot::new(4, 1)]);
        assert_eq!(
            slots.iter().map(|slot| active(&roster, *slot)).collect::<Vec<_>>(),
            [None, Some(1), Some(0)]
        );
        assert_eq!(roster.referenced(), [slots[1]]);
    }

    #[test]
    fn a_template_holds_a_slot_as_a_connection_does() {
        let roster = Roster::default();
        add(&roster, 1)[0].1.book_template();
        assert_eq!(add(&roster, 1)[0].0, Slot::new(1, 1));
        roster.with(Slot::new(0, 1), Live::book_template_end);
        assert_eq!(add(&roster, 1)[0].0, Slot::new(0, 2));
    }

    #[test]
    fn a_slot_records_the_first_snapshot_that_contains_it() {
        let roster = Roster::default();
        let first = add(&roster, 1);
        add(&roster, 0);
        let third = add(&roster, 1);
        assert_eq!((roster.since(first[0].0), roster.since(third[0].0)), (Some(1), Some(3)));
        assert_eq!(roster.since(Slot::new(0, 9)), None);
        assert_eq!(roster.build().number(), 4);
    }

    #[test]
    fn a_build_that_is_given_up_takes_no_slot() {
        let roster = Roster::default();
        let (slot, _) = roster.build().add();
        assert_eq!((roster.since(slot), add(&roster, 1)[0].0), (None, slot));
    }
}
