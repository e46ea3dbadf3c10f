//! Quorum with hysteresis, sorry servers and fail-open: what the real servers of a virtual service mean together.

use crate::health::spec::ServiceHealth;

/// A real server, as far as the rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The configured weight.
    pub(super) weight: u32,
    /// The weight that a check requests.
    pub(super) check_weight: Option<u32>,
    /// Whether it serves only while quorum is lost.
    pub(super) is_sorry: bool,
    /// Whether no operator has disabled it.
    pub(super) is_enabled: bool,
    /// Whether it is up, or has no check.
    pub(super) is_up: bool,
    /// Whether its checks themselves have found it down: not a signal, and not the state before the first probe.
    pub(super) is_refuted: bool,
    /// Whether that it is up or down rests on no probe and on no signal yet.
    pub(super) is_assumed: bool,
}

impl Member {
    /// Whether it counts: a weight of 0 and a disabled real server are an operator's will.
    pub(super) fn is_candidate(&self) -> bool {
        self.is_enabled && self.weight > 0
    }

    /// The weight of a candidate, without slow start.
    fn weight(&self) -> u64 {
        u64::from(self.check_weight.unwrap_or(self.weight))
    }
}

/// What follows from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    /// Whether there is quorum.
    pub(super) has_quorum: bool,
    /// Whether all count as up.
    pub(super) fails_open: bool,
    /// Whether the sorry servers serve instead of the others.
    pub(super) uses_sorry: bool,
    /// Whether there would be quorum, or none, whatever those that no probe has decided turn out to be.
    pub(super) is_certain: bool,
}

/// The rules of a virtual service that had quorum or not.
pub(super) fn rule(
    health: &ServiceHealth,
    members: impl Iterator<Item = Member>,
    had_quorum: bool,
) -> Ruling {
    let sums = Sums::of(members);
    let bounds = Bounds::new(health, sums.configured);
    let has_live_quorum = bounds.is_held(sums.live, had_quorum);
    let wants_open = sums.not_refuted < sums.candidates.min(u64::from(health.min_healthy));
    // A sorry server that serves is better than real servers that do not.
    let fails_open = wants_open && (has_live_quorum || !sums.has_live_sorry);
    let has_quorum = if fails_open { bounds.is_held(sums.all, had_quorum) } else { has_live_quorum };
    Ruling {
        has_quorum,
        fails_open,
        uses_sorry: !has_quorum && sums.has_live_sorry,
        is_certain: sums.assumed == 0
            || bounds.is_held(if has_quorum { sums.proven } else { sums.hoped }, had_quorum) == has_quorum,
    }
}

/// Of the real servers that are no sorry servers and that count.
#[derive(Default)]
struct Sums {
    candidates: u64,
    not_refuted: u64,
    /// The configured weights.
    configured: u64,
    /// Those that no probe has decided.
    assumed: u64,
    /// The weights of all, of those that are up, of those of these that are not only assumed to be, and of those that are up
    /// or not found down.
    all: u64,
    live: u64,
    proven: u64,
    hoped: u64,
    has_live_sorry: bool,
}

impl Sums {
    fn of(members: impl Iterator<Item = Member>) -> Sums {
        let mut sums = Sums::default();
        for member in members.filter(Member::is_candidate) {
            let weight = member.weight();
            if member.is_sorry {
                sums.has_live_sorry |= member.is_up && weight > 0;
                continue;
            }
            sums.candidates += 1;
            sums.configured += u64::from(member.weight);
            sums.all += weight;
            sums.not_refuted += u64::from(!member.is_refuted);
            sums.assumed += u64::from(member.is_assumed);
            sums.live += if member.is_up { weight } else { 0 };
            sums.proven += if member.is_up && !member.is_assumed { weight } else { 0 };
            sums.hoped += if member.is_up || !member.is_refuted { weight } else { 0 };
        }
        sums
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

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Member = Member {
        weight: 1,
        check_weight: None,
        is_sorry: false,
        is_enabled: true,
        is_up: true,
        is_refuted: false,
        is_assumed: false,
    };
    const DOWN: Member = Member { is_up: false, is_refuted: true, ..UP };
    /// Down by a signal.
    const SIGNAL: Member = Member { is_refuted: false, ..DOWN };
    /// Before the first probe.
    const HOPED: Member = Member { is_assumed: true, ..SIGNAL };
    const ASSUMED: Member = Member { is_assumed: true, ..UP };
    const SORRY: Member = Member { is_sorry: true, ..UP };

    /// A name; quorum, hysteresis and `min_healthy`; the members; whether there was quorum; the letters of [`ruled`].
    type Row<'a> = (&'a str, (u32, u32, u32), &'a [Member], bool, &'a str);

