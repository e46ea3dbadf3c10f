//! Rates as the kernel estimates them (net/netfilter/ipvs/ip_vs_est.c): every 2 s the average changes by a
//! quarter of its difference to the newest rate.

use super::totals::Totals;

/// Time between two [`Estimator::tick`]s.
pub const PERIOD: std::time::Duration = std::time::Duration::from_secs(2);

/// Fixed-point averages: numbers per second × 2^10, bytes per second × 2^5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimator {
    last: Totals,
    average: Totals,
}

impl Estimator {
    /// Starts with rates of 0; `totals` are the counts so far.
    pub fn starting_at(totals: Totals) -> Estimator {
        Estimator { last: totals, average: Totals::default() }
    }

    /// Adds the totals of one more period.
    pub fn tick(&mut self, totals: Totals) {
        let step = |average: u64, delta: u64, shift: u32| {
            let newest = (delta << shift) as i64;
            (average as i64 + ((newest - average as i64) >> 2)).max(0) as u64
        };
        let delta = totals.since(&self.last);
        self.average = Totals {
            connections: step(self.average.connections, delta.connections, 9),
            packets: step(self.average.packets, delta.packets, 9),
            bytes: step(self.average.bytes, delta.bytes, 4),
        };
        self.last = totals;
    }

    /// Per second.
    pub fn rates(&self) -> Totals {
        Totals {
            connections: (self.average.connections + 0x1ff) >> 10,
            packets: (self.average.packets + 0x1ff) >> 10,
            bytes: (self.average.bytes + 0xf) >> 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(connections: u64, packets: u64, bytes: u64) -> Totals {
        Totals { connections, packets, bytes }
    }

    #[test]
    fn a_steady_rate_is_reached_within_half_a_minute_and_decays_as_slowly() {
        let mut estimator = Estimator::default();
        let mut seen = Vec::new();
        for period in 1..=16u64 {
            estimator.tick(totals(200, 2_000, 2_000_000).times(period));
            seen.push(estimator.rates().packets);
        }
        assert_eq!(seen[..4], [250, 437, 578, 684]);
        let steady = estimator.rates();
        assert_eq!((steady.connections, steady.packets), (99, 990));
        let last = totals(200, 2_000, 2_000_000).times(16);
        (0..60).for_each(|_| estimator.tick(last));
        assert_eq!(estimator.rates(), totals(0, 0, 0));
    }

    #[test]
    fn counts_before_the_start_do_not_enter_the_rates() {
        let mut estimator = Estimator::starting_at(totals(1_000_000, 1_000_000, 1_000_000));
        estimator.tick(totals(1_000_000, 1_000_000, 1_000_000));
        assert_eq!(estimator.rates(), totals(0, 0, 0));
    }
}
