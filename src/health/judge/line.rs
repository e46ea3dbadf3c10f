//! Probes of one kind: those that wait and the places of those that run.
//!
//! ```text
//!  places  0 ─────────── 1/2 ─────────── 3/4 ─────────── all
//!  down    ██████████████
//!  open    ██████████████████████████████
//!  up      ██████████████████████████████████████████████
//! ```
//! A real server that is down for certain may be silent, and then its probe keeps its place until the timeout. However
//! many of those there are, they leave places for the others. Among the probes that find a place, the one that has
//! waited longest comes first, so that none waits forever.

use std::collections::BTreeSet;

use super::class::Class;
use super::lateness::Lateness;
use super::shared::CheckId;
use crate::health::load::LineLoad;
use crate::time::Moment;

/// The probes of one kind.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// By class, those that wait.
    waiting: [BTreeSet<(Moment, CheckId)>; 3],
    /// By class, how many run.
    running: [usize; 3],
    /// As given last; `None`: no limit has been given.
    max: Option<usize>,
    pub(super) lateness: Lateness,
}

impl Line {
    pub(super) fn insert(&mut self, class: Class, due: Moment, id: CheckId) {
        self.waiting[class as usize].insert((due, id));
    }

    pub(super) fn remove(&mut self, class: Class, due: Moment, id: CheckId) {
        self.waiting[class as usize].remove(&(due, id));
    }

    pub(super) fn retain(&mut self, exists: impl Fn(CheckId) -> bool) {
        self.waiting.iter_mut().for_each(|waiting| waiting.retain(|(_, id)| exists(*id)));
    }

    pub(super) fn limit(&mut self, max: usize) {
        self.max = Some(max);
    }

    /// When the next probe that finds a place is due.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.first().map(|(_, due, _)| due)
    }

    /// Takes the check whose probe begins now, if one is due and finds a place: its class, and since when it is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<(CheckId, Class, Moment)> {
        let (class, due, id) = self.first().filter(|(_, due, _)| *due <= now)?;
        self.remove(class, due, id);
        self.running[class as usize] += 1;
        Some((id, class, due))
    }

    /// A probe of this class runs no more.
    pub(super) fn release(&mut self, class: Class) {
        self.running[class as usize] -= 1;
    }

    /// What is due by now, whether it finds a place or not.
    pub(super) fn overdue(&self, now: Moment) -> impl Iterator<Item = (Moment, CheckId)> {
        self.waiting
            .iter()
            .flat_map(move |waiting| waiting.iter().take_while(move |(due, _)| *due <= now))
            .copied()
    }

    /// As published.
    pub(super) fn load(&self, now: Moment) -> LineLoad {
        LineLoad {
            running: self.running.iter().sum(),
            max: self.max.unwrap_or_default(),
            delays: self.lateness.delays().clone(),
            late: self.lateness.lasting(now),
        }
    }

    /// Of the probes that find a place, the one that is due first.
    fn first(&self) -> Option<(Class, Moment, CheckId)> {
        let open = Class::ALL.into_iter().take_while(|class| self.has_place(*class));
        let firsts =
            open.filter_map(|class| self.waiting[class as usize].first().map(|(due, id)| (class, *due, *id)));
        firsts.min_by_key(|(_, due, id)| (*due, *id))
    }

    fn has_place(&self, class: Class) -> bool {
        let running: usize = self.running[class as usize..].iter().sum();
        self.max.is_none_or(|max| running < class.ceiling(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_secs(100);

    /// Eight places, and as many waiting probes of each class, those of `Down` due first.
    fn crowd() -> Line {
        let mut line = Line::default();
        line.limit(8);
        for number in 0..20 {
            for (order, class) in [Class::Down, Class::Open, Class::Up].into_iter().enumerate() {
                line.insert(
                    class,
                    Moment::from_millis(order as u64 * 1000 + number),
                    CheckId(number * 3 + order as u64),
                );
            }
        }
        line
    }

    fn take_all(line: &mut Line) -> Vec<Class> {
        std::iter::from_fn(|| line.take_due(NOW)).map(|(_, class, _)| class).collect()
    }

    #[test]
    fn probes_of_one_class_leave_places_for_the_classes_before() {
        let mut line = crowd();
        let expected = [[Class::Down; 4].as_slice(), &[Class::Open; 2], &[Class::Up; 2]].concat();
        assert_eq!(take_all(&mut line), expected);
        assert_eq!((line.next_due(), line.load(NOW).running), (None, 8));
        for class in Class::ALL {
            line.release(class);
            assert_eq!(take_all(&mut line), [class], "the place of one that has ended");
        }
    }

    #[test]
    fn probes_of_a_class_may_have_the_places_that_the_classes_behind_do_not_need() {
        let mut line = Line::default();
        line.limit(8);
        for number in 0..20 {
            line.insert(Class::Up, Moment::ZERO, CheckId(number));
        }
        assert_eq!(take_all(&mut line), [Class::Up; 8]);
        line.insert(Class::Down, Moment::ZERO, CheckId(99));
        assert_eq!(take_all(&mut line), []);
        line.release(Class::Up);
        line.insert(Class::Down, Moment::ZERO, CheckId(0));
        assert_eq!(take_all(&mut line), [Class::Down], "oldest first, whatever the class");
    }

    #[test]
    fn places_are_shared_in_quarters_and_one_place_is_for_all() {
        let ceilings = |places| Class::ALL.map(|class| class.ceiling(places));
        assert_eq!(ceilings(1000), [1000, 750, 500]);
        assert_eq!([ceilings(1), ceilings(2), ceilings(4)], [[1, 1, 1], [2, 2, 1], [4, 3, 2]]);
    }

    #[test]
    fn the_probe_that_is_due_first_is_taken_when_it_is_due() {
        let mut line = Line::default();
        line.insert(Class::Up, Moment::from_secs(7), CheckId(1));
        line.insert(Class::Open, Moment::from_secs(5), CheckId(2));
        assert_eq!(line.next_due(), Some(Moment::from_secs(5)));
        assert_eq!(line.take_due(Moment::from_secs(4)), None);
        let taken = line.take_due(Moment::from_secs(6));
        assert_eq!(taken, Some((CheckId(2), Class::Open, Moment::from_secs(5))));
        assert_eq!(line.overdue(Moment::from_secs(6)).count(), 0);
        assert_eq!(
            line.overdue(Moment::from_secs(7)).collect::<Vec<_>>(),
            [(Moment::from_secs(7), CheckId(1))]
        );
        line.retain(|id| id != CheckId(1));
        assert_eq!(line.next_due(), None);
    }
}
