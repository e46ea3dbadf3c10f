//! Quorum with hysteresis, sorry servers and fail-open: what the real servers of a virtual service mean together.

use crate::health::spec::ServiceHealth;

/// A real server, as far as the rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The configured weight.
    pub(super) weight: u32,
    /// The weight that a check asks for.
    pub(super) check_weight: Option<u32>,
    /// Whether it serves only while quorum is lost.
    pub(super) is_sorry: bool,
    /// Whether no operator has disabled it.
    pub(super) is_enabled: bool,
    /// Whether it is up, or has no check.
    pub(super) is_up: bool,
    /// Whether its checks themselves have found it down: not a signal, and not the state before the first probe.
    pub(super) is_refuted: bool,
}

impl Member {
    /// Whether it counts: a weight of 0 and a disabled real server are an operator's will.
    fn is_candidate(&self) -> bool {
        self.is_enabled && self.weight > 0
    }

    /// The weight without slow start.
    fn weight(&self) -> u64 {
        if self.is_candidate() { u64::from(self.check_weight.unwrap_or(self.weight)) } else { 0 }
    }
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// Whether there is quorum.
    pub(super) has_quorum: bool,
    /// Whether all count as up.
    pub(super) fails_open: bool,
    /// Whether the sorry servers serve instead of the others.
    pub(super) uses_sorry: bool,
    /// Quorum is lost whatever the real servers that no probe has found down turn out to be.
    pub(super) is_certainly_lost: bool,
}

/// The rules of a virtual service that had quorum or not.
pub(super) fn rule(health: &ServiceHealth, members: &[Member], had_quorum: bool) -> Ruling {
    let own = || members.iter().filter(|member| !member.is_sorry && member.is_candidate());
    let candidates = own().count();
    let total: u64 = own().map(|member| u64::from(member.weight)).sum();
    let live: u64 = own().filter(|member| member.is_up).map(Member::weight).sum();
    let hoped: u64 = own().filter(|member| member.is_up || !member.is_refuted).map(Member::weight).sum();
    let open: u64 = own().map(Member::weight).sum();

    let bounds = Bounds::new(health, total);
    let has_live_sorry = members.iter().any(|member| member.is_sorry && member.is_up && member.weight() > 0);
    let not_refuted = own().filter(|member| !member.is_refuted).count();
    let wants_open = not_refuted < candidates.min(health.min_healthy as usize);
    let has_live_quorum = bounds.is_held(live, had_quorum);
    // A sorry server that serves is better than real servers that do not.
    let fails_open = wants_open && (has_live_quorum || !has_live_sorry);
    let has_quorum = if fails_open { bounds.is_held(open, had_quorum) } else { has_live_quorum };
    Ruling {
        has_quorum,
        fails_open,
        uses_sorry: !has_quorum && has_live_sorry,
        is_certainly_lost: !has_quorum && !bounds.is_held(hoped, had_quorum),
    }
}

/// Between which sums quorum stays what it is.
struct Bounds {
    lost_below: u64,
    gained_at: u64,
}

impl Bounds {
    fn new(health: &ServiceHealth, total: u64) -> Bounds {
        let quorum = u64::from(health.quorum).min(total).max(1);
        let hysteresis = u64::from(health.hysteresis).min(quorum - 1);
        // Quorum that not even all real servers could regain would be lost for ever.
        let gained_at = (quorum + hysteresis).min(total).max(1);
        Bounds { lost_below: (quorum - hysteresis).max(1), gained_at }
    }

    fn is_held(&self, sum: u64, had_quorum: bool) -> bool {
        sum >= if had_quorum { self.lost_below } else { self.gained_at }
    }
}
