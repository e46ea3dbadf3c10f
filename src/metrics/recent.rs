//! When each of a list of counters last grew.

use std::collections::BTreeMap;

use crate::time::Moment;

/// One counter as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown<L> {
    /// The label of the counter.
    pub label: L,
    /// Its count.
    pub count: u64,
    /// When its latest growth was noticed.
    pub at: Moment,
}

/// The counters that have grown, as seen by looking at them again and again.
#[derive(Debug)]
pub struct Recent<L> {
    seen: BTreeMap<L, Grown<L>>,
}

impl<L> Default for Recent<L> {
    fn default() -> Recent<L> {
        Recent { seen: BTreeMap::new() }
    }
}

impl<L: Clone + Ord> Recent<L> {
    /// Looks at the counters; call it every few seconds, and before [`Recent::list`].
    pub fn look(&mut self, counts: impl IntoIterator<Item = (L, u64)>, now: Moment) {
        for (label, count) in counts {
            let known = self.seen.get(&label).map_or(0, |grown| grown.count);
            if count > known {
                self.seen.insert(label.clone(), Grown { label, count, at: now });
            }
        }
    }

    /// Those that have ever grown, the latest first; of two that grew at once the larger one.
    pub fn list(&self) -> Vec<Grown<L>> {
        let mut list: Vec<Grown<L>> = self.seen.values().cloned().collect();
        list.sort_by_key(|grown| std::cmp::Reverse((grown.at, grown.count)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_last_comes_first_and_what_never_grew_is_not_listed() {
        let mut recent = Recent::default();
        recent.look([("a", 1), ("b", 0), ("c", 9)], Moment::from_secs(1));
        recent.look([("a", 1), ("b", 2), ("c", 9)], Moment::from_secs(2));
        let listed = |recent: &Recent<&'static str>| {
            recent
                .list()
                .iter()
                .map(|g| (g.label, g.count, g.at.as_nanos() / 1_000_000_000))
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(&recent), [("b", 2, 2), ("c", 9, 1), ("a", 1, 1)]);
        recent.look([("a", 3)], Moment::from_secs(3));
        assert_eq!(listed(&recent), [("a", 3, 3), ("b", 2, 2), ("c", 9, 1)]);
    }
}
