//! The state of one check: outcomes in, up or down out.
//!
//! ```text
//!            first failure, or `fall` failures in a row, or a signal
//!        ┌────────────────────────────────────────────────────────────▶┐
//!        up                                                            down
//!        └◀────────────────────────────────────────────────────────────┘
//!            first success, or `rise` successes in a row, or one that contradicts a signal
//! ```
//!
//! A success that avoids the tunnel contradicts no signal about it: until the signal has not recurred for a while
//! ([`super::hold`]), such successes do not make it up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::hold::Hold;
use super::words::{Way, describe};
use crate::health::durations::Durations;
use crate::health::spec::{CheckConfig, Start, Via};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};
use crate::health::view::{CheckView, State};
use crate::time::Moment;

/// What a state rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Nothing yet: the next outcome that counts decides.
    Assumed,
    /// A passive signal, which no probe has confirmed.
    Signal,
    /// Probes.
    Probed,
}

/// A weight that a check requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    Weight(u32),
    /// Of the configured one.
    Percent(u32),
}

impl Requested {
    /// The weight of a real server with this configured one. It is 0 only if 0 is requested or configured.
    pub(super) fn of(self, configured: u32) -> u32 {
        match self {
            Requested::Weight(weight) => weight,
            Requested::Percent(percent) => {
                let weight = (u64::from(configured) * u64::from(percent)).div_ceil(100);
                u32::try_from(weight).unwrap_or(u32::MAX)
            }
        }
    }
}

/// What follows from a check for its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it is up.
    pub(super) is_up: bool,
    /// What that rests on.
    pub(super) basis: Basis,
    /// The weight that its last success requested, while it is up.
    pub(super) weight: Option<Requested>,
}

/// One check of one real server.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    is_up: bool,
    basis: Basis,
    since: Moment,
    /// Outcomes in a row that contradict the state.
    contrary: u32,
    /// Failures in a row since it is down.
    down_failures: u32,
    /// A signal waits for confirmation: one failed probe.
    is_doubted: bool,
    /// Signals that its probes cannot contradict.
    hold: Hold,
    last: Option<Result<(), Failure>>,
    /// Of the last probe that succeeded.
    success: Success,
    /// As measured last.
    path_mtu: Option<u16>,
    took: Duration,
    durations: Durations,
    /// The cause when it became down.
    why: Option<Cause>,
    successes: u64,
    failures: BTreeMap<FailureClass, u64>,
}

#[derive(Clone, Debug)]
struct Cause {
    class: Option<FailureClass>,
    words: String,
}

/// The configuration of the check, and how its failures are described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// Its configuration.
    pub(super) config: &'a CheckConfig,
    /// The address that is named when it does not answer.
    pub(super) asked: IpAddr,
    /// The way of its probes.
    pub(super) way: Way,
    /// Whether failures do not count yet.
    pub(super) is_grace: bool,
    /// Whether the probe began before a signal.
    pub(super) is_stale: bool,
}

impl Context<'_> {
    /// Whether its probes see nothing of the tunnel.
    fn avoids_tunnel(&self) -> bool {
        self.way == Some(Via::Direct)
    }
}

impl Machine {
    /// A check that was never probed, in the state that its configuration starts with.
    pub(super) fn new(start: Start, now: Moment) -> Machine {
        Machine::assume(start == Start::Up, "no probe has succeeded yet", now)
    }

    /// A check that was changed: it continues in the state of the one before, and begins to count again. `is_same_kind`: the weight that
    /// was requested holds until the next success.
    pub(super) fn changed(&self, is_same_kind: bool, now: Moment) -> Machine {
        let words = "no probe has succeeded since the check was changed";
        let Success { weight, weight_percent, .. } = self.success;
        let success = Success { weight, weight_percent, ..Success::default() };
        Machine {
            basis: self.basis,
            hold: self.hold,
            success: if is_same_kind { success } else { Success::default() },
            ..Machine::assume(self.is_up, words, now)
        }
    }

