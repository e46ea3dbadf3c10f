//! How many probes may run at once, how many do, and whether they begin in time.

use std::time::Duration;

use super::durations::Durations;

/// The most probes that run at once. Those that run programs have places of their own: a program costs a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Over sockets.
    pub network: usize,
    /// With a program.
    pub programs: usize,
}

impl Limits {
    /// The same for both.
    pub fn each(max: usize) -> Limits {
        Limits { network: max, programs: max }
    }
}

/// The probes of all checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Over sockets.
    pub network: LineLoad,
    /// With a program.
    pub programs: LineLoad,
}

impl Load {
    /// Both with the label of the metrics.
    pub fn by_label(&self) -> [(&'static str, &LineLoad); 2] {
        [("network", &self.network), ("program", &self.programs)]
    }
}

/// The probes of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineLoad {
    /// Probes that run.
    pub running: usize,
    /// The most that run at once.
    pub max: usize,
    /// How late they began.
    pub delays: Durations,
    /// While probes have been late by more than their interval for some time: the most by which one was.
    pub late: Option<Duration>,
}
