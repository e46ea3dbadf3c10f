//! Log lines: one per state change, to standard error; none per packet.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Starts logging. `LVS_TUND_LOG` filters (default `info`); colours only on a terminal and without
/// `NO_COLOR`. A second call in one process changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("LVS_TUND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colours =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Fails only if a subscriber is there already, which then keeps its place.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(has_colours)
        .with_writer(stderr)
        .try_init();
}
