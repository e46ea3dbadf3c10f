//! A point in time, passed in as a parameter. Arithmetic only: nothing here reads a clock; the daemon's clock
//! does.

use std::time::Duration;

/// Nanoseconds since an origin that only the shell defines (the daemon: its start; a simulation: 0). A `u64`
/// fits an atomic and wraps after 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin.
    pub const ZERO: Moment = Moment(0);

    /// Every value is a valid moment.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// Saturates after 584 years.
    pub const fn from_millis(millis: u64) -> Moment {
        Moment(millis.saturating_mul(1_000_000))
    }

    /// Saturates after 584 years.
    pub const fn from_secs(secs: u64) -> Moment {
        Moment(secs.saturating_mul(1_000_000_000))
    }

    /// For atomics, and for metrics.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time elapsed since `earlier`; zero if `earlier` is in fact later, which happens when two workers read
    /// the clock one after the other.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Saturates after 584 years.
    pub const fn after(self, pause: Duration) -> Moment {
        let seconds = pause.as_secs().saturating_mul(1_000_000_000);
        Moment(self.0.saturating_add(seconds).saturating_add(pause.subsec_nanos() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_another_has_waited_nothing() {
        assert_eq!(Moment::from_secs(1).since(Moment::from_secs(2)), Duration::ZERO);
        assert_eq!(Moment::from_secs(2).since(Moment::from_millis(500)), Duration::from_millis(1500));
    }

    #[test]
    fn far_future_saturates() {
        assert_eq!(Moment::from_secs(1).after(Duration::MAX), Moment::from_nanos(u64::MAX));
    }
}
