//! The runtime of a daemon: for everything except packets.

use std::future::Future;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use super::{logging, privileges};
use crate::failure::Failure;
use crate::serve::http;

/// Set by the lab for its child processes: they end when the lab ends, in whatever way.
const EXIT_WITH_PARENT: &str = "LVS_TUND_EXIT_WITH_PARENT";

/// Threads of tokio: control traffic only.
const CONTROL_THREADS: usize = 2;

/// Runs a daemon to its end. A thread that still waits then, such as for a file that never ends, is abandoned.
pub(super) fn run(daemon: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    http::raise_limit();
    let runtime = build()?;
    let outcome = runtime.block_on(daemon);
    runtime.shutdown_background();
    logging::finish();
    outcome
}

/// A runtime for a daemon, and for a check of its host.
pub(super) fn build() -> Result<Runtime, Failure> {
    if std::env::var_os(EXIT_WITH_PARENT).is_some() {
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|error| Failure::Failed(format!("cannot set the parent-death signal: {error}")))?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("lvs-tund-control")
        .on_thread_start(privileges::reduce)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))
}
