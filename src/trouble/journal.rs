//! Which troubles an operator reads in the log: each once when it begins, and once when it is over.
//!
//! ```text
//!            absent                         absent for the calm
//!  present ─────────▶ gone, not yet over ──────────────────────▶ over ── absent for [`FORGET`] ──▶ forgotten
//!     ▲                     │ present: the same trouble, no line    │ present: a new one, twice the calm
//!     └─────────────────────┴─────────────────────────────────────────┘
//! ```
//! A trouble that comes and goes needs a longer calm each time, so the lines become rare whatever its rhythm.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Trouble, TroubleKind};
use crate::time::Moment;

/// How long a trouble is absent before a line reports its end.
pub const CALM_MIN: Duration = Duration::from_secs(3);

/// The longest such time.
pub const CALM_MAX: Duration = Duration::from_secs(600);

/// How long a trouble that is over is remembered; the next one of this kind and subject is new then.
pub const FORGET: Duration = Duration::from_secs(1_800);

/// Lines of one kind in one judgement; the rest is one line with their number.
pub const LINES_MAX: usize = 8;

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// New.
    Begun(Trouble),
    /// Over after this time.
    Over(Trouble, Duration),
    /// This many more of the kind have begun, too many for lines of their own.
    MoreBegun(TroubleKind, usize),
    /// This many more of the kind are over.
    MoreOver(TroubleKind, usize),
}

/// What was written and when.
#[derive(Debug, Default)]
pub struct Journal {
    /// By kind and subject.
    entries: BTreeMap<(TroubleKind, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    trouble: Trouble,
    /// When it was first seen absent; `None` while it is present.
    gone_at: Option<Moment>,
    is_over: bool,
    calm: Duration,
}

impl Entry {
    fn new(trouble: &Trouble, calm: Duration) -> Entry {
        Entry { trouble: trouble.clone(), gone_at: None, is_over: false, calm }
    }

