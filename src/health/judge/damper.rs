//! Flapping: something that changes too often is reported as such, and no longer change by change. A change to
//! bad is reported at once nevertheless, so that what depends on it ends in time; a recovery waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::health::hook::Cause;
use crate::time::Moment;

/// More changes than this within [`WINDOW`] are flapping.
pub(super) const CHANGES_MAX: usize = 6;
/// See [`CHANGES_MAX`].
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Without a change for this long, it has settled.
pub(super) const QUIET: Duration = Duration::from_secs(60);
/// Flapping that lasts is reported again after this time, and one recovery is.
pub(super) const REMINDER: Duration = Duration::from_secs(300);

/// What is to be reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// That it flaps or has settled.
    pub(super) summary: Option<Summary>,
    /// Its state, for this cause. It differs from the one that was reported before.
    pub(super) told: Option<Cause>,
}

/// Many changes in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Summary {
    /// It flaps: the changes so far, and in which time.
    Flapping(u32, Duration),
    /// It has settled: the changes in all, and in which time.
    Settled(u32, Duration),
}

/// Something that is good or bad, and may flap.
#[derive(Clone, Debug)]
pub(super) struct Damper {
    /// The state that was reported last.
    told_good: bool,
    recent: VecDeque<Moment>,
    flapping: Option<Flapping>,
}

#[derive(Clone, Copy, Debug)]
struct Flapping {
    since: Moment,
    changes: u32,
    changed: Moment,
    reported: Moment,
    /// Whether the next recovery is reported: once after each reminder.
    may_recover: bool,
}

impl Report {
    const NOTHING: Report = Report { summary: None, told: None };

    /// The same for this cause, if a state is reported.
    pub(super) fn because(self, cause: Cause) -> Report {
        Report { told: self.told.map(|_| cause), ..self }
    }
}

impl Damper {
    /// Begins in this state, unreported.
    pub(super) fn new(is_good: bool) -> Damper {
        Damper { told_good: is_good, recent: VecDeque::new(), flapping: None }
    }

    /// Its first state is known.
    pub(super) fn begin(&mut self, is_good: bool) -> Report {
        self.told_good = is_good;
        Report { told: Some(Cause::Start), ..Report::NOTHING }
    }

    /// It has become good or bad.
    pub(super) fn on_change(&mut self, is_good: bool, now: Moment) -> Report {
        if let Some(flapping) = &mut self.flapping {
            flapping.changes = flapping.changes.saturating_add(1);
            flapping.changed = now;
            return Report { told: self.tell(is_good, Cause::Change), ..Report::NOTHING };
        }
        self.recent.retain(|change| now.since(*change) < WINDOW);
        let since = *self.recent.front().unwrap_or(&now);
        if self.recent.len() < CHANGES_MAX {
            self.recent.push_back(now);
            return Report { told: self.tell(is_good, Cause::Change), ..Report::NOTHING };
        }
        let changes = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.recent.clear();
        self.flapping = Some(Flapping { since, changes, changed: now, reported: now, may_recover: false });
        let summary = Some(Summary::Flapping(changes, now.since(since)));
        Report { summary, told: self.tell(is_good, Cause::Change) }
    }

