//! How long a check whose probes avoid the tunnel stays down after a signal about the tunnel. Its successes prove nothing about
//! the tunnel, so that time has to: the real server is tried again when the signal has not recurred for a while, and each
//! further signal doubles that time.

use std::time::Duration;

use crate::time::Moment;

/// The first time.
pub(super) const FIRST: Duration = Duration::from_secs(10);
/// It doubles up to this. After as long without a signal the next one counts as the first.
pub(super) const LONGEST: Duration = Duration::from_secs(640);

/// Signals of the same kind about one check.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    quiet: Duration,
    /// The last signal, unless a probe through the tunnel has contradicted it.
    signalled: Option<Moment>,
}

impl Hold {
    /// A signal makes the check down. Returns how long none must follow.
    pub(super) fn begin(&mut self, now: Moment) -> Duration {
        let is_recurring = self.signalled.is_some_and(|last| now < last.after(self.quiet).after(LONGEST));
        self.quiet = if is_recurring { (self.quiet * 2).min(LONGEST) } else { FIRST };
        self.signalled = Some(now);
        self.quiet
    }

    /// Another signal while the check is down.
    pub(super) fn prolong(&mut self, now: Moment) {
        if let Some(signalled) = &mut self.signalled {
            *signalled = now;
        }
    }

    /// The signals were wrong, or are over.
    pub(super) fn end(&mut self) {
        self.signalled = None;
    }

    /// Whether the last signal is too recent.
    pub(super) fn lasts(&self, now: Moment) -> bool {
        self.signalled.is_some_and(|last| now < last.after(self.quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn it_lasts_until_no_signal_has_come_for_a_while() {
        let mut hold = Hold::default();
        assert!(!hold.lasts(at(0)));
        hold.prolong(at(100));
        assert!(!hold.lasts(at(100)), "without a beginning");
        assert_eq!(hold.begin(at(100)), FIRST);
        assert!(hold.lasts(at(100)) && hold.lasts(at(109)) && !hold.lasts(at(110)));
        hold.prolong(at(109));
        assert!(hold.lasts(at(118)) && !hold.lasts(at(119)));
        hold.prolong(at(120));
        hold.end();
        assert!(!hold.lasts(at(120)));
    }

    #[test]
    fn it_doubles_while_signals_recur_and_begins_again_after_a_long_time_without_one() {
        let mut hold = Hold::default();
        let mut now = at(1000);
        let mut next = |pause: u64| {
            now = now.after(Duration::from_secs(pause));
            hold.begin(now).as_secs()
        };
        let doubled = [0, 11, 21, 41, 81, 161, 321, 641, 641].map(&mut next);
        assert_eq!(doubled, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
        assert_eq!(next(640 + 639), 640);
        assert_eq!(next(640 + 640), 10);
        assert_eq!(next(10 + 639), 20);
    }

    #[test]
    fn signals_that_were_contradicted_do_not_double_it() {
        let mut hold = Hold::default();
        hold.begin(at(0));
        hold.end();
        assert_eq!(hold.begin(at(1)), FIRST);
    }
}
