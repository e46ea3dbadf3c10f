//! Slow start: the share of its weight that a real server has after it came up or was added.

use std::time::Duration;

use super::spread::part;
use crate::time::Moment;

/// Each step changes the schedulers' weights, hence only so many.
pub(super) const STEPS: u32 = 20;
/// The whole weight, in thousandths.
pub(super) const WHOLE: u32 = 1000;

/// A slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    from: Moment,
    time: Duration,
}

impl Ramp {
    /// A slow start; `None` if it takes no time.
    pub(super) fn begin(time: Duration, now: Moment) -> Option<Ramp> {
        (!time.is_zero()).then_some(Ramp { from: now, time })
    }

    /// The same slow start with another duration.
    pub(super) fn with_time(self, time: Duration) -> Option<Ramp> {
        Ramp::begin(time, self.from)
    }

    /// The share in thousandths: at least 1, at most [`WHOLE`].
    pub(super) fn share(&self, now: Moment) -> u32 {
        (self.step(now) * (WHOLE / STEPS)).max(1)
    }

    /// When the share changes next; `None`: it is whole.
    pub(super) fn next_step(&self, now: Moment) -> Option<Moment> {
        let next = self.step(now) + 1;
        (next <= STEPS).then(|| self.from.after(self.time_of(next)))
    }

    fn step(&self, now: Moment) -> u32 {
        let elapsed = now.since(self.from);
        (0..=STEPS).rev().find(|step| elapsed >= self.time_of(*step)).unwrap_or(0)
    }

    fn time_of(&self, step: u32) -> Duration {
        part(self.time, u64::from(step), u64::from(STEPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_in_twenty_equal_steps_and_each_is_announced() {
        let mut now = Moment::from_secs(100);
        let ramp = Ramp::begin(Duration::from_secs(30), now).expect("a slow start");
        let mut shares = vec![ramp.share(now)];
        while let Some(next) = ramp.next_step(now) {
            assert_eq!(next.since(now), Duration::from_millis(1500));
            assert_eq!(ramp.share(Moment::from_nanos(next.as_nanos() - 1)), *shares.last().expect("a share"));
            now = next;
            shares.push(ramp.share(now));
        }
        let expected: Vec<u32> = std::iter::once(1).chain((1..=20).map(|step| step * 50)).collect();
        assert_eq!(shares, expected);
        assert_eq!(ramp.share(Moment::from_secs(9999)), WHOLE);
    }

    #[test]
    fn no_time_is_no_slow_start() {
        assert_eq!(Ramp::begin(Duration::ZERO, Moment::ZERO), None);
    }

    #[test]
    fn another_duration_keeps_the_beginning() {
        let ramp = Ramp::begin(Duration::from_secs(30), Moment::from_secs(10)).expect("a slow start");
        let shorter = ramp.with_time(Duration::from_secs(20)).expect("a slow start");
        assert_eq!((ramp.share(Moment::from_secs(25)), shorter.share(Moment::from_secs(25))), (500, 750));
        assert_eq!(ramp.with_time(Duration::ZERO), None);
    }
}
