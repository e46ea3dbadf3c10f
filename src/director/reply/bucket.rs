//! A limit to the rate of replies.

use std::time::Duration;

use crate::time::Moment;

/// A token bucket: at most `rate` answers per second on average, `burst` at once.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Nanoseconds that one token takes to come back; never zero.
    interval: u64,
    burst: u32,
    tokens: u32,
    refilled: Moment,
}

impl TokenBucket {
    /// The bucket is full at first. A rate of 0 counts as 1.
    pub fn new(rate_per_second: u32, burst: u32) -> TokenBucket {
        TokenBucket {
            interval: (1_000_000_000 / u64::from(rate_per_second.max(1))).max(1),
            burst,
            tokens: burst,
            refilled: Moment::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Moment) -> bool {
        let earned = now.as_nanos().saturating_sub(self.refilled.as_nanos()) / self.interval;
        if earned > 0 {
            let earned_in_bucket = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned_in_bucket).min(self.burst);
            self.refilled = self.refilled.after(Duration::from_nanos(self.interval * earned));
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let burst = (0..5).filter(|_| bucket.take(Moment::ZERO)).count();
        assert_eq!(burst, 3);
        let in_a_second = (0..1000).filter(|ms| bucket.take(Moment::from_millis(*ms))).count();
        assert_eq!(in_a_second, 9);
        assert_eq!((0..10).filter(|_| bucket.take(Moment::from_secs(3600))).count(), 3);
        assert!(bucket.take(Moment::from_secs(3601)));
        let topped_up = (0..10).filter(|_| bucket.take(Moment::from_secs(3602))).count();
        assert_eq!(topped_up, 3, "what is left counts towards the burst");
    }

    #[test]
    fn a_token_comes_back_when_its_time_is_over_and_not_before() {
        let mut bucket = TokenBucket::new(10, 1);
        let taken = [0, 99, 100, 101, 199, 200, 350, 399, 400].map(|ms| bucket.take(Moment::from_millis(ms)));
        assert_eq!(taken, [true, false, true, false, false, true, true, false, true]);
    }

    #[test]
    fn any_rate_has_a_bucket() {
        let nanos = |nanos| Moment::ZERO.after(Duration::from_nanos(nanos));
        let mut none = TokenBucket::new(0, 1);
        let taken = [0, 999, 1000].map(|ms| none.take(Moment::from_millis(ms)));
        assert_eq!(taken, [true, false, true], "once a second at least");
        for (rate, burst) in [(1_000_000_000, 1), (u32::MAX, 1)] {
            let mut bucket = TokenBucket::new(rate, burst);
            assert_eq!([0, 0, 1, 1].map(|at| bucket.take(nanos(at))), [true, false, true, false], "{rate}");
        }
        // So many tokens that their number does not fit into 32 bits.
        let mut bucket = TokenBucket::new(1_000_000_000, 2);
        assert_eq!([0, 0, 1 << 32, 1 << 32].map(|at| bucket.take(nanos(at))), [true; 4]);
    }
}
