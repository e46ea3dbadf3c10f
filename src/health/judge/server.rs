//! A real server of a virtual service, with the common result of its checks.

use std::net::IpAddr;

use super::damper::Damper;
use super::input::JudgedServer;
use super::machine::Basis;
use super::queue::Queue;
use super::quorum::Member;
use super::ramp::{Ramp, WHOLE};
use super::shared::{CheckId, SharedCheck};
use crate::health::spec::Agreement;
use crate::health::view::{ServerView, State};
use crate::time::Moment;

/// A real server of a virtual service.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Its name.
    pub(super) name: String,
    /// Its RIP.
    pub(super) rip: IpAddr,
    /// The configured weight.
    pub(super) weight: u32,
    /// Whether it serves only while quorum is lost.
    pub(super) is_sorry: bool,
    /// Whether no operator has disabled it.
    pub(super) is_enabled: bool,
    /// In the order of the configuration.
    pub(super) checks: Vec<CheckId>,
    /// Their common result.
    pub(super) state: State,
    /// When it became that.
    pub(super) since: Moment,
    /// The weight that they request.
    pub(super) check_weight: Option<u32>,
    /// Whether its checks themselves have found it down.
    pub(super) is_refuted: bool,
    /// Whether its first state is not known yet: no probe and no signal has decided it.
    pub(super) is_assumed: bool,
    /// Whether its first state was no news: it came with its virtual service, and no probe has ended since.
    pub(super) is_fresh: bool,
    /// Its slow start, while that lasts.
    pub(super) ramp: Option<Ramp>,
    /// Its changes as reported.
    pub(super) damper: Damper,
}

/// The common result of the checks of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Up, down or unchecked.
    pub(super) state: State,
    /// The least weight that its checks request, while it is up.
    pub(super) weight: Option<u32>,
    /// Down, and not for want of probes.
    pub(super) is_refuted: bool,
    /// Nothing has decided yet: some check was never probed, and the others do not suffice.
    pub(super) is_assumed: bool,
}

/// The common result of these checks of a real server with this configured weight.
pub(super) fn find(checks: &[CheckId], queue: &Queue, agreement: Agreement, configured: u32) -> Finding {
    let standings: Vec<_> =
        checks.iter().filter_map(|id| queue.check(*id)).map(|check| check.machine.standing()).collect();
    let is_found_down = |is_up: bool, basis: Basis| !is_up && basis == Basis::Probed;
    let (is_up, is_refuted, is_proven) = match agreement {
        Agreement::All => (
            standings.iter().all(|it| it.is_up),
            standings.iter().any(|it| is_found_down(it.is_up, it.basis)),
            false,
        ),
        Agreement::Any => (
            standings.iter().any(|it| it.is_up),
            standings.iter().all(|it| is_found_down(it.is_up, it.basis)),
            standings.iter().any(|it| it.is_up && it.basis == Basis::Probed),
        ),
    };
    if standings.is_empty() {
        return Finding { state: State::Unchecked, weight: None, is_refuted: false, is_assumed: false };
    }
    Finding {
        state: if is_up { State::Up } else { State::Down },
        weight: standings
            .iter()
            .filter(|_| is_up)
            .filter_map(|it| it.weight)
            .map(|it| it.of(configured))
            .min(),
        is_refuted,
        is_assumed: !is_refuted && !is_proven && standings.iter().any(|it| it.basis == Basis::Assumed),
    }
}

impl Server {
    /// A real server in the state that results from its checks.
    pub(super) fn new(given: &JudgedServer, checks: Vec<CheckId>, finding: Finding, now: Moment) -> Server {
        Server {
            name: given.name.to_owned(),
            rip: given.rip,
            weight: given.weight,
            is_sorry: given.is_sorry,
            is_enabled: given.is_enabled,
            checks,
            state: finding.state,
            since: now,
            check_weight: finding.weight,
            is_refuted: finding.is_refuted,
            is_assumed: true,
            is_fresh: true,
            ramp: None,
            damper: Damper::new(finding.state != State::Down),
        }
    }

    /// Continues the same real server of the configuration before.
    pub(super) fn succeed(&mut self, old: Server) {
        *self = Server {
            name: std::mem::take(&mut self.name),
            checks: std::mem::take(&mut self.checks),
            weight: self.weight,
            is_sorry: self.is_sorry,
            is_enabled: self.is_enabled,
            ..old
        };
    }

    /// For the rules of its virtual service.
    pub(super) fn member(&self) -> Member {
        Member {
            weight: self.weight,
            check_weight: self.check_weight,
            is_sorry: self.is_sorry,
            is_enabled: self.is_enabled,
            is_up: self.state != State::Down,
            is_refuted: self.is_refuted,
            is_assumed: self.is_assumed,
        }
    }

    /// Why it is down: the checks that are, in the order of the configuration.
    pub(super) fn why(&self, queue: &Queue) -> String {
        let whys = self.checks.iter().filter_map(|id| queue.check(*id)).filter_map(SharedCheck::why);
        whys.collect::<Vec<_>>().join("; ")
    }

    /// As published.
    pub(super) fn view(&self, queue: &Queue, now: Moment) -> ServerView {
        ServerView {
            state: self.state,
            is_enabled: self.is_enabled,
            since: self.since,
            weight: self.check_weight,
            share: self.ramp.map_or(WHOLE, |ramp| ramp.share(now)),
            checks: self.checks.iter().filter_map(|id| queue.check(*id)).map(SharedCheck::view).collect(),
        }
    }
}