    /// A check that was added to a real server whose other checks have made it this.
    pub(super) fn added(is_up: bool, now: Moment) -> Machine {
        let words = "no probe has succeeded since the check was added";
        Machine { basis: Basis::Probed, ..Machine::assume(is_up, words, now) }
    }

    fn assume(is_up: bool, words: &str, now: Moment) -> Machine {
        let cause = Cause { class: None, words: words.to_owned() };
        Machine {
            is_up,
            basis: Basis::Assumed,
            since: now,
            contrary: 0,
            down_failures: 0,
            is_doubted: false,
            hold: Hold::default(),
            last: None,
            success: Success::default(),
            path_mtu: None,
            took: Duration::ZERO,
            durations: Durations::default(),
            why: (!is_up).then_some(cause),
            successes: 0,
            failures: BTreeMap::new(),
        }
    }

    /// What follows for the real server.
    pub(super) fn standing(&self) -> Standing {
        let Success { weight, weight_percent, .. } = self.success;
        let requested = weight.map(Requested::Weight).or(weight_percent.map(Requested::Percent));
        let weight = requested.filter(|_| self.is_up);
        Standing { is_up: self.is_up, basis: self.basis, weight }
    }

    /// A probe has ended.
    pub(super) fn on_outcome(&mut self, outcome: Outcome, took: Duration, context: Context, now: Moment) {
        self.took = took;
        self.durations.add(took);
        self.last = Some(match outcome {
            Ok(success) => {
                self.path_mtu = success.path_mtu;
                self.success = success;
                self.on_success(context, now);
                Ok(())
            }
            Err(failure) => {
                // A probe without an answer has measured nothing.
                self.path_mtu = failure.path_mtu.or(self.path_mtu);
                self.on_failure(&failure, context, now);
                Err(failure)
            }
        });
    }

    fn on_success(&mut self, context: Context, now: Moment) {
        self.successes += 1;
        self.is_doubted = false;
        self.down_failures = 0;
        if self.is_up {
            self.contrary = 0;
            self.basis = Basis::Probed;
            return;
        }
        if context.is_stale && self.basis == Basis::Signal {
            return;
        }
        let rise = context.config.rise.max(1);
        self.contrary = self.contrary.saturating_add(1).min(rise);
        let is_decisive = match self.basis {
            Basis::Assumed => true,
            Basis::Signal => !context.avoids_tunnel(),
            Basis::Probed => false,
        };
        let is_held = context.avoids_tunnel() && self.hold.lasts(now);
        if !is_held && (is_decisive || self.contrary == rise) {
            self.become_up(now);
        }
    }

    fn on_failure(&mut self, failure: &Failure, context: Context, now: Moment) {
        *self.failures.entry(failure.class).or_default() += 1;
        // A probe that this host could not make proves nothing about the real server.
        if failure.class == FailureClass::Local || context.is_grace {
            return;
        }
        let words = describe(failure, context.asked, context.way);
        if !self.is_up {
            self.contrary = 0;
            self.down_failures = self.down_failures.saturating_add(1);
            let count = match self.basis {
                Basis::Assumed => Some("no probe has succeeded yet"),
                Basis::Signal => Some("first probe after a signal"),
                Basis::Probed => None,
            };
            if let Some(count) = count {
                self.basis = Basis::Probed;
                self.why = Some(Cause { class: Some(failure.class), words: format!("{words}, {count}") });
            }
            return;
        }
        self.contrary += 1;
        let fall = context.config.fall.max(1);
        let count = match (self.basis, self.is_doubted) {
            (Basis::Assumed, _) => Some("first probe".to_owned()),
            (_, true) => Some("first probe after a signal".to_owned()),
            _ => (self.contrary >= fall).then(|| format!("{} of {fall}", self.contrary)),
        };
        if let Some(count) = count {
            let cause = Cause { class: Some(failure.class), words: format!("{words}, {count}") };
            self.become_down(Basis::Probed, cause, now);
        }
    }

