//! The metrics of the daemon's own process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::logging;
use crate::metrics::exposition;
use crate::metrics::losses::Losses;

/// What the exposition shows of the process.
pub(super) fn of_process(
    role: &'static str,
    host_changes: usize,
    losses: &Arc<Losses>,
) -> exposition::Process {
    let log_lines_lost = logging::lost();
    let vip_claims = BTreeMap::new();
    let losses = losses.clone();
    exposition::Process { role, host_changes, losses, log_lines_lost, vip_claims, publish_own: publish }
}

/// Publishes the standard `process_*` metrics to the recorder in scope.
fn publish() {
    let collector = metrics_process::Collector::default();
    collector.describe();
    collector.collect();
}
