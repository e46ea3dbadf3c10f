//! What a change of health causes outside: a program of the operator's.

use std::time::Duration;

use crate::label::labels;

labels! {
    /// A change that a hook may wait for; the label is the word in `on_change = [{ when = "…" }]`.
    pub enum When {
        /// A real server of a virtual service has come up.
        RealServerUp = "real_server_up",
        /// A real server of a virtual service has gone down.
        RealServerDown = "real_server_down",
        /// A virtual service has enough live real servers.
        QuorumGained = "quorum_gained",
        /// A virtual service has too few live real servers.
        QuorumLost = "quorum_lost",
    }
}

/// A program that runs at a change: an entry of `on_change`. It gets no shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The changes that it runs for; empty: all.
    pub when: Vec<When>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The user that it runs as; `None`: the daemon's.
    pub user: Option<String>,
    /// After this time it is ended.
    pub timeout: Duration,
}

impl Hook {
    /// The timeout by default.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// Whether it runs for this change.
    pub fn waits_for(&self, when: When) -> bool {
        self.when.is_empty() || self.when.contains(&when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_run_for_the_changes_that_it_names_and_for_all_if_it_names_none() {
        let command = Command { arguments: vec!["/bin/true".to_owned()], user: None, group: None };
        let all = Hook { when: Vec::new(), command, timeout: Hook::TIMEOUT };
        let down = Hook { when: vec![When::RealServerDown, When::QuorumLost], ..all.clone() };
        let run_for =
            |hook: &Hook| When::ALL.iter().copied().filter(|when| hook.is_for(*when)).collect::<Vec<_>>();
        assert_eq!(run_for(&all), When::ALL);
        assert_eq!(run_for(&down), [When::RealServerDown, When::QuorumLost]);
    }
}
