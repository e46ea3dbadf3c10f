//! Which probes run and which wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::class::Class;
use super::line::Line;
use super::shared::{CheckId, ProbeId, SharedCheck};
use super::spread::{SPREAD_MAX, part};
use crate::health::load::{Limits, Load};
use crate::time::Moment;

/// No call for this long although a probe was due or had to end: the daemon was stopped, or its host was.
const STOPPED: Duration = Duration::from_secs(2);
/// A probe ends at most this long after its timeout: a program first gets SIGTERM.
const TIMEOUT_GRACE: Duration = Duration::from_secs(3);
/// So many overdue probes may begin at once; more are spread.
const BURST_MAX: usize = 16;

/// All checks, their running probes and their times.
#[derive(Debug, Default)]
pub(super) struct Queue {
    checks: BTreeMap<CheckId, SharedCheck>,
    by_rip: BTreeSet<(IpAddr, CheckId)>,
    /// Those over sockets, and those with a program.
    lines: [Line; 2],
    running: BTreeMap<ProbeId, Running>,
    /// By when each running probe has ended.
    ends: BTreeSet<(Moment, ProbeId)>,
    probes: u64,
    next_check: u64,
    /// The last call.
    called: Moment,
}

/// A running probe.
#[derive(Debug)]
struct Running {
    /// `None`: the check has been removed since.
    check: Option<CheckId>,
    line: usize,
    class: Class,
    ends: Moment,
}

/// A check whose probe runs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// The check.
    pub(super) check: CheckId,
    /// Its probe had to end long ago: the daemon was stopped, or its host was.
    pub(super) is_overrun: bool,
}

impl Queue {
    /// A check.
    pub(super) fn check(&self, id: CheckId) -> Option<&SharedCheck> {
        self.checks.get(&id)
    }

    /// The checks of a real server.
    pub(super) fn checks_of(&self, rip: IpAddr) -> impl Iterator<Item = (CheckId, &SharedCheck)> {
        let ids = self.by_rip.range((rip, CheckId(0))..=(rip, CheckId(u64::MAX)));
        ids.filter_map(|(_, id)| Some((*id, self.checks.get(id)?)))
    }

    /// Adds a check.
    pub(super) fn add(&mut self, check: SharedCheck) -> CheckId {
        let id = CheckId(self.next_check);
        self.next_check += 1;
        self.lines[check.line()].insert(check.class(), check.due, id);
        self.by_rip.insert((check.key.rip, id));
        self.checks.insert(id, check);
        id
    }

    /// Before a change of the configuration: no check has a user.
    pub(super) fn forget_users(&mut self) {
        for check in self.checks.values_mut() {
            check.users.clear();
        }
    }

    /// Removes the checks without a user; the outcomes of their running probes are ignored.
    pub(super) fn remove_unused(&mut self) {
        self.checks.retain(|_, check| !check.users.is_empty());
        let checks = &self.checks;
        self.lines.iter_mut().for_each(|line| line.retain(|id| checks.contains_key(&id)));
        self.by_rip.retain(|(_, id)| checks.contains_key(id));
        for running in self.running.values_mut() {
            running.check = running.check.filter(|id| checks.contains_key(id));
        }
    }

    /// Changes a check; its place in the queue follows.
    pub(super) fn change<T>(&mut self, id: CheckId, change: impl FnOnce(&mut SharedCheck) -> T) -> Option<T> {
        let check = self.checks.get_mut(&id)?;
        if !check.is_running() {
            self.lines[check.line()].remove(check.class(), check.due, id);
        }
        let result = change(check);
        if !check.is_running() {
            self.lines[check.line()].insert(check.class(), check.due, id);
        }
        Some(result)
    }

    /// When the next probe is due that finds a place.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.lines.iter().filter_map(Line::next_due).min()
    }

    /// The check whose probe begins now, if one is due and finds a place.
    pub(super) fn take_due(&mut self, limits: Limits, now: Moment) -> Option<(CheckId, ProbeId)> {
        let [network, programs] = &mut self.lines;
        network.limit(limits.network);
        programs.limit(limits.programs);
        let taken = |(at, line): (usize, &mut Line)| line.take_due(now).map(|taken| (at, taken));
        let (line, (id, class, due)) = self.lines.iter_mut().enumerate().find_map(taken)?;
        let probe = ProbeId(self.probes);
        self.probes += 1;
        let check = self.checks.get(&id)?;
        let (interval, timeout) = (check.config().interval, check.config().timeout);
        self.lines[line].lateness.add(now.since(due), interval, now);
        let ends = now.after(timeout.saturating_add(TIMEOUT_GRACE));
        self.ends.insert((ends, probe));
        self.running.insert(probe, Running { check: Some(id), line, class, ends });
        Some((id, probe))
    }

    /// A check whose place in the queue was taken by [`Queue::take_due`].
    pub(super) fn taken(&mut self, id: CheckId) -> Option<&mut SharedCheck> {
        self.checks.get_mut(&id)
    }

    /// The check of a running probe, which runs no more.
    pub(super) fn release(&mut self, probe: ProbeId, now: Moment) -> Option<Released> {
        self.resume(now);
        let Running { check, line, class, ends } = self.running.remove(&probe)?;
        self.ends.remove(&(ends, probe));
        self.lines[line].release(class);
        Some(Released { check: check?, is_overrun: now > ends })
    }

    /// Spreads overdue probes if there was no call for a while.
    pub(super) fn resume(&mut self, now: Moment) {
        let called = std::mem::replace(&mut self.called, now);
        let first_end = self.ends.first().map(|(end, _)| *end);
        let expected = self.next_due().into_iter().chain(first_end).min();
        if expected.is_none_or(|first| now.since(first.max(called)) < STOPPED) {
            return;
        }
        let mut overdue: Vec<_> = self.lines.iter().flat_map(|line| line.overdue(now)).collect();
        if overdue.len() <= BURST_MAX {
            return;
        }
        overdue.sort_unstable();
        for (at, (_, id)) in overdue.iter().enumerate() {
            self.change(*id, |check| {
                let span = check.config().interval.min(SPREAD_MAX);
                check.due = now.after(part(span, at as u64, overdue.len() as u64));
            });
        }
    }

    /// As published. Without a check, nothing is late.
    pub(super) fn load(&self, now: Moment) -> Load {
        let [mut network, mut programs] = self.lines.each_ref().map(|line| line.load(now));
        for line in [&mut network, &mut programs] {
            line.late = line.late.filter(|_| !self.checks.is_empty());
        }
        Load { network, programs }
    }
}
