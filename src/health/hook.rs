//! What is run when health changes something that others should know.

use std::time::Duration;

use super::check::Command;
use crate::label::labels;

labels! {
    /// A change that a hook is run for.
    pub enum When {
        /// A real server has gone down in a virtual service.
        RealServerDown = "real_server_down",
        /// A real server has come up in a virtual service.
        RealServerUp = "real_server_up",
        /// A virtual service has too few live real servers.
        QuorumLost = "quorum_lost",
        /// A virtual service has enough live real servers again.
        QuorumGained = "quorum_gained",
    }
}

/// A program that is run at a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The changes that it is run for; empty: all.
    pub when: Vec<When>,
    /// The program with its arguments, without a shell.
    pub command: Command,
    /// Afterwards it is ended.
    pub timeout: Duration,
}

impl Hook {
    /// The time that a program has by default.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// Whether it is run at this change.
    pub fn is_for(&self, change: When) -> bool {
        self.when.is_empty() || self.when.contains(&change)
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
