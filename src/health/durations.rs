//! How long probes took: a histogram with fixed bounds.

use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds; one more bucket has none.
pub const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];

/// The durations of many probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// By bucket; the last one has no bound.
    counts: [u64; BOUNDS_MS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        let bucket = BOUNDS_MS.iter().take_while(|bound| took > Duration::from_millis(**bound)).count();
        self.counts[bucket] += 1;
        self.sum += took;
    }

    /// Adds all of another histogram.
    pub fn merge(&mut self, other: &Durations) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// For each bound, the number of probes that took at most that long.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS_MS.iter().map(|bound| Duration::from_millis(*bound)).zip(sums)
    }

    /// The number of probes.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of their durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_it_does_not_exceed() {
        let mut durations = Durations::default();
        for micros in [0, 1_000, 1_001, 5_000_000, 5_000_001] {
            durations.add(Duration::from_micros(micros));
        }
        let found: Vec<u64> = durations.cumulative().map(|(_, count)| count).collect();
        assert_eq!(found, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]);
        assert_eq!((durations.count(), durations.sum()), (5, Duration::from_micros(10_002_002)));
        assert!(BOUNDS_MS.is_sorted());
        assert_eq!(durations.cumulative().last(), Some((Duration::from_secs(5), 4)));
    }

    #[test]
    fn histograms_add_up() {
        let (mut one, mut other) = (Durations::default(), Durations::default());
        one.add(Duration::from_millis(3));
        other.add(Duration::from_millis(3));
        other.add(Duration::from_secs(9));
        one.merge(&other);
        assert_eq!((one.count(), one.sum()), (3, Duration::from_millis(9_006)));
        assert_eq!(one.cumulative().nth(2), Some((Duration::from_millis(5), 2)));
    }
}
