//! When probes begin: spread over the interval, and never in step.

use std::time::Duration;

/// Overdue probes are spread over their interval, but over no more than this.
pub(super) const SPREAD_MAX: Duration = Duration::from_secs(10);
/// The golden ratio's fraction as a share of 2^64. Its multiples, modulo 2^64, are spread evenly however many there are.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// The most by which an interval is shortened or prolonged, in thousandths.
const JITTER_MAX: u64 = 30;

/// Places and jitter, from a seed.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    placed: u64,
    random: u64,
}

/// A place within a span, as a share of 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

impl Place {
    /// How far it is from the beginning of this span.
    pub(super) fn within(self, span: Duration) -> Duration {
        part(span, self.0, 1 << 32)
    }
}

impl Spread {
    /// The same seed gives the same jitter.
    pub(super) fn new(seed: u64) -> Spread {
        Spread { placed: 0, random: seed }
    }

    /// The next place: the first one is the beginning.
    pub(super) fn place(&mut self) -> Place {
        let share = self.placed.wrapping_mul(GOLDEN);
        self.placed += 1;
        Place(share >> 32)
    }

    /// The factor for the next pause, in thousandths: a little less than 1000, or a little more.
    pub(super) fn jitter(&mut self) -> u64 {
        1000 - JITTER_MAX + self.next() % (2 * JITTER_MAX + 1)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(GOLDEN);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `numerator / denominator` of a duration; saturates after 584 years.
pub(super) fn part(whole: Duration, numerator: u64, denominator: u64) -> Duration {
    let nanos = whole.as_nanos() * u128::from(numerator) / u128::from(denominator.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_evenly_however_many_there_are() {
        let span = Duration::from_secs(1);
        for count in [2u32, 10, 100, 5000] {
            let mut spread = Spread::new(1);
            let mut places: Vec<Duration> = (0..count).map(|_| spread.place().within(span)).collect();
            assert_eq!(places[0], Duration::ZERO);
            places.sort();
            places.push(span);
            let widest = places.windows(2).map(|pair| pair[1] - pair[0]).max().expect("a gap");
            assert!(widest < span * 3 / count, "{count} places leave a gap of {widest:?}");
        }
    }

    #[test]
    fn jitter_stays_within_three_percent_and_has_no_drift() {
        let mut spread = Spread::new(7);
        let jitters: Vec<u64> = (0..10_000).map(|_| spread.jitter()).collect();
        assert_eq!((jitters.iter().min(), jitters.iter().max()), (Some(&970), Some(&1030)));
        let mean = jitters.iter().sum::<u64>() / 10_000;
        assert!((999..=1000).contains(&mean), "{mean}");
    }

    #[test]
    fn seeds_differ() {
        let first = |seed| {
            let mut spread = Spread::new(seed);
            [spread.jitter(), spread.jitter(), spread.jitter()]
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn a_part_of_a_duration_is_exact_and_saturates() {
        assert_eq!(part(Duration::from_secs(3), 1, 2), Duration::from_millis(1500));
        assert_eq!(part(Duration::MAX, 1, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(part(Duration::from_secs(3), 1, 0), Duration::from_secs(3));
    }
}
