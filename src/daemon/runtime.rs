//! The runtime of a daemon: for everything except packets.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use crate::failure::Failure;

/// Set by the lab for its child processes: they end when the lab ends, in whatever way.
const EXIT_WITH_PARENT: &str = "LVS_TUND_EXIT_WITH_PARENT";

/// Threads of tokio: control traffic only.
const CONTROL_THREADS: usize = 2;

/// A runtime for a daemon.
pub(super) fn build() -> Result<Runtime, Failure> {
    if std::env::var_os(EXIT_WITH_PARENT).is_some() {
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|error| Failure::Failed(format!("cannot set the parent-death signal: {error}")))?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("lvs-tund-control")
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))
}
