//! What is run when health changes something that others should know.

use std::net::IpAddr;
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

labels! {
    /// Why a state is reported to a hook.
    pub enum Cause {
        /// It is the first state that is known: after the director's start, or after the virtual service or the real server was
        /// added.
        Start = "start",
        /// It has just become that.
        Change = "change",
        /// It became that while it flapped, when single changes were not reported.
        Reminder = "reminder",
        /// The director stops: nothing of it is served here any more.
        Stop = "stop",
    }
}

impl When {
    /// Whether it is a state in which clients are served.
    pub fn is_good(self) -> bool {
        matches!(self, When::RealServerUp | When::QuorumGained)
    }
}

/// A program that is run at a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The changes that it is run for; empty: all.
    pub when: Vec<When>,
    /// The name of the virtual service whose changes it is run for; `None`: all.
    pub virtual_service: Option<String>,
    /// The RIP of the real server whose changes it is run for; `None`: all, and changes of the virtual service.
    pub real_server: Option<IpAddr>,
    /// The program with its arguments, without a shell.
    pub command: Command,
    /// Afterwards it is ended.
    pub timeout: Duration,
    /// Whether it is run for the end of the director, too: as if everything that is up went down.
    pub at_stop: bool,
}

impl Hook {
    /// The time that a program has by default.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// Whether it is run at this change of a virtual service, or of a real server in it.
    pub fn is_for(&self, change: When, virtual_service: &str, real_server: Option<IpAddr>) -> bool {
        (self.when.is_empty() || self.when.contains(&change))
            && self.virtual_service.as_ref().is_none_or(|name| name == virtual_service)
            && (self.real_server.is_none() || self.real_server == real_server)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const RIP: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 25, 3, 2));

    fn all() -> Hook {
        let command = Command { arguments: vec!["/bin/true".to_owned()], user: None, group: None };
        Hook {
            when: Vec::new(),
            virtual_service: None,
            real_server: None,
            command,
            timeout: Hook::TIMEOUT,
            at_stop: false,
        }
    }

    #[test]
    fn a_hook_is_run_for_the_changes_that_it_names_and_for_all_if_it_names_none() {
        let down = Hook { when: vec![When::RealServerDown, When::QuorumLost], ..all() };
        let is_for = |hook: &Hook| {
            let changes = When::ALL.iter().copied();
            changes.filter(|when| hook.is_for(*when, "web", Some(RIP))).collect::<Vec<_>>()
        };
        assert_eq!(is_for(&all()), When::ALL);
        assert_eq!(is_for(&down), [When::RealServerDown, When::QuorumLost]);
    }

    #[test]
    fn a_hook_of_one_virtual_service_or_real_server_is_not_run_for_others() {
        let of_service = Hook { virtual_service: Some("web".to_owned()), ..all() };
        let of_server = Hook { real_server: Some(RIP), ..all() };
        let other = Some(IpAddr::from([172, 25, 3, 3]));
        for (service, server, expected) in [
            ("web", Some(RIP), [true, true]),
            ("web", other, [true, false]),
            ("web", None, [true, false]),
            ("api", Some(RIP), [false, true]),
        ] {
            let found =
                [&of_service, &of_server].map(|hook| hook.is_for(When::RealServerUp, service, server));
            assert_eq!(found, expected, "{service} {server:?}");
        }
    }
}
