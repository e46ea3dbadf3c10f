//! The metrics of the daemon's own process.

use super::logging;
use crate::metrics::exposition;

/// What the exposition shows of the process.
pub(super) fn of_process(role: &'static str, host_changes: usize) -> exposition::Process {
    exposition::Process { role, host_changes, log_lines_lost: logging::lost(), publish_own: publish }
}

/// Publishes the standard `process_*` metrics to the recorder in scope.
fn publish() {
    let collector = metrics_process::Collector::default();
    collector.describe();
    collector.collect();
}
