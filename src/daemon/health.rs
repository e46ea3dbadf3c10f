//! Health checks as far as they have a clock and sockets: runs the probes that the judge finds due, and the programs of
//! `on_change`.

mod direct;
mod driver;
mod echoes;
mod failure;
mod hooks;
mod impossible;
mod probe;
mod program;
mod sockets;
mod tls;
mod tunnel;
mod unready;
mod wanted;

use nix::sys::resource::{Resource, getrlimit};

pub(super) use self::driver::{Ask, Driver, Ends, News, asks};
pub(super) use self::hooks::Hooks;
pub(super) use self::probe::Tools;
pub(super) use self::program::Starter;
pub(super) use self::tunnel::AllSockets;
pub(super) use self::unready::unready;
pub(super) use self::wanted::Wanted;

/// Probes that run at once, if the process may have enough descriptors.
const RUNNING_MAX: usize = 256;

/// A probe that runs a program has this many descriptors at a time; a quarter of all is left to probes.
const DESCRIPTORS_OF_PROBE: u64 = 4;

/// How many probes may run at once, so that descriptors are left for everything else.
pub(super) fn running_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit / 4 / DESCRIPTORS_OF_PROBE).unwrap_or(RUNNING_MAX).clamp(1, RUNNING_MAX)
}
