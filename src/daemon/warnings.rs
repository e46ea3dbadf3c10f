//! What in a configuration is rarely intended, and what it needs of this host that is not there. `check` prints it, and a
//! director logs it at its start and after a reload.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::health;
use crate::config::advice;
use crate::config::plan::DirectorPlan;

/// One sentence per warning, with what to do. Looks at the files and the programs of checks, and may wait for their host.
pub(crate) fn of_director(plan: &DirectorPlan) -> Vec<String> {
    let mut warnings = advice::director(plan);
    warnings.extend(health::unready(&plan.cluster));
    warnings
}

/// The warnings about the latest configuration.
#[derive(Clone, Default)]
pub(super) struct Warnings {
    logged: Arc<Mutex<HashSet<String>>>,
}

impl Warnings {
    /// Logs the warnings that the configuration before did not have. No one waits for them: a file may be on a host that does
    /// not answer.
    pub(super) fn follow(&self, plan: DirectorPlan) {
        let warnings = self.clone();
        tokio::task::spawn_blocking(move || {
            for text in warnings.new_ones(of_director(&plan)) {
                tracing::warn!(kind = "configuration", "director: {text}");
            }
        });
    }

    /// Those that the configuration before did not have.
    fn new_ones(&self, found: Vec<String>) -> Vec<String> {
        // A poisoned lock is used anyway: the set is whole at every moment.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let new = found.iter().filter(|text| !logged.contains(*text)).cloned().collect();
        *logged = found.into_iter().collect();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_logged_once_until_its_cause_has_been_away() {
        let warnings = Warnings::default();
        let texts = |found: &[&str]| found.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(warnings.new_ones(texts(&["a", "b"])), texts(&["a", "b"]));
        assert_eq!(warnings.new_ones(texts(&["a", "b", "c"])), texts(&["c"]));
        assert_eq!(warnings.new_ones(texts(&["c"])), texts(&[]));
        assert_eq!(warnings.new_ones(texts(&["a", "c"])), texts(&["a"]));
    }
}