    /// Quorum, fail-open, sorry servers, uncertain: a letter each if so.
    fn ruled(health: (u32, u32, u32), members: &[Member], had_quorum: bool) -> String {
        let (quorum, hysteresis, min_healthy) = health;
        let health = ServiceHealth { quorum, hysteresis, min_healthy, ..ServiceHealth::default() };
        let ruling = rule(&health, members.iter().copied(), had_quorum);
        let letters = [
            (ruling.has_quorum, 'q'),
            (ruling.fails_open, 'o'),
            (ruling.uses_sorry, 's'),
            (!ruling.is_certain, '?'),
        ];
        letters.into_iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect()
    }

    #[test]
    fn the_rules_follow_from_the_members() {
        let heavy = Member { weight: 100, ..UP };
        let disabled = Member { is_enabled: false, ..UP };
        let quiesced = Member { weight: 0, ..UP };
        let drained = Member { check_weight: Some(0), ..UP };
        let rows: [Row; 33] = [
            ("one is enough", (0, 0, 0), &[UP, DOWN], true, "q"),
            ("none is not", (0, 0, 0), &[DOWN, DOWN], true, ""),
            ("no real server at all", (0, 0, 0), &[], true, ""),
            ("between the bounds it stays", (2, 1, 0), &[UP, DOWN, DOWN], true, "q"),
            ("between the bounds it stays lost", (2, 1, 0), &[UP, UP, DOWN], false, ""),
            ("gained", (2, 1, 0), &[UP, UP, UP, DOWN], false, "q"),
            ("lost below", (3, 1, 0), &[UP, DOWN, DOWN], true, ""),
            ("weights count", (2, 0, 0), &[heavy, DOWN, DOWN], false, "q"),
            ("a quorum above the sum is the sum", (9, 0, 0), &[UP, UP], false, "q"),
            ("and lost below the sum", (9, 0, 0), &[UP, DOWN], true, ""),
            ("a hysteresis of the quorum is one less", (2, 2, 0), &[UP, DOWN, DOWN], true, "q"),
            ("it is gained with all", (3, 2, 0), &[UP, UP, UP], false, "q"),
            ("down by a signal", (2, 0, 0), &[UP, SIGNAL], true, ""),
            ("who was never probed may be up", (2, 0, 0), &[UP, HOPED], true, "?"),
            ("too few even then", (3, 0, 0), &[UP, HOPED, DOWN], true, ""),
            ("whom a signal takes down may be up, too", (2, 0, 0), &[SIGNAL, HOPED], true, "?"),
            ("who was never probed may be down", (2, 0, 0), &[UP, ASSUMED], true, "q?"),
            ("enough without it", (1, 0, 0), &[UP, ASSUMED], true, "q"),
            ("enough without it, within the hysteresis", (2, 1, 0), &[UP, ASSUMED], true, "q"),
            (
                "a disabled one is not waited for",
                (1, 0, 0),
                &[UP, Member { is_enabled: false, ..ASSUMED }],
                true,
                "q",
            ),
            ("nor is a sorry server", (1, 0, 0), &[DOWN, Member { is_sorry: true, ..HOPED }], true, ""),
            (
                "fail-open is uncertain until all are decided",
                (0, 0, 3),
                &[DOWN, ASSUMED, ASSUMED, ASSUMED],
                true,
                "q?",
            ),
            ("and certain then", (0, 0, 2), &[DOWN, DOWN], true, "qo"),
            ("disabled and quiesced ones do not count", (1, 0, 0), &[disabled, quiesced], true, ""),
            ("a check may request weight 0", (1, 0, 0), &[drained], true, ""),
            ("fail-open", (0, 0, 2), &[UP, DOWN], true, "qo"),
            ("fail-open without one that is up", (0, 0, 1), &[DOWN, DOWN], true, "qo"),
            ("more than there are", (0, 0, 9), &[UP, UP], true, "q"),
            ("a signal does not make it fail open", (0, 0, 2), &[UP, SIGNAL], true, "q"),
            ("a sorry server serves", (0, 0, 0), &[DOWN, SORRY], true, "s"),
            ("a sorry server does not count for quorum", (2, 0, 0), &[UP, DOWN, SORRY], true, "s"),
            ("a sorry server comes before failing open", (0, 0, 1), &[DOWN, SORRY], true, "s"),
            ("no sorry server is up", (0, 0, 0), &[DOWN, Member { is_sorry: true, ..DOWN }], true, ""),
        ];
        for (name, health, members, had_quorum, expected) in rows {
            assert_eq!(ruled(health, members, had_quorum), expected, "{name}");
        }
        for sorry in [Member { weight: 0, ..SORRY }, Member { is_enabled: false, ..SORRY }] {
            assert_eq!(ruled((0, 0, 0), &[DOWN, sorry], true), "", "a sorry server that cannot serve");
        }
    }
}
