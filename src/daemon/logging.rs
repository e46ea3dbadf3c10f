//! Log lines: one per state change, to standard error; none per packet.

use std::io::{IsTerminal, stderr};

use nix::sys::stat::fstat;
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
/// `NO_COLOR`; lines have no timestamps if they go to the journal, which has its own. A second call in the same process
/// has no effect.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LVS_TUND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colours =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(stderr);
    // Fails only if a subscriber exists already, which then stays.
    let _ = match format {
        LogFormat::Text if is_journal() => lines.with_ansi(false).without_time().try_init(),
        LogFormat::Text => lines.with_ansi(has_colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Whether standard error is the journal's stream. systemd.exec(5): JOURNAL_STREAM holds its device and inode.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(stderr()).is_ok_and(|file| is_stream(&stream, file.st_dev, file.st_ino))
}

fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

#[test]
fn only_the_stream_with_this_device_and_inode_is_the_journal() {
    assert!(is_stream("8:4711", 8, 4711));
    for stream in ["", "8:4712", "9:4711", "8", "8:4711:1"] {
        assert!(!is_stream(stream, 8, 4711), "{stream:?}");
    }
}
