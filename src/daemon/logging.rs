//! Log lines: one per state change, to standard error; none per packet. A line may be lost, and nothing else happens
//! if standard error is closed, full or stalled.

mod escape;
mod line_writer;

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use line_writer::LineWriter;

/// The fields that a line of text shows in addition to its message. The message of a line names everything else, so only
/// JSON has the other fields.
const TEXT_FIELDS: [&str; 2] = ["by", "generation"];

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `LEVEL message`, for people and for the journal.
    #[default]
    Text,
    /// One JSON object per line, for journald's readers and log shippers.
    Json,
}

/// How long a daemon that ends waits for the reader of its last lines.
const LAST_LINES: Duration = Duration::from_millis(250);

static WRITER: OnceLock<LineWriter> = OnceLock::new();

/// Log lines that could not be written since the start.
pub(super) fn lost() -> u64 {
    WRITER.get().map_or(0, LineWriter::lost)
}

/// Gives the reader of standard error a moment to take the last lines.
pub(super) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.flush_within(LAST_LINES);
    }
}

/// Starts logging. `LVS_TUND_LOG` filters (default `info`); colours are used only on a terminal and without
/// `NO_COLOR`; lines have no timestamps if they go to the journal, which has its own. A second call in the same process
/// has no effect.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LVS_TUND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colours =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let has_colours = has_colours && format == LogFormat::Text && !is_journal();
    let writer = WRITER.get_or_init(|| LineWriter::start(stderr(), has_colours, say_lost));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // It would use `eprintln!`, which panics if standard error is closed.
        .log_internal_errors(false)
        .with_writer(|| writer.clone());
    // Fails only if a subscriber exists already, which then stays.
    let _ = match format {
        LogFormat::Text if is_journal() => {
            lines.fmt_fields(text_fields()).with_ansi(false).without_time().try_init()
        }
        LogFormat::Text => lines.fmt_fields(text_fields()).with_ansi(has_colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

fn say_lost(lost: u64, cause: &str) {
    tracing::warn!("log: {lost} lines have been lost since the start; last cause: {cause}");
}

/// Whether standard error is the journal's stream. systemd.exec(5): JOURNAL_STREAM holds its device and inode.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(stderr()).is_ok_and(|file| is_stream(&stream, file.st_dev, file.st_ino))
}

fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

fn text_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let write = |writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
                 field: &tracing::field::Field,
                 value: &dyn std::fmt::Debug| match field.name() {
        // The first of all fields.
        "message" => write!(writer, "{value:?}"),
        name if TEXT_FIELDS.contains(&name) => write!(writer, " {name}={value:?}"),
        _ => Ok(()),
    };
    debug_fn(write)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn drained() {
        let (virtual_service, real_server) = ("web", "server2");
        tracing::info!(
            by = "drain",
            kind = "drained",
            virtual_service,
            real_server,
            "director: web server2: drained"
        );
    }

    #[test]
    fn fields_other_than_the_cause_and_the_generation_are_in_json_only() {
        let (text, json) = (Lines::default(), Lines::default());
        let lines = |into: &Lines| {
            let into = into.clone();
            tracing_subscriber::fmt().with_target(false).with_writer(move || into.clone())
        };
        let text_lines = lines(&text).fmt_fields(text_fields()).with_ansi(false).without_time().finish();
        tracing::subscriber::with_default(text_lines, drained);
        let json_lines = lines(&json).json().flatten_event(true).finish();
        tracing::subscriber::with_default(json_lines, drained);
        let read = |lines: &Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(read(&text), " INFO director: web server2: drained by=\"drain\"\n");
        let line: serde_json::Value = serde_json::from_str(&read(&json)).unwrap();
        assert_eq!((&line["kind"], &line["virtual_service"]), (&"drained".into(), &"web".into()));
        assert_eq!((&line["real_server"], &line["by"]), (&"server2".into(), &"drain".into()));
    }

    #[test]
    fn only_the_stream_with_this_device_and_inode_is_the_journal() {
        assert!(is_stream("8:4711", 8, 4711));
        for stream in ["", "8:4712", "9:4711", "8", "8:4711:1"] {
            assert!(!is_stream(stream, 8, 4711), "{stream:?}");
        }
    }
}
