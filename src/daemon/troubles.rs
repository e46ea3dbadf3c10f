//! Logs what is wrong with the set-up: once when it begins, and once when it is over.

use std::time::Duration;

use crate::time::Moment;
use crate::trouble::News;

/// Between finding a trouble and reporting it.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(50);

/// One line for each trouble that has begun or ended.
pub(super) fn log(role: &str, news: &News, now: Moment) {
    for found in &news.begun {
        let (kind, subject) = (found.kind.label(), found.subject.as_str());
        tracing::warn!(kind, subject, "{role}: degraded: {}", found.text);
    }
    for trouble in &news.over {
        let (kind, subject) = (trouble.found.kind.label(), trouble.found.subject.as_str());
        let lasted = now.since(trouble.since).as_secs_f64();
        tracing::info!(kind, subject, "{role}: over after {lasted:.1} s: {}", trouble.found.text);
    }
}