    fn is_forgotten(&self, now: Moment) -> bool {
        self.is_over && self.gone_at.is_some_and(|at| now.since(at) >= FORGET)
    }
}

impl Journal {
    /// The lines that are due. Call it after every change and once a second.
    pub fn judge(&mut self, present: &[Trouble], now: Moment) -> Vec<Line> {
        let mut lines = Vec::new();
        self.entries.retain(|_, entry| !entry.is_forgotten(now));
        for entry in self.entries.values_mut() {
            entry.gone_at = entry.gone_at.or(Some(now));
        }
        for trouble in present {
            let key = (trouble.found.kind, trouble.found.subject.clone());
            match self.entries.get_mut(&key) {
                Some(entry) if !entry.is_over => {
                    entry.gone_at = None;
                    entry.trouble.found = trouble.found.clone();
                }
                known => {
                    let calm = known.map_or(CALM_MIN, |entry| (2 * entry.calm).min(CALM_MAX));
                    self.entries.insert(key, Entry::new(trouble, calm));
                    lines.push(Line::Begun(trouble.clone()));
                }
            }
        }
        for entry in self.entries.values_mut().filter(|entry| !entry.is_over) {
            let Some(at) = entry.gone_at else { continue };
            if now.since(at) >= entry.calm {
                entry.is_over = true;
                lines.push(Line::Over(entry.trouble.clone(), at.since(entry.trouble.since)));
            }
        }
        shortened(lines)
    }
}

/// At most [`LINES_MAX`] lines of each kind that have begun, and as many that are over.
fn shortened(lines: Vec<Line>) -> Vec<Line> {
    let mut kept = Vec::new();
    let mut counts: BTreeMap<(bool, TroubleKind), usize> = BTreeMap::new();
    for line in lines {
        let key = match &line {
            Line::Begun(trouble) => (false, trouble.found.kind),
            Line::Over(trouble, _) => (true, trouble.found.kind),
            Line::MoreBegun(kind, _) => (false, *kind),
            Line::MoreOver(kind, _) => (true, *kind),
        };
        let count = counts.entry(key).or_default();
        *count += 1;
        if *count <= LINES_MAX {
            kept.push(line);
        }
    }
    let more = counts.into_iter().filter(|(_, count)| *count > LINES_MAX);
    kept.extend(more.map(|((is_over, kind), count)| match is_over {
        false => Line::MoreBegun(kind, count - LINES_MAX),
        true => Line::MoreOver(kind, count - LINES_MAX),
    }));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::{Found, Source};

    fn trouble(subject: &str, since: u64) -> Trouble {
        let found = Found {
            kind: TroubleKind::Unreachable,
            subject: subject.to_owned(),
            text: format!("{subject} is unreachable"),
        };
        Trouble { source: Source::Cluster, found, since: Moment::from_secs(since) }
    }

    /// One judgement a second, of a trouble that is present in the seconds for which `is_present`.
    fn lines(seconds: u64, is_present: impl Fn(u64) -> bool) -> Vec<(u64, Line)> {
        let mut journal = Journal::default();
        let mut since = None;
        let mut found = Vec::new();
        for second in 0..seconds {
            since = is_present(second).then(|| since.unwrap_or(second));
            let present: Vec<Trouble> = since.map(|since| trouble("a", since)).into_iter().collect();
            let lines = journal.judge(&present, Moment::from_secs(second));
            found.extend(lines.into_iter().map(|line| (second, line)));
        }
        found
    }

    #[test]
    fn a_trouble_has_one_line_when_it_begins_and_one_when_it_is_over() {
        let found = lines(1_000, |second| (10..70).contains(&second));
        let over = Line::Over(trouble("a", 10), Duration::from_secs(60));
        assert_eq!(found, [(10, Line::Begun(trouble("a", 10))), (73, over)]);
    }

    #[test]
    fn a_short_absence_does_not_end_a_trouble() {
        let found = lines(1_000, |second| (10..70).contains(&second) && second % 4 != 3);
        let over = Line::Over(trouble("a", 10), Duration::from_secs(60));
        assert_eq!(found.len(), 2, "{found:?}");
        // The last second before 70 in which it was present is 69.
        assert_eq!((found[0].0, found[1].clone()), (10, (73, over)));
    }

    /// A day of coming and going at any rhythm.
    #[test]
    fn a_trouble_that_comes_and_goes_fills_no_log() {
        for period in [2, 5, 8, 20, 60, 300, 1_000] {
            let found = lines(86_400, |second| second % period < period / 2);
            assert!(!found.is_empty() && found.len() <= 180, "{} lines at {period} s", found.len());
        }
        // Each return after an end needs twice the calm.
        let begins: Vec<u64> = lines(400, |second| second % 20 < 10)
            .into_iter()
            .filter_map(|(second, line)| matches!(line, Line::Begun(_)).then_some(second))
            .collect();
        assert_eq!(begins, [0, 20, 40]);
    }

    #[test]
    fn the_calm_has_a_limit_and_a_trouble_long_over_is_new() {
        let mut journal = Journal::default();
        let mut now = Moment::ZERO;
        let mut calms = Vec::new();
        for _ in 0..10 {
            assert_eq!(journal.judge(&[trouble("a", 0)], now).len(), 1);
            let gone = now.after(Duration::from_secs(1));
            now = gone;
            while journal.judge(&[], now).is_empty() {
                now = now.after(Duration::from_secs(1));
            }
            calms.push(now.since(gone).as_secs());
        }
        assert_eq!(calms, [3, 6, 12, 24, 48, 96, 192, 384, 600, 600]);
        let nearly = now.after(FORGET - CALM_MAX - Duration::from_secs(1));
        assert!(journal.judge(&[], nearly).is_empty() && !journal.entries.is_empty());
        assert!(journal.judge(&[], nearly.after(Duration::from_secs(1))).is_empty());
        assert!(journal.entries.is_empty(), "nothing is kept for good");
    }

    #[test]
    fn the_line_about_the_end_has_the_latest_words() {
        let mut journal = Journal::default();
        journal.judge(&[trouble("a", 0)], Moment::ZERO);
        let mut reworded = trouble("a", 0);
        reworded.found.text = "still".to_owned();
        assert!(journal.judge(std::slice::from_ref(&reworded), Moment::from_secs(1)).is_empty());
        journal.judge(&[], Moment::from_secs(2));
        let lines = journal.judge(&[], Moment::from_secs(5));
        assert_eq!(lines, [Line::Over(reworded, Duration::from_secs(2))]);
    }

    #[test]
    fn many_of_a_kind_at_once_are_one_line_more() {
        let many: Vec<Trouble> = (0..LINES_MAX + 3).map(|number| trouble(&number.to_string(), 0)).collect();
        let mut journal = Journal::default();
        let lines = journal.judge(&many, Moment::ZERO);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], Line::MoreBegun(TroubleKind::Unreachable, 3));
        journal.judge(&[], Moment::from_secs(1));
        let lines = journal.judge(&[], Moment::from_secs(4));
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], Line::MoreOver(TroubleKind::Unreachable, 3));
        let mut exact = Journal::default();
        assert_eq!(exact.judge(&many[..LINES_MAX], Moment::ZERO).len(), LINES_MAX);
    }
}
