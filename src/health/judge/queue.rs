//! Which probes run and which wait, oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::shared::{CheckId, ProbeId, SharedCheck};
use super::spread::part;
use crate::time::Moment;

/// No call for this long although a probe was due: the host was suspended, or the daemon was stopped.
const STOPPED: Duration = Duration::from_secs(2);
/// So many overdue probes may begin at once; more are spread.
const BURST_MAX: usize = 16;
/// Overdue probes are spread over their interval, but over no more than this.
const SPREAD_MAX: Duration = Duration::from_secs(10);

/// All checks, their running probes and their times.
#[derive(Debug, Default)]
pub(super) struct Queue {
    checks: BTreeMap<CheckId, SharedCheck>,
    by_rip: BTreeSet<(IpAddr, CheckId)>,
    /// Those without a running probe.
    waiting: BTreeSet<(Moment, CheckId)>,
    /// `None`: the check has been removed since.
    running: BTreeMap<ProbeId, Option<CheckId>>,
    /// As given last; no probe is due while so many run.
    running_max: usize,
    probes: u64,
    next_check: u64,
    /// The last call, or the end of a probe while as many ran as may.
    called: Moment,
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
        self.waiting.insert((check.due, id));
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
        self.waiting.retain(|(_, id)| checks.contains_key(id));
        self.by_rip.retain(|(_, id)| checks.contains_key(id));
        for check in self.running.values_mut() {
            *check = check.filter(|id| checks.contains_key(id));
        }
    }

    /// Changes a check; its place in the queue follows.
    pub(super) fn change<T>(&mut self, id: CheckId, change: impl FnOnce(&mut SharedCheck) -> T) -> Option<T> {
        let check = self.checks.get_mut(&id)?;
        if !check.is_running() {
            self.waiting.remove(&(check.due, id));
        }
        let result = change(check);
        if !check.is_running() {
            self.waiting.insert((check.due, id));
        }
        Some(result)
    }

    /// When the next probe is due; `None` while as many run as may.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.waiting.first().filter(|_| !self.is_full()).map(|(due, _)| *due)
    }

    /// The check whose probe begins now, if one is due and fewer than `running_max` run.
    pub(super) fn take_due(&mut self, running_max: usize, now: Moment) -> Option<(CheckId, ProbeId)> {
        self.running_max = running_max;
        let &(due, id) = self.waiting.first()?;
        if due > now || self.running.len() >= running_max {
            return None;
        }
        self.waiting.pop_first();
        let probe = ProbeId(self.probes);
        self.probes += 1;
        self.running.insert(probe, Some(id));
        Some((id, probe))
    }

    /// A check whose place in the queue was taken by [`Queue::take_due`].
    pub(super) fn taken(&mut self, id: CheckId) -> Option<&mut SharedCheck> {
        self.checks.get_mut(&id)
    }

    /// The check of a running probe, which runs no more.
    pub(super) fn release(&mut self, probe: ProbeId, now: Moment) -> Option<CheckId> {
        if self.is_full() {
            self.called = now;
        }
        self.running.remove(&probe).flatten()
    }

    fn is_full(&self) -> bool {
        self.running_max > 0 && self.running.len() >= self.running_max
    }

    /// Spreads overdue probes if there was no call for a while.
    pub(super) fn resume(&mut self, now: Moment) {
        let called = std::mem::replace(&mut self.called, now);
        let is_stopped = self.next_due().is_some_and(|first| now.since(first.max(called)) >= STOPPED);
        if !is_stopped {
            return;
        }
        let overdue: Vec<CheckId> =
            self.waiting.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        if overdue.len() <= BURST_MAX {
            return;
        }
        for (at, id) in overdue.iter().enumerate() {
            self.change(*id, |check| {
                let span = check.config().interval.min(SPREAD_MAX);
                check.due = now.after(part(span, at as u64, overdue.len() as u64));
            });
        }
    }
}