    /// A signal makes it down. Probes that avoid the tunnel do not make it up before it has not recurred for a while.
    pub(super) fn on_signal(&mut self, mut words: String, way: Way, now: Moment) {
        if self.is_up {
            if way == Some(Via::Direct) {
                let quiet = humantime::format_duration(self.hold.begin(now));
                words += &format!("; direct checks count again after {quiet} without such an answer");
            }
            self.become_down(
                Basis::Signal,
                Cause { class: Some(FailureClass::ProtocolUnreachable), words },
                now,
            );
        }
    }

    /// A signal has arrived: if one has made it down, it has recurred.
    pub(super) fn on_signal_again(&mut self, now: Moment) {
        if !self.is_up {
            self.hold.prolong(now);
        }
    }

    /// A probe through the tunnel contradicts the signals.
    pub(super) fn end_hold(&mut self) {
        self.hold.end();
    }

    /// A signal has arrived, but a probe must confirm it.
    pub(super) fn doubt(&mut self) {
        self.is_doubted = self.is_up;
    }

    fn become_up(&mut self, now: Moment) {
        self.is_up = true;
        self.basis = Basis::Probed;
        self.since = now;
        self.contrary = 0;
        self.why = None;
    }

    fn become_down(&mut self, basis: Basis, cause: Cause, now: Moment) {
        self.is_up = false;
        self.basis = basis;
        self.since = now;
        self.contrary = 0;
        self.down_failures = 0;
        self.is_doubted = false;
        self.why = Some(cause);
    }

    /// From the beginning of the last probe to that of the next.
    pub(super) fn pause(&self, config: &CheckConfig) -> Duration {
        let is_held = !self.is_up && self.contrary >= config.rise.max(1);
        if self.contrary > 0 && !is_held {
            return config.fast_interval.unwrap_or(config.interval);
        }
        match config.down_interval {
            Some(longest) if !self.is_up => {
                let factor = 1u32.checked_shl(self.down_failures).unwrap_or(u32::MAX);
                config.interval.saturating_mul(factor).min(longest)
            }
            _ => config.interval,
        }
    }

    /// Whether its last probe has succeeded.
    pub(super) fn has_just_succeeded(&self) -> bool {
        matches!(self.last, Some(Ok(())))
    }

    /// Whether it is up without a doubt.
    pub(super) fn is_well(&self) -> bool {
        self.is_up && self.is_confirmed()
    }

    /// Whether the last outcome agrees with the state.
    pub(super) fn is_confirmed(&self) -> bool {
        self.contrary == 0
    }

    /// Why it is down, in one sentence.
    pub(super) fn why(&self, asked: IpAddr, way: Way) -> Option<String> {
        let cause = self.why.as_ref()?;
        match &self.last {
            Some(Err(failure)) if cause.class.is_some_and(|class| class != failure.class) => {
                Some(format!("{}; most recently {}", cause.words, describe(failure, asked, way)))
            }
            _ => Some(cause.words.clone()),
        }
    }

    /// As published.
    pub(super) fn view(&self, kind: &'static str, asked: IpAddr, way: Way) -> CheckView {
        CheckView {
            kind,
            state: if self.is_up { State::Up } else { State::Down },
            since: self.since,
            contrary: self.contrary,
            last: self.last.as_ref().map(|last| match last {
                Ok(()) => Ok(()),
                Err(failure) => Err((failure.class, failure.text.clone())),
            }),
            took: self.took,
            durations: self.durations.clone(),
            why: self.why(asked, way),
            cause: self.why.as_ref().and_then(|cause| cause.class),
            warning: self.success.warning.clone().filter(|_| self.has_just_succeeded()),
            path_mtu: self.path_mtu,
            successes: self.successes,
            failures: self.failures.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_the_configured_weight_and_rounded_up() {
        let of = |percent, configured| Requested::Percent(percent).of(configured);
        assert_eq!([of(50, 100), of(50, 1), of(1, 1), of(0, 100), of(100, 0)], [50, 1, 1, 0, 0]);
        assert_eq!([of(1000, 3), of(1000, u32::MAX)], [30, u32::MAX]);
        assert_eq!(Requested::Weight(7).of(100), 7);
    }
}
