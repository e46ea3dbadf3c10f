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
    fn a_hook_without_a_list_of_changes_runs_for_all_of_them() {
        let hook = |when: &[When]| Hook {
            when: when.to_vec(),
            command: vec!["/bin/true".to_owned()],
            user: None,
            timeout: Hook::TIMEOUT,
        };
        assert!(When::ALL.iter().all(|when| hook(&[]).waits_for(*when)));
        let of_quorum = hook(&[When::QuorumLost, When::QuorumGained]);
        let expected: Vec<When> =
            When::ALL.iter().copied().filter(|when| of_quorum.waits_for(*when)).collect();
        assert_eq!(expected, [When::QuorumGained, When::QuorumLost]);
    }
}