    /// When [`Damper::on_time`] has something to do.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.flapping.map(|flapping| flapping.changed.after(QUIET).min(flapping.reported.after(REMINDER)))
    }

    /// Time has passed, and it is good or bad.
    pub(super) fn on_time(&mut self, is_good: bool, now: Moment) -> Report {
        let Some(flapping) = &mut self.flapping else { return Report::NOTHING };
        let summary = if now >= flapping.changed.after(QUIET) {
            let summary = Summary::Settled(flapping.changes, flapping.changed.since(flapping.since));
            self.flapping = None;
            summary
        } else if now >= flapping.reported.after(REMINDER) {
            flapping.reported = now;
            flapping.may_recover = true;
            Summary::Flapping(flapping.changes, now.since(flapping.since))
        } else {
            return Report::NOTHING;
        };
        Report { summary: Some(summary), told: self.tell(is_good, Cause::Reminder) }
    }

    /// Whether the state is reported now: only if it differs from the last one, and a recovery only if it may be.
    fn tell(&mut self, is_good: bool, cause: Cause) -> Option<Cause> {
        let may_recover = self.flapping.is_none_or(|flapping| flapping.may_recover);
        if is_good == self.told_good || is_good && !may_recover {
            return None;
        }
        if let (true, Some(flapping)) = (is_good, &mut self.flapping) {
            flapping.may_recover = false;
        }
        self.told_good = is_good;
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn told(cause: Cause) -> Report {
        Report { told: Some(cause), ..Report::NOTHING }
    }

    fn flapping(changes: u32, seconds: u64) -> Option<Summary> {
        Some(Summary::Flapping(changes, Duration::from_secs(seconds)))
    }

    /// Flaps since the seventh change, which was at this second and made it bad.
    fn flaps_since(second: u64) -> Damper {
        let mut damper = Damper::new(true);
        for change in 0..7 {
            damper.on_change(change % 2 == 1, at(second - 6 + change));
        }
        damper
    }

    #[test]
    fn six_changes_in_a_minute_are_reported_and_the_seventh_is_flapping() {
        let mut damper = Damper::new(true);
        for second in 0..6 {
            assert_eq!(damper.on_change(second % 2 == 1, at(second)), told(Cause::Change));
        }
        let report = damper.on_change(false, at(59));
        assert_eq!(report, Report { summary: flapping(7, 59), told: Some(Cause::Change) });
        assert_eq!(damper.on_change(true, at(70)), Report::NOTHING);
        assert_eq!(damper.next_due(), Some(at(130)));
        assert_eq!(damper.on_time(true, at(129)), Report::NOTHING);
        let summary = Some(Summary::Settled(8, Duration::from_secs(70)));
        assert_eq!(damper.on_time(true, at(130)), Report { summary, told: Some(Cause::Reminder) });
        assert_eq!(damper.next_due(), None);
        assert_eq!(damper.on_change(false, at(131)), told(Cause::Change));
    }

    #[test]
    fn changes_that_are_rare_are_never_flapping() {
        let mut damper = Damper::new(true);
        for change in 0..100 {
            assert_eq!(damper.on_change(change % 2 == 1, at(change * 10)), told(Cause::Change));
        }
    }

    #[test]
    fn while_it_flaps_bad_is_reported_at_once_and_good_is_not() {
        let mut damper = Damper::new(false);
        for change in 0..7 {
            damper.on_change(change % 2 == 0, at(change));
        }
        assert_eq!(damper.on_change(false, at(10)), Report::NOTHING, "the last one was bad");
        let mut damper = flaps_since(6);
        assert_eq!(damper.on_change(true, at(7)), Report::NOTHING);
        assert_eq!(damper.on_change(false, at(8)), Report::NOTHING);
        assert_eq!(damper.on_change(true, at(9)), Report::NOTHING);
    }

    #[test]
    fn a_reminder_reports_a_state_that_differs_or_permits_the_next_recovery() {
        // It changes every 50 s, so that it never settles.
        let mut damper = flaps_since(6);
        for second in [56, 106, 156, 206, 256] {
            damper.on_change(second % 100 == 56, at(second));
        }
        let report = damper.on_time(true, at(306));
        assert_eq!(report, Report { summary: flapping(12, 306), told: Some(Cause::Reminder) });
        assert_eq!(damper.on_change(false, at(307)), told(Cause::Change), "bad again");
        for second in [356, 406, 456, 506, 556] {
            assert_eq!(damper.on_change(second % 100 == 56, at(second)), Report::NOTHING);
        }
        assert_eq!(damper.on_change(false, at(600)), Report::NOTHING);
        assert_eq!(damper.on_time(false, at(606)).told, None, "that was reported");
        assert_eq!(damper.on_change(true, at(650)), told(Cause::Change));
        assert_eq!(damper.on_change(false, at(651)), told(Cause::Change));
        assert_eq!(damper.on_change(true, at(652)), Report::NOTHING, "one recovery for each reminder");
    }

    #[test]
    fn flapping_that_lasts_is_reported_every_five_minutes_and_its_state_twice_in_that_time() {
        let mut damper = Damper::new(true);
        let (mut reports, mut told) = (Vec::new(), Vec::new());
        for second in 0..=1000u64 {
            let is_good = second % 2 == 1;
            if damper.next_due().is_some_and(|due| due <= at(second)) {
                let report = damper.on_time(!is_good, at(second));
                reports.push((second, report.summary));
                told.extend(report.told.map(|_| !is_good));
            }
            told.extend(damper.on_change(is_good, at(second)).told.map(|_| is_good));
        }
        let expected = [(306, 306), (606, 606), (906, 906)]
            .map(|(second, changes)| (second, flapping(changes, u64::from(changes))));
        assert_eq!(reports, expected);
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "one state twice: {told:?}");
        assert_eq!(told.len(), 7 + 3 * 2);
    }

    #[test]
    fn the_first_state_is_reported_whatever_it_is() {
        for is_good in [true, false] {
            let mut damper = Damper::new(false);
            assert_eq!(damper.begin(is_good), told(Cause::Start));
            assert_eq!(damper.on_change(!is_good, at(1)), told(Cause::Change));
            assert_eq!(damper.on_change(is_good, at(1)).because(Cause::Start), told(Cause::Start));
        }
        assert_eq!(Report::NOTHING.because(Cause::Start), Report::NOTHING);
    }
}
