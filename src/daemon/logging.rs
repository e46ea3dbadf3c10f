//! Log lines: one per state change, to standard error; none per packet.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object per line, for journald's readers and log shippers.
    Json,
}

/// Starts logging. `LVS_TUND_LOG` filters (default `info`); colours are used only on a terminal and without
/// `NO_COLOR`. A second call in the same process has no effect.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LVS_TUND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colours =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(stderr);
    // Fails only if a subscriber exists already, which then stays.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(has_colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
