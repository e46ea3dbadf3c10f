//! How many probes may run at once, from what the host gives the process, and what to do when that is too few.

use nix::sys::resource::{Resource, getrlimit};

use crate::health::{Limits, Load};
use crate::serve::http;
use crate::trouble::{Found, TroubleKind};

/// Probes over sockets, if the process may have enough descriptors: ten thousand checks that all time out.
const NETWORK_MAX: usize = 10_000;

/// Probes with a program, if the process may have enough descriptors and processes.
const PROGRAMS_MAX: usize = 256;

/// So many probes may run at once however little there is; one without a descriptor changes no state.
const LIMIT_MIN: usize = 8;

/// A probe with a program has this many descriptors at a time: the two ends of a pipe, a copy of one, and the process.
const DESCRIPTORS_OF_PROGRAM: usize = 4;

/// How many probes may run at once, and what that follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Capacity {
    pub limits: Limits,
    /// Of the process (RLIMIT_NOFILE).
    files: usize,
}

impl Capacity {
    /// Of this process, whose limit of open files has been raised before.
    pub(in crate::daemon) fn of_process() -> Capacity {
        Capacity::new(soft(Resource::RLIMIT_NOFILE), http::descriptors_max(), soft(Resource::RLIMIT_NPROC))
    }

    /// So many of both kinds.
    #[cfg(test)]
    pub(super) fn each(max: usize) -> Capacity {
        Capacity { limits: Limits::each(max), files: 1024 }
    }

    /// `others` is what the rest of the daemon may need.
    fn new(files: usize, others: usize, processes: usize) -> Capacity {
        let left = files.saturating_sub(others).max(files / 8);
        let programs = (left / 4 / DESCRIPTORS_OF_PROGRAM).min(processes / 4).clamp(LIMIT_MIN, PROGRAMS_MAX);
        let network = left.saturating_sub(programs * DESCRIPTORS_OF_PROGRAM).clamp(LIMIT_MIN, NETWORK_MAX);
        Capacity { limits: Limits { network, programs }, files }
    }

    /// The troubles of checks that are late.
    pub(super) fn found(&self, load: &Load) -> Vec<Found> {
        let network = load.network.late.map(|most| {
            let remedy = match load.network.max < NETWORK_MAX {
                true => format!("raise LimitNOFILE= of the unit ({} now), or check less often", self.files),
                false => "check less often, or set a shorter timeout".to_owned(),
            };
            found("network", "without a program", load.network.max, most, &remedy)
        });
        let programs = load.programs.late.map(|most| {
            let remedy = "check less often, or set a shorter timeout for checks of type exec";
            found("program", "with a program", load.programs.max, most, remedy)
        });
        network.into_iter().chain(programs).collect()
    }
}

fn found(subject: &str, which: &str, max: usize, most: std::time::Duration, remedy: &str) -> Found {
    let seconds = most.as_secs();
    Found {
        kind: TroubleKind::ChecksLate,
        subject: subject.to_owned(),
        text: format!(
            "checks {which} are late by up to {seconds}s, more than their interval, because at most {max} of their probes run \
             at once; {remedy}"
        ),
    }
}

/// A limit that cannot be read is the usual one of open files.
fn soft(resource: Resource) -> usize {
    getrlimit(resource).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::load::LineLoad;

    #[test]
    fn probes_may_have_the_descriptors_that_nothing_else_needs() {
        let limits = |files, others, processes| {
            let Limits { network, programs } = Capacity::new(files, others, processes).limits;
            (network, programs)
        };
        assert_eq!(limits(524_288, 832, usize::MAX), (10_000, 256));
        assert_eq!(limits(4096, 832, usize::MAX), (2_448, 204));
        assert_eq!(limits(1024, 832, usize::MAX), (144, 12));
        assert_eq!(limits(524_288, 832, 400), (10_000, 100), "few processes");
        assert_eq!(limits(800, 832, usize::MAX), (68, 8), "an eighth of all at least");
        assert_eq!(limits(3, 832, 0), (8, 8));
    }

    #[test]
    fn late_checks_are_a_trouble_whose_remedy_is_what_limits_them() {
        let capacity = Capacity::new(4096, 832, usize::MAX);
        let late = |max| LineLoad { max, late: Some(Duration::from_millis(12_700)), ..LineLoad::default() };
        let text = |load: Load| capacity.found(&load).pop().map(|found| found.text);
        assert_eq!(text(Load::default()), None);
        assert_eq!(
            text(Load { network: late(2_452), ..Load::default() }).as_deref(),
            Some(
                "checks without a program are late by up to 12s, more than their interval, because at most 2452 of their \
                 probes run at once; raise LimitNOFILE= of the unit (4096 now), or check less often"
            )
        );
        let all = text(Load { network: late(NETWORK_MAX), ..Load::default() });
        assert!(all.is_some_and(|text| text.ends_with("; check less often, or set a shorter timeout")));
        let both = capacity.found(&Load { network: late(9), programs: late(9) });
        assert_eq!(both.iter().map(|found| &*found.subject).collect::<Vec<_>>(), ["network", "program"]);
        assert!(both[1].text.starts_with("checks with a program are late") && both[1].text.contains("exec"));
    }
}
