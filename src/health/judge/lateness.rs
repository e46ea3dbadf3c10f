//! How late probes begin, and whether that has become the rule.

use std::time::Duration;

use crate::health::durations::Durations;
use crate::time::Moment;

/// Probes that are late for less than this are no trouble: many checks may have become due together.
const LASTING: Duration = Duration::from_secs(10);

/// The trouble is over so long after the last probe that was late by more than its interval.
const QUIET: Duration = Duration::from_secs(60);

/// The delays of many probes.
#[derive(Clone, Debug, Default)]
pub(super) struct Lateness {
    delays: Durations,
    stretch: Option<Stretch>,
}

/// A time in which probes were late by more than their interval.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: Moment,
    last: Moment,
    most: Duration,
}

impl Lateness {
    /// A probe of a check with this interval begins so late.
    pub(super) fn add(&mut self, delay: Duration, interval: Duration, now: Moment) {
        self.delays.add(delay);
        if delay <= interval {
            return;
        }
        let current = self.stretch.filter(|stretch| stretch.is_current(now));
        let stretch = current.unwrap_or(Stretch { first: now, last: now, most: delay });
        self.stretch = Some(Stretch { last: now, most: stretch.most.max(delay), ..stretch });
    }

    /// How late they were.
    pub(super) fn delays(&self) -> &Durations {
        &self.delays
    }

    /// While the trouble lasts: the most by which a probe was late.
    pub(super) fn lasting(&self, now: Moment) -> Option<Duration> {
        let current = self.stretch.filter(|stretch| stretch.is_current(now));
        current.filter(|stretch| stretch.last.since(stretch.first) >= LASTING).map(|stretch| stretch.most)
    }
}

impl Stretch {
    fn is_current(&self, now: Moment) -> bool {
        now.since(self.last) < QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn late(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn probes_that_are_late_by_more_than_their_interval_for_ten_seconds_are_a_trouble() {
        let mut lateness = Lateness::default();
        lateness.add(late(3), INTERVAL, at(100));
        lateness.add(late(5), INTERVAL, at(105));
        lateness.add(late(4), INTERVAL, at(109));
        assert_eq!(lateness.lasting(at(120)), None, "for nine seconds");
        lateness.add(late(3), INTERVAL, at(110));
        assert_eq!(lateness.lasting(at(110)), Some(late(5)));
        assert_eq!(lateness.lasting(at(169)), Some(late(5)));
        assert_eq!(lateness.lasting(at(170)), None, "a minute after the last one");
        assert_eq!((lateness.delays().count(), lateness.delays().sum()), (4, late(15)));
    }

    #[test]
    fn probes_that_are_late_by_their_interval_or_less_are_none() {
        let mut lateness = Lateness::default();
        for second in 0..100 {
            lateness.add(INTERVAL, INTERVAL, at(second));
        }
        assert_eq!(lateness.lasting(at(100)), None);
        assert_eq!(lateness.delays().count(), 100);
    }

    #[test]
    fn a_trouble_that_is_over_counts_for_nothing_when_another_begins() {
        let mut lateness = Lateness::default();
        lateness.add(late(9), INTERVAL, at(0));
        lateness.add(late(9), INTERVAL, at(20));
        lateness.add(late(3), INTERVAL, at(80));
        assert_eq!(lateness.lasting(at(80)), None, "the first of another time");
        lateness.add(late(4), INTERVAL, at(90));
        assert_eq!(lateness.lasting(at(90)), Some(late(4)));
    }
}
