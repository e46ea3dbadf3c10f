//! Checks that this host cannot make: they show nothing about their real servers, so that someone has to be notified.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::trouble::{Found, TroubleKind};

/// Reasons that are listed at once.
const REASONS_MAX: usize = 16;

/// A check, and the RIP of its real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Subject {
    pub rip: IpAddr,
    /// Such as "tcp of 172.25.3.2 port 80".
    pub check: String,
}

/// The checks whose last probe could not be made, with the reason.
#[derive(Default)]
pub(super) struct Impossible {
    reasons: HashMap<Subject, String>,
    has_changed: bool,
}

impl Impossible {
    pub(super) fn note(&mut self, subject: Subject, why: &str) {
        if self.reasons.get(&subject).is_none_or(|known| known != why) {
            self.reasons.insert(subject, why.to_owned());
            self.has_changed = true;
        }
    }

    /// A probe has been made.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.has_changed |= !self.reasons.is_empty() && self.reasons.remove(subject).is_some();
    }

    /// Forgets the checks of real servers that no longer exist.
    pub(super) fn keep(&mut self, exists: impl Fn(IpAddr) -> bool) {
        let before = self.reasons.len();
        self.reasons.retain(|subject, _| exists(subject.rip));
        self.has_changed |= self.reasons.len() != before;
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// One trouble for each reason, however many checks have it.
    pub(super) fn found(&self) -> Vec<Found> {
        let mut by_reason: BTreeMap<&str, (usize, &Subject)> = BTreeMap::new();
        for (subject, why) in &self.reasons {
            let (count, first) = by_reason.entry(why).or_insert((0, subject));
            *count += 1;
            *first = subject.min(first);
        }
        let found = |(why, (count, first)): (&str, (usize, &Subject))| {
            let (check, reason) = (&first.check, why.split("; ").next().unwrap_or(why));
            let more = match count {
                1 => String::new(),
                2 => " and 1 more".to_owned(),
                count => format!(" and {} more", count - 1),
            };
            Found {
                kind: TroubleKind::CheckImpossible,
                subject: reason.to_owned(),
                text: format!(
                    "check {check}{more} cannot be made, and its real server keeps its state: {why}"
                ),
            }
        };
        by_reason.into_iter().take(REASONS_MAX).map(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(last: u8) -> Subject {
        Subject { rip: [172, 25, 3, last].into(), check: format!("tcp of 172.25.3.{last} port 80") }
    }

    #[test]
    fn checks_with_one_reason_are_one_trouble_until_a_probe_is_made() {
        let mut impossible = Impossible::default();
        assert_eq!(impossible.found(), []);
        for last in [3, 2] {
            impossible.note(subject(last), "too many open files; raise LimitNOFILE=");
            assert!(impossible.take_changed());
        }
        impossible.note(subject(2), "too many open files; raise LimitNOFILE=");
        assert!(!impossible.take_changed(), "the same reason is no news");
        let found = impossible.found();
        assert_eq!((found.len(), &*found[0].subject), (1, "too many open files"));
        assert_eq!(
            found[0].text,
            "check tcp of 172.25.3.2 port 80 and 1 more cannot be made, and its real server keeps its state: too many open \
             files; raise LimitNOFILE="
        );
        impossible.forget(&subject(2));
        assert!(impossible.take_changed());
        assert!(impossible.found()[0].text.starts_with("check tcp of 172.25.3.3 port 80 cannot be made"));
        impossible.forget(&subject(2));
        assert!(!impossible.take_changed());
        impossible.keep(|_| false);
        assert!(impossible.take_changed());
        assert_eq!(impossible.found(), []);
    }

    #[test]
    fn a_changed_reason_is_news() {
        let mut impossible = Impossible::default();
        impossible.note(subject(2), "a");
        impossible.take_changed();
        impossible.note(subject(2), "b");
        assert!(impossible.take_changed());
        let found = impossible.found();
        assert_eq!((found.len(), &*found[0].subject), (1, "b"));
    }
}
