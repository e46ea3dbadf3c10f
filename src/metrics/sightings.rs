//! Who was seen, how often, and when last: a small table with a single writer, which any thread may read.
//!
//! The packets decide what is in it, so its size is fixed: a new one takes the place that was quiet for the longest time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::counters::Count;
use crate::time::Moment;

/// As many as an operator can read, and few enough to search for each packet.
const PLACES: usize = 64;

/// Set in every key, so that 0 is an empty place.
const TAKEN: u64 = 1 << 63;

#[derive(Debug, Default)]
struct Place {
    key: AtomicU64,
    packets: Count,
    /// Nanoseconds of a [`Moment`].
    last: AtomicU64,
}

/// One that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// As given to [`Sightings::note`].
    pub key: u64,
    /// Since it took its place.
    pub packets: u64,
    /// The latest.
    pub last: Moment,
}

/// The table. Keys have 63 bits.
#[derive(Debug)]
pub struct Sightings {
    places: [Place; PLACES],
    /// The place used last: the next packet is often from the same.
    latest: AtomicUsize,
}

impl Default for Sightings {
    fn default() -> Sightings {
        Sightings { places: std::array::from_fn(|_| Place::default()), latest: AtomicUsize::new(0) }
    }
}

impl Sightings {
    /// Only for the owner.
    pub fn note(&self, key: u64, now: Moment) {
        let index = self.place_of(key | TAKEN);
        self.latest.store(index, Ordering::Relaxed);
        let place = &self.places[index];
        place.packets.add(1);
        place.last.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn place_of(&self, key: u64) -> usize {
        let has_it = |index: &usize| self.places[*index].key.load(Ordering::Relaxed) == key;
        let latest = self.latest.load(Ordering::Relaxed);
        if has_it(&latest) {
            return latest;
        }
        (0..PLACES).find(has_it).unwrap_or_else(|| {
            let quiet = |index: &usize| {
                let place = &self.places[*index];
                (place.key.load(Ordering::Relaxed) != 0, place.last.load(Ordering::Relaxed))
            };
            let index = (0..PLACES).min_by_key(quiet).unwrap_or(0);
            let place = &self.places[index];
            place.packets.add(0_u64.wrapping_sub(place.packets.get()));
            place.key.store(key, Ordering::Relaxed);
            index
        })
    }

    /// All that are in the table, the latest first.
    pub fn list(&self) -> Vec<Sighting> {
        let read = |place: &Place| Sighting {
            key: place.key.load(Ordering::Relaxed) & !TAKEN,
            packets: place.packets.get(),
            last: Moment::from_nanos(place.last.load(Ordering::Relaxed)),
        };
        let taken = self.places.iter().filter(|place| place.key.load(Ordering::Relaxed) != 0);
        let mut list: Vec<Sighting> = taken.map(read).collect();
        list.sort_by_key(|sighting| std::cmp::Reverse((sighting.last, sighting.key)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(sightings: &Sightings) -> Vec<(u64, u64, u64)> {
        let seconds = |moment: Moment| moment.as_nanos() / 1_000_000_000;
        sightings.list().iter().map(|seen| (seen.key, seen.packets, seconds(seen.last))).collect()
    }

    #[test]
    fn each_is_counted_and_the_latest_is_listed_first() {
        let sightings = Sightings::default();
        assert_eq!(listed(&sightings), []);
        for (key, second) in [(0, 1), (7, 2), (7, 3), (0, 4), (9, 5), (7, 6)] {
            sightings.note(key, Moment::from_secs(second));
        }
        assert_eq!(listed(&sightings), [(7, 3, 6), (9, 1, 5), (0, 2, 4)]);
    }

    #[test]
    fn a_new_one_takes_the_place_of_the_one_that_was_quiet_longest() {
        let sightings = Sightings::default();
        for key in 0..PLACES as u64 {
            sightings.note(key, Moment::from_secs(key + 1));
        }
        sightings.note(0, Moment::from_secs(100));
        assert_eq!(listed(&sightings).len(), PLACES);
        sightings.note(1_000, Moment::from_secs(101));
        let list = listed(&sightings);
        assert_eq!((list.len(), &list[..2]), (PLACES, &[(1_000, 1, 101), (0, 2, 100)][..]));
        assert!(!list.iter().any(|(key, ..)| *key == 1), "1 was quiet longest");
    }
}
