//! Flapping: something that changes too often is reported as such, and no longer change by change.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// More changes than this within [`WINDOW`] are flapping.
pub(super) const CHANGES_MAX: usize = 6;
/// See [`CHANGES_MAX`].
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Without a change for this long, it has settled.
pub(super) const QUIET: Duration = Duration::from_secs(60);
/// Flapping that lasts is reported again after this time.
pub(super) const REMINDER: Duration = Duration::from_secs(300);

/// What is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Nothing.
    Nothing,
    /// The change itself.
    Change,
    /// It flaps: the changes so far, and in which time.
    Flapping(u32, Duration),
    /// It has settled: the changes in all, and in which time.
    Settled(u32, Duration),
}

/// Something with two states that may flap.
#[derive(Clone, Debug)]
pub(super) struct Damper {
    /// The state that was reported last.
    reported_state: bool,
    recent: VecDeque<Moment>,
    flapping: Option<Flapping>,
}

#[derive(Clone, Copy, Debug)]
struct Flapping {
    since: Moment,
    changes: u32,
    changed: Moment,
    reported: Moment,
}

impl Damper {
    /// Begins in this state, unreported.
    pub(super) fn new(state: bool) -> Damper {
        Damper { reported_state: state, recent: VecDeque::new(), flapping: None }
    }

    /// The state that was reported last.
    pub(super) fn reported_state(&self) -> bool {
        self.reported_state
    }

    /// The state has changed to this.
    pub(super) fn on_change(&mut self, state: bool, now: Moment) -> Report {
        if let Some(flapping) = &mut self.flapping {
            flapping.changes += 1;
            flapping.changed = now;
            return Report::Nothing;
        }
        self.recent.retain(|change| now.since(*change) < WINDOW);
        let since = *self.recent.front().unwrap_or(&now);
        if self.recent.len() < CHANGES_MAX {
            self.recent.push_back(now);
            self.reported_state = state;
            return Report::Change;
        }
        let changes = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.recent.clear();
        self.flapping = Some(Flapping { since, changes, changed: now, reported: now });
        Report::Flapping(changes, now.since(since))
    }

    /// When [`Damper::on_time`] has something to do.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.flapping.map(|flapping| flapping.changed.after(QUIET).min(flapping.reported.after(REMINDER)))
    }

    /// Time has passed, and the state is this one. After [`Report::Settled`] a state that differs from
    /// [`Damper::reported_state`] is to be reported, and [`Damper::report`] records it.
    pub(super) fn on_time(&mut self, now: Moment) -> Report {
        let Some(flapping) = &mut self.flapping else { return Report::Nothing };
        if now >= flapping.changed.after(QUIET) {
            let report = Report::Settled(flapping.changes, flapping.changed.since(flapping.since));
            self.flapping = None;
            return report;
        }
        if now >= flapping.reported.after(REMINDER) {
            flapping.reported = now;
            return Report::Flapping(flapping.changes, now.since(flapping.since));
        }
        Report::Nothing
    }

    /// This state has been reported.
    pub(super) fn report(&mut self, state: bool) {
        self.reported_state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn six_changes_in_a_minute_are_reported_and_the_seventh_is_flapping() {
        let mut damper = Damper::new(true);
        for second in 0..6 {
            assert_eq!(damper.on_change(second % 2 == 1, at(second)), Report::Change);
        }
        assert!(damper.reported_state());
        assert_eq!(damper.on_change(false, at(59)), Report::Flapping(7, Duration::from_secs(59)));
        assert_eq!(damper.on_change(true, at(70)), Report::Nothing);
        assert_eq!(damper.next_due(), Some(at(130)));
        assert_eq!(damper.on_time(at(129)), Report::Nothing);
        assert_eq!(damper.on_time(at(130)), Report::Settled(8, Duration::from_secs(70)));
        assert_eq!(damper.next_due(), None);
        assert_eq!(damper.on_change(false, at(131)), Report::Change);
    }

    #[test]
    fn changes_that_are_rare_are_never_flapping() {
        let mut damper = Damper::new(true);
        for change in 0..100 {
            assert_eq!(damper.on_change(change % 2 == 1, at(change * 10)), Report::Change);
        }
    }

    #[test]
    fn flapping_that_lasts_is_reported_every_five_minutes() {
        let mut damper = Damper::new(true);
        let mut reports = Vec::new();
        for second in 0..=1000u64 {
            if damper.next_due().is_some_and(|due| due <= at(second)) {
                reports.push((second, damper.on_time(at(second))));
            }
            damper.on_change(second % 2 == 1, at(second));
        }
        let expected = [(306, 306), (606, 606), (906, 906)]
            .map(|(second, changes)| (second, Report::Flapping(changes, Duration::from_secs(second))));
        assert_eq!(reports, expected);
    }

    #[test]
    fn the_state_of_the_last_report_is_remembered() {
        let mut damper = Damper::new(false);
        assert!(!damper.reported_state());
        damper.report(true);
        assert!(damper.reported_state());
    }
}
